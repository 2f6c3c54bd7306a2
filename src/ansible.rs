//! Runs `ansible-playbook`: its words go to a log file, its events to us.
//!
//! The callback plugin `edgevirt_events` writes one JSON line for each event into
//! a FIFO that this module reads; that is what drives the progress bar.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::interrupt;

/// How long after a signal Ansible may go on before it is told.
const UNTIL_TOLD: Duration = Duration::from_secs(2);
/// How long after a signal it is ended without being asked.
const UNTIL_KILLED: Duration = Duration::from_secs(15);

/// What a playbook reports while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The playbook began; `tasks` is how many tasks its plays list.
    Start {
        /// Tasks to come, as far as they are known.
        tasks: u64,
    },
    /// A task began.
    Task {
        /// `role : name`.
        name: String,
    },
    /// A task ended on one host.
    Result {
        /// Host of the inventory.
        host: String,
        /// `role : name`.
        task: String,
        /// `ok`, `changed`, `skipped`, `failed` or `unreachable`.
        status: String,
        /// What went wrong, for the last two.
        #[serde(default)]
        message: String,
    },
    /// The playbook ended; counts a host.
    Stats {
        /// Host to its counts.
        hosts: std::collections::BTreeMap<String, Counts>,
    },
}

/// How the tasks of one host ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    /// Nothing to do, or done; includes `changed`.
    pub(crate) ok: u64,
    /// Something was changed.
    pub(crate) changed: u64,
    /// Left out by a condition.
    pub(crate) skipped: u64,
    /// Failed.
    pub(crate) failures: u64,
    /// Could not be reached.
    pub(crate) unreachable: u64,
}

/// One run of one playbook.
#[derive(Debug)]
pub(crate) struct Playbook<'a> {
    /// The playbook.
    pub(crate) path: &'a Path,
    /// The inventory.
    pub(crate) inventory: &'a Path,
    /// Extra variables, as JSON.
    pub(crate) extra_vars: serde_json::Value,
    /// `--check --diff`.
    pub(crate) check: bool,
    /// File that gets everything Ansible prints.
    pub(crate) log: &'a Path,
}

impl Playbook<'_> {
    /// Runs it to its end, giving each event to `on_event`; none when a signal ended it.
    pub(crate) fn run(
        &self,
        mut on_event: impl FnMut(Event),
    ) -> anyhow::Result<Option<ExitStatus>> {
        let program = program()?;
        if let Some(dir) = self.log.parent() {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("cannot make the log directory {}", dir.display()))?;
        }
        let log = File::create(self.log)
            .with_context(|| format!("cannot write the log {}", self.log.display()))?;
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let fifo = dir.path().join("events");
        make_fifo(&fifo)?;
        // Opened for writing too, so that neither side waits for the other to open;
        // the end of the stream is the event `stats` or the end of the child.
        let reader = File::options()
            .read(true)
            .write(true)
            .open(&fifo)
            .context("cannot open the event pipe")?;
        let root = self
            .path
            .parent()
            .and_then(Path::parent)
            .context("the playbook is in no directory")?;
        let mut command = Command::new(program);
        command
            .arg("--inventory")
            .arg(self.inventory)
            .arg("--extra-vars")
            .arg(self.extra_vars.to_string())
            .arg(self.path)
            .env("ANSIBLE_CONFIG", root.join("ansible.cfg"))
            .env("ANSIBLE_CALLBACK_PLUGINS", root.join("plugins/callback"))
            .env("ANSIBLE_CALLBACKS_ENABLED", "edgevirt_events")
            .env("EDGEVIRT_EVENTS", &fifo)
            .env("ANSIBLE_NOCOLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log file")?)
            .stderr(log);
        if self.check {
            command.args(["--check", "--diff"]);
        }
        let interrupt = Interrupt::watch()?;
        let mut child = command.spawn().context("cannot start ansible-playbook")?;
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line)
                    && sender.send(event).is_err()
                {
                    break;
                }
            }
        });
        loop {
            match receiver.recv_timeout(Duration::from_millis(200)) {
                Ok(event) => on_event(event),
                Err(_) => {
                    if let Some(status) = child.try_wait().context("cannot wait for Ansible")? {
                        for event in receiver.try_iter() {
                            on_event(event);
                        }
                        return Ok(interrupt.since().is_none().then_some(status));
                    }
                    if let Some(since) = interrupt.since() {
                        end(&child, since);
                    }
                }
            }
        }
    }
}

/// Ends a playbook that shall not go on. A terminal's Ctrl-C reaches Ansible without us, and it then ends its workers
/// itself; a second signal would keep it from that. So it is told only when it goes on, and killed when that is no use.
fn end(child: &Child, since: Duration) {
    let signal = match since {
        since if since < UNTIL_TOLD => return,
        since if since < UNTIL_KILLED => Signal::INT,
        _ => Signal::KILL,
    };
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        // It may have ended just now.
        let _ = kill_process(pid, signal);
    }
}

/// Notices SIGINT and SIGTERM, which then do not end this program.
struct Interrupt {
    at: Arc<OnceLock<Instant>>,
}

impl Interrupt {
    fn watch() -> anyhow::Result<Self> {
        let at = Arc::new(OnceLock::new());
        let seen = Arc::clone(&at);
        // The first of them counts.
        interrupt::watch(move || {
            let _ = seen.set(Instant::now());
        })?;
        Ok(Self { at })
    }

    /// How long ago the first of them came.
    fn since(&self) -> Option<Duration> {
        self.at.get().map(Instant::elapsed)
    }
}

fn make_fifo(path: &Path) -> anyhow::Result<()> {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .with_context(|| format!("cannot make the event pipe {}", path.display()))
}

/// `.venv/bin/ansible-playbook` of the repository first, then the one on PATH.
fn program() -> anyhow::Result<PathBuf> {
    let own = Path::new(".venv/bin/ansible-playbook");
    if own.exists() {
        return Ok(own.to_owned());
    }
    match which::which("ansible-playbook") {
        Ok(path) => Ok(path),
        Err(_) => bail!(
            "ansible-playbook: expected it in .venv/bin or on PATH, found neither; `make venv` installs it"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn events_are_read_as_the_callback_writes_them() {
        let line =
            r#"{"event":"result","host":"edge1","task":"images : import","status":"changed"}"#;
        assert_eq!(
            serde_json::from_str::<Event>(line).unwrap(),
            Event::Result {
                host: "edge1".into(),
                task: "images : import".into(),
                status: "changed".into(),
                message: String::new(),
            }
        );
    }
}
