//! Talks to one launcher, for as long as its pod is there.
//!
//! ```text
//!   wait for launcher.sock ──► connect, Watch ──► first state
//!        ▲                                          │ Waiting: network, devices, Sync
//!        │ lost                                     │ else (the handler is new): load what was decided
//!        └──────────────────────────────────────── follow: states out, requests in
//! ```
//! A launcher that ended left its last state in a file; then there is nothing
//! more to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::VirtualMachineInstance;
use api::launcher::{DomainPhase, DomainState, Op, Sync};
use api::names::{LAUNCHER_SOCKET, NONROOT_UID};
use kube::api::Api;
use tokio::sync::{mpsc, oneshot};

use super::{Command, Input, Shared};
use crate::disks;
use crate::launcher::{Answer, Link, last_state, private_dir};
use crate::network;
use crate::podinfo::PodInfo;

/// First and longest wait before a new try.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Between bind(2) and listen(2) of a launcher pass microseconds, on a busy
/// node a time slice or two.
const LISTEN_WAIT: Duration = Duration::from_millis(2);
/// A socket that refuses longer has nobody behind it.
const LISTEN_TRIES: u32 = 25;
/// virt-controller writes into a VMI once more right after it made the pod; read before that,
/// what we have would be old when we write. Containers take longer to make.
const SETTLED: Duration = Duration::from_millis(150);
/// A launcher answers in this time, or it hangs.
const ANSWER: Duration = Duration::from_secs(60);
/// Devices that a launcher opens.
const DEVICES: [&str; 3] = ["dev/kvm", "dev/net/tun", "dev/vhost-net"];

/// Why a round with the launcher ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// The connection.
    #[error("the connection to the launcher: {0}")]
    Connection(#[from] io::Error),
    /// The guest could not be prepared; the user is told.
    #[error("{0}")]
    Prepare(String),
}

/// One launcher's courier.
pub(super) struct Courier {
    shared: Arc<Shared>,
    pod: PodInfo,
    inputs: mpsc::UnboundedSender<Input>,
    directory: PathBuf,
    /// Only until the guest was started: the keeper has its own.
    vmi: Option<Box<VirtualMachineInstance>>,
    /// The keeper was given the VMI.
    told: bool,
}

impl Courier {
    pub(super) fn new(
        shared: Arc<Shared>,
        pod: PodInfo,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> Self {
        let directory = shared.pods_dir.join(private_dir(&pod.uid));
        Self {
            shared,
            pod,
            inputs,
            directory,
            vmi: None,
            told: false,
        }
    }

    /// Runs until the guest has ended, or the pod is gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut wait = WAIT.0;
        loop {
            let begin = Instant::now();
            let ended = self.round(&mut commands).await.err();
            if begin.elapsed() > WAIT.1 {
                wait = WAIT.0;
            }
            if let Some(state) = last_state(&self.directory).filter(|state| state.phase.is_final())
            {
                self.tell(Input::State(Box::new(state)));
                if !self.told {
                    // The handler was away when the guest ended: the keeper still needs the VMI.
                    if let Err(error) = self.fetch().await {
                        tracing::warn!(pod = self.pod.name, "reading the VMI: {error}");
                    }
                }
                return refuse(commands).await;
            }
            match ended {
                Some(Ended::Prepare(error)) => {
                    tracing::warn!(
                        pod = self.pod.name,
                        namespace = self.pod.namespace,
                        "preparing the guest: {error}"
                    );
                    self.tell(Input::SyncError(Some(error)));
                }
                Some(Ended::Connection(error)) => {
                    tracing::info!(
                        pod = self.pod.name,
                        namespace = self.pod.namespace,
                        "launcher: {error}"
                    );
                }
                None => wait = WAIT.0,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT.1);
        }
    }

    /// From the wait for the socket to the end of the connection.
    async fn round(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<(), Ended> {
        let relative = private_dir(&self.pod.uid).join(LAUNCHER_SOCKET);
        let shared = Arc::clone(&self.shared);
        // The VMI is read while the containers are made.
        let (appeared, fetched) = futures::join!(
            shared.watcher.wait_for(&shared.pods_dir, &relative),
            async {
                if self.told {
                    Ok(())
                } else {
                    tokio::time::sleep(SETTLED).await;
                    self.fetch().await
                }
            }
        );
        appeared?;
        fetched?;
        let mut link = self.connect().await?;
        let (done, _answer) = oneshot::channel();
        link.send(Op::Watch, done).await?;
        let first = timely(link.state()).await?.ok_or_else(closed)?;
        if first.phase == DomainPhase::Waiting {
            if self.vmi.is_none() {
                self.fetch().await?;
            }
            self.start(&mut link).await?;
        } else {
            self.tell(Input::Networks(network::load(
                &self.shared.networks_dir,
                &self.pod.uid,
            )));
            self.tell(Input::State(Box::new(first)));
        }
        self.vmi = None;
        loop {
            tokio::select! {
                state = link.state() => match state? {
                    Some(state) => {
                        let last = state.phase.is_final();
                        self.tell(Input::State(Box::new(state)));
                        if last {
                            return Ok(());
                        }
                    }
                    None => return Ok(()),
                },
                Some(command) = commands.recv() => link.send(command.op, command.done).await?,
            }
        }
    }

    /// Connects, though the launcher that made the socket may not listen yet:
    /// the file appears with bind(2), an instant before listen(2).
    async fn connect(&self) -> io::Result<Link> {
        for _ in 0..LISTEN_TRIES {
            match Link::connect(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    tokio::time::sleep(LISTEN_WAIT).await;
                }
                outcome => return outcome,
            }
        }
        Link::connect(&self.directory)
    }

    /// Everything a guest needs, then the guest.
    async fn start(&self, link: &mut Link) -> Result<(), Ended> {
        if self.is_over() {
            // Too late: it was deleted, or given up, before its launcher was up.
            let (done, _answer) = oneshot::channel();
            return Ok(link
                .send(
                    Op::Shutdown {
                        grace_seconds: Some(0),
                    },
                    done,
                )
                .await?);
        }
        let sync = self.prepare(link.pid()).await.map_err(Ended::Prepare)?;
        let (done, mut answer) = oneshot::channel();
        link.send(Op::Sync(Box::new(sync)), done).await?;
        // States come while it starts; the reply may come before or after them.
        let reply: Answer = loop {
            tokio::select! {
                biased;
                reply = &mut answer => break reply.map_err(|_| closed())?,
                state = timely(link.state()) => {
                    let state = state?.ok_or_else(closed)?;
                    let running = state.phase != DomainPhase::Waiting;
                    self.tell(Input::State(Box::new(state)));
                    if running {
                        break Ok(());
                    }
                }
            }
        };
        reply.map_err(Ended::Prepare)?;
        self.tell(Input::SyncError(None));
        Ok(())
    }

    /// The VMI wants no guest any more.
    fn is_over(&self) -> bool {
        self.vmi.as_ref().is_some_and(|vmi| {
            let is_final = vmi
                .status
                .as_ref()
                .is_some_and(|status| status.phase.is_final());
            is_final || vmi.metadata.deletion_timestamp.is_some()
        })
    }

    async fn prepare(&self, pid: u32) -> Result<Sync, String> {
        let vmi = self.vmi.as_deref().ok_or("the VMI is not known yet")?;
        let networks = network::join(&self.shared.networks_dir, &self.pod, vmi, pid)
            .await
            .map_err(|error| format!("setting up the network: {error}"))?;
        for device in DEVICES {
            host::devnode::give(pid, Path::new(device), NONROOT_UID, NONROOT_UID)
                .map_err(|error| format!("giving /{device} to the launcher: {error}"))?;
        }
        disks::give(pid, vmi).map_err(|error| format!("giving disks to the launcher: {error}"))?;
        self.tell(Input::Networks(networks.clone()));
        Ok(Sync {
            vmi: vmi.clone(),
            use_emulation: !self.pod.kvm,
            vhost_net: self.pod.vhost_net,
            nics: networks.nics,
            ..Sync::default()
        })
    }

    /// Reads the VMI, once.
    async fn fetch(&mut self) -> io::Result<()> {
        let api: Api<VirtualMachineInstance> =
            Api::namespaced(self.shared.client.clone(), &self.pod.namespace);
        let mut vmi = api
            .get(&self.pod.vmi_name)
            .await
            .map_err(io::Error::other)?;
        if vmi.metadata.uid.as_deref() != Some(self.pod.vmi_uid.as_str()) {
            return Err(io::Error::other(format!(
                "expected VMI {} with UID {}, found another of that name",
                self.pod.vmi_name, self.pod.vmi_uid
            )));
        }
        // Nobody here reads it, and it is longer than the rest.
        vmi.metadata.managed_fields = None;
        self.vmi = Some(Box::new(vmi.clone()));
        self.told = true;
        self.tell(Input::Vmi(Box::new(vmi)));
        Ok(())
    }

    fn tell(&self, input: Input) {
        // The keeper ends only with the pod; then so do we.
        let _ = self.inputs.send(input);
    }
}

async fn timely(
    state: impl Future<Output = io::Result<Option<DomainState>>>,
) -> io::Result<Option<DomainState>> {
    tokio::time::timeout(ANSWER, state)
        .await
        .unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no word within {} s", ANSWER.as_secs()),
            ))
        })
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the launcher")
}

/// The guest is over: requests get no answer, which their senders see at once.
async fn refuse(mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        drop(command);
    }
}
