//! The one task that owns QEMU: takes from the queue, asks the state machine,
//! and does what it says.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::launcher::{DomainState, Op, Reply, Sync};
use api::names;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::agent::{self, Wish};
use crate::args::Args;
use crate::children::Children;
use crate::prepare::{self, Prepared};
use crate::qmp::{self, Monitor};
use crate::server::{self, Happening, Outgoing, Queue};
use crate::state::{Action, Exit, Guest, Input, Ticket, Timer};
use crate::{container_disk, lines, process};

/// How long the last state may take to reach the handler.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs until the guest is gone; the value is the exit code.
///
/// # Errors
/// When the launcher cannot even listen.
pub(crate) async fn run(args: Args) -> anyhow::Result<u8> {
    // First of all: the handler waits for this socket.
    let socket = args.private_dir.join(names::LAUNCHER_SOCKET);
    let listener =
        server::listen(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    let children = Children::start()?;
    let (queue, mut inbox) = mpsc::unbounded_channel();
    let (states, _) = watch::channel(DomainState::default());
    let (done, mut all_done) = mpsc::channel(1);
    let accepting = tokio::spawn(server::accept(
        listener,
        queue.clone(),
        states.subscribe(),
        done,
    ));
    listen_to_signals(&queue)?;
    tracing::info!(
        "waiting for the handler: {}/{} ({})",
        args.namespace,
        args.name,
        args.uid
    );
    let mut guest = Guest::new(args.grace_period);
    let mut driver = Driver {
        args: Arc::new(args),
        children,
        queue,
        states,
        connections: HashMap::new(),
        timers: HashMap::new(),
        prepared: None,
        qemu: None,
        helpers: Vec::new(),
        held: Vec::new(),
        hurry: watch::channel(false).0,
    };
    let code = loop {
        let inputs = tokio::select! {
            happening = inbox.recv() => match happening {
                Some(Happening::Input(input)) => driver.with_unanswered(input),
                Some(Happening::Monitor(line)) => driver.monitor_line(&line),
                Some(Happening::Connected(id, replies)) => {
                    driver.connections.insert(id, replies);
                    continue;
                }
                Some(Happening::Disconnected(id)) => {
                    driver.connections.remove(&id);
                    continue;
                }
                None => anyhow::bail!("the queue is closed"),
            },
            timer = driver.due() => vec![Input::Deadline(timer)],
        };
        let watcher = inputs.iter().find_map(watcher);
        let mut actions = inputs.into_iter().flat_map(|input| guest.handle(input));
        if let Some(code) = actions.find_map(|action| driver.perform(action)) {
            break code;
        }
        if let Some(replies) = watcher.and_then(|id| driver.connections.get(&id)) {
            let _ = replies.send(Outgoing::Watch);
        }
    };
    // Everything the handler should know is said before the sockets close.
    accepting.abort();
    driver.connections.clear();
    let Driver { states, .. } = driver;
    drop(states);
    let _ = timeout(FAREWELL, all_done.recv()).await;
    Ok(code)
}

/// The connection that wants to see states from now on.
fn watcher(input: &Input) -> Option<u64> {
    match input {
        Input::Request(ticket, Op::Watch) => Some(ticket.connection),
        _ => None,
    }
}

fn listen_to_signals(queue: &Queue) -> anyhow::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let queue = queue.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let _ = queue.send(Happening::Input(Input::Terminate));
            }
        });
    }
    Ok(())
}

/// QEMU while it runs.
struct Qemu {
    pid: Option<Pid>,
    monitor: Monitor,
    lines: mpsc::UnboundedSender<String>,
    agent: mpsc::UnboundedSender<Wish>,
}

struct Driver {
    args: Arc<Args>,
    children: Children,
    queue: Queue,
    states: watch::Sender<DomainState>,
    connections: HashMap<u64, mpsc::UnboundedSender<Outgoing>>,
    timers: HashMap<u8, (Timer, Instant)>,
    prepared: Option<oneshot::Receiver<Prepared>>,
    qemu: Option<Qemu>,
    /// Held until the end: the helpers run as long as these connections.
    helpers: Vec<container_disk::Image>,
    /// Block devices that are this guest's alone until then.
    held: Vec<OwnedFd>,
    /// All containers were started.
    hurry: watch::Sender<bool>,
}

impl Driver {
    /// The next timer that runs out, when it does.
    async fn due(&mut self) -> Timer {
        let next = self.timers.values().min_by_key(|(_, at)| *at).copied();
        match next {
            Some((timer, at)) => {
                sleep_until(at).await;
                self.timers.remove(&(timer as u8));
                timer
            }
            None => std::future::pending().await,
        }
    }

    fn perform(&mut self, action: Action) -> Option<u8> {
        match action {
            Action::Prepare(sync) => self.prepare(sync),
            Action::HurryHelpers => {
                self.hurry.send_replace(true);
            }
            Action::Launch => self.launch(),
            Action::Command(command, ticket) => match &mut self.qemu {
                Some(qemu) => {
                    let line = qemu.monitor.command(command, ticket);
                    let _ = qemu.lines.send(line);
                }
                None => self.input(Input::Done(command, ticket, Err("QEMU is gone".to_owned()))),
            },
            Action::AgentReboot(ticket) => self.agent_reboot(ticket),
            Action::AskAgent => self.wish(Wish::Ask),
            Action::ForgetAgent => self.wish(Wish::Forget),
            Action::Reply(ticket, result) => self.reply(ticket, result),
            Action::Arm(timer, after) => {
                let at = Instant::now() + after;
                let entry = self.timers.entry(timer as u8).or_insert((timer, at));
                entry.1 = entry.1.min(at);
            }
            Action::Disarm(timer) => {
                self.timers.remove(&(timer as u8));
            }
            Action::Kill => self.kill(),
            Action::Publish(state) => {
                tracing::info!("{:?} {}", state.phase, state.message);
                self.states.send_replace(state);
            }
            Action::Exit(code) => {
                if let Err(error) = self.write_state() {
                    tracing::error!("the last state was not written: {error:#}");
                }
                return Some(code);
            }
        }
        None
    }

    fn input(&self, input: Input) {
        let _ = self.queue.send(Happening::Input(input));
    }

    fn prepare(&mut self, sync: Box<Sync>) {
        let (args, children) = (self.args.clone(), self.children.clone());
        let (sender, receiver) = oneshot::channel();
        self.prepared = Some(receiver);
        let (queue, hurry) = (self.queue.clone(), self.hurry.subscribe());
        tokio::spawn(async move {
            let result = match prepare::prepare(&args, &children, sync, hurry).await {
                Ok((prepared, ready)) => {
                    let _ = sender.send(prepared);
                    Ok(ready)
                }
                Err(error) => Err(format!("{error:#}")),
            };
            let _ = queue.send(Happening::Input(Input::Prepared(result)));
        });
    }

    fn launch(&mut self) {
        let prepared = self.prepared.take().and_then(|mut p| p.try_recv().ok());
        let result = match prepared {
            Some(prepared) => self.start(prepared),
            None => Err(anyhow::anyhow!("nothing was prepared")),
        };
        if let Err(error) = result {
            self.input(Input::BringUpFailed(format!("{error:#}")));
        }
    }

    fn start(&mut self, prepared: Prepared) -> anyhow::Result<()> {
        let Prepared {
            mut command,
            monitor: monitor_socket,
            agent: agent_socket,
            setup,
            inherited,
            helpers,
            held,
        } = prepared;
        self.helpers = helpers;
        self.held = held;
        let running = process::start(&mut command, &self.children, true)
            .with_context(|| format!("starting {}", self.args.qemu.display()))?;
        drop(inherited);
        let (agent, wishes) = mpsc::unbounded_channel();
        let (lines, outgoing) = mpsc::unbounded_channel();
        let pid = running.pid;
        self.qemu = Some(Qemu {
            pid: Some(pid),
            monitor: Monitor::new(setup),
            lines,
            agent,
        });
        let queue = self.queue.clone();
        tokio::spawn(agent::run(agent_socket, wishes, move |info| {
            let _ = queue.send(Happening::Input(Input::Agent(info)));
        }));
        let talk = talk(monitor_socket, outgoing, self.queue.clone())?;
        let queue = self.queue.clone();
        tokio::spawn(async move {
            let (ending, stderr) = running.end().await;
            // What the monitor said last counts: read it out before the end is told.
            let _ = timeout(FAREWELL, talk).await;
            let status = ending.err().unwrap_or_else(|| "exit code 0".to_owned());
            let exit = Exit { status, stderr };
            let _ = queue.send(Happening::Input(Input::Exited(exit)));
        });
        Ok(())
    }

    /// Before the end of QEMU come the failures of what it did not answer.
    fn with_unanswered(&mut self, input: Input) -> Vec<Input> {
        let mut inputs = match (&input, &mut self.qemu) {
            (Input::Exited(_), Some(qemu)) => {
                qemu.pid = None;
                qemu.monitor.hang_up()
            }
            _ => Vec::new(),
        };
        inputs.push(input);
        inputs
    }

    /// A line from the monitor: answers go back, meanings are returned.
    fn monitor_line(&mut self, line: &[u8]) -> Vec<Input> {
        let Some(qemu) = &mut self.qemu else {
            return Vec::new();
        };
        let (answers, inputs) = qemu.monitor.receive(line);
        for answer in answers {
            let _ = qemu.lines.send(answer);
        }
        inputs
    }

    fn wish(&mut self, wish: Wish) {
        if let Some(qemu) = &self.qemu {
            let _ = qemu.agent.send(wish);
        }
    }

    fn agent_reboot(&mut self, ticket: Ticket) {
        let (sender, receiver) = oneshot::channel();
        self.wish(Wish::Reboot(sender));
        let Some(replies) = self.connections.get(&ticket.connection).cloned() else {
            return;
        };
        tokio::spawn(async move {
            let result = receiver
                .await
                .unwrap_or_else(|_| Err("the guest agent is gone".to_owned()));
            let _ = replies.send(Outgoing::Reply(Reply {
                id: ticket.request,
                error: result.err(),
            }));
        });
    }

    fn reply(&self, ticket: Ticket, result: Result<(), String>) {
        if let Some(replies) = self.connections.get(&ticket.connection) {
            let _ = replies.send(Outgoing::Reply(Reply {
                id: ticket.request,
                error: result.err(),
            }));
        }
    }

    fn kill(&mut self) {
        match self.qemu.as_ref().and_then(|q| q.pid) {
            Some(pid) => {
                // It may have ended by itself meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
            None => self.input(Input::Exited(Exit {
                status: "no process".to_owned(),
                stderr: String::new(),
            })),
        }
    }

    /// Writes the last state where a handler that missed it finds it, whole or not at all.
    fn write_state(&self) -> anyhow::Result<()> {
        let path = self.args.private_dir.join(names::STATE_FILE);
        let fresh = Path::new(&path).with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(&*self.states.borrow())?)?;
        std::fs::rename(&fresh, &path)?;
        Ok(())
    }
}

/// Carries lines to and from the monitor; the handle ends with the connection.
fn talk(
    socket: StdUnixStream,
    mut outgoing: mpsc::UnboundedReceiver<String>,
    queue: Queue,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    socket.set_nonblocking(true)?;
    let (reader, mut writer) = UnixStream::from_std(socket)?.into_split();
    tokio::spawn(async move {
        while let Some(line) = outgoing.recv().await {
            if writer.write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    Ok(tokio::spawn(listen(reader, queue)))
}

async fn listen(reader: OwnedReadHalf, queue: Queue) {
    let mut reader = BufReader::with_capacity(4096, reader);
    loop {
        match lines::next(&mut reader, qmp::MAX_LINE).await {
            Ok(Some(line)) => {
                let _ = queue.send(Happening::Monitor(line));
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("QEMU's monitor: {error}");
                return;
            }
        }
    }
}
