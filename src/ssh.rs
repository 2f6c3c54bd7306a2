//! SSH to many nodes: connect (through jump hosts too), check the host key, log in,
//! run one command with input, and come back in time whatever the node does.
//!
//! Sessions never block: every step is tried, and where it would block the socket is
//! waited for, at most until the node's deadline or until the user interrupts. One
//! thread with a small stack serves one node, so a dead node holds up nobody else.
//!
//! ```text
//! Target ─▶ connection::open ─▶ host key (known_hosts) ─▶ log in ─▶ exec::run
//!               └─ relay: a channel of the jump host's connection is the socket
//! ```

#[cfg(test)]
#[path = "ssh/tests.rs"]
mod against_sshd;
pub(crate) mod connection;
pub(crate) mod exec;
mod failure;
pub(crate) mod known_hosts;
pub(crate) mod push;
mod relay;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) use failure::Failure;

/// A password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Keeps `text` from being printed.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// One SSH server and how to log in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Name or address, as it is resolved.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// User to log in as.
    pub(crate) user: String,
    /// Private keys, tried in this order.
    pub(crate) keys: Vec<PathBuf>,
    /// Opens those keys that are encrypted.
    pub(crate) passphrase: Option<Secret>,
    /// Also try the keys of the agent that SSH_AUTH_SOCK names.
    pub(crate) agent: bool,
    /// Password, tried last.
    pub(crate) password: Option<Secret>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.port)
    }
}

/// Which host keys are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    /// Files in the format of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". A new key is
    /// written to the first one.
    pub(crate) files: Vec<PathBuf>,
    /// A host that no file knows is believed and remembered. A changed key never is.
    pub(crate) accept_new: bool,
}

/// How root's rights are had on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Become {
    /// Run as the user who logged in.
    No,
    /// `sudo -n`: without a password.
    Sudo,
    /// `sudo -S` with a password, given when sudo asks for it.
    SudoPassword(Secret),
}

/// A node and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Name in reports.
    pub(crate) name: String,
    /// Jump hosts, the first one is connected to directly.
    pub(crate) jumps: Vec<Endpoint>,
    /// The node.
    pub(crate) end: Endpoint,
    /// Host keys.
    pub(crate) trust: Trust,
    /// Rights.
    pub(crate) privilege: Become,
}

/// How long a node may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Until the SSH handshake is over, per server.
    pub(crate) connect: Duration,
    /// In all.
    pub(crate) total: Duration,
}

/// Set once, seen by every thread: the user wants to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks every node's thread to end.
    pub(crate) fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Somebody asked.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Sleeps; `false` at once when somebody asks, or has asked, to end.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(SLICE));
        }
        false
    }
}

/// The moment at which a node's time is over.
#[derive(Clone, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
    cancel: Cancel,
}

/// Longest sleep between two looks at the cancel flag.
const SLICE: Duration = Duration::from_millis(200);

impl Deadline {
    /// `limit` from now.
    pub(crate) fn new(limit: Duration, cancel: &Cancel) -> Self {
        Self {
            at: Instant::now() + limit,
            limit,
            cancel: cancel.clone(),
        }
    }

    /// The earlier of this one and `limit` from now.
    fn at_most(&self, limit: Duration) -> Self {
        let at = Instant::now() + limit;
        if at < self.at {
            Self {
                at,
                limit,
                cancel: self.cancel.clone(),
            }
        } else {
            self.clone()
        }
    }

    /// How long to sleep at most before the next look, or why not to go on.
    fn slice(&self, step: &'static str) -> Result<Duration, Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Timeout {
                step,
                limit: self.limit,
            });
        }
        Ok(left.min(SLICE))
    }

    /// Sleeps, unless the time is over or the user interrupts before that.
    fn sleep(&self, time: Duration, step: &'static str) -> Result<(), Failure> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let slice = self.slice(step)?;
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(slice));
        }
    }

    /// Time left.
    fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Text of a stranger, made harmless for a terminal and short: control characters
/// become spaces, runs of spaces one, and only the first `limit` characters stay.
pub(crate) fn harmless(text: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let mut out = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()) {
        if word.is_empty() {
            continue;
        }
        if count > 0 {
            out.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count >= limit {
                out.push('…');
                return out;
            }
            out.push(c);
            count += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "(secret)");
    }

    #[test]
    fn a_strangers_text_cannot_steer_the_terminal_and_is_short() {
        assert_eq!(harmless(b"\x1b[2Jhi\r\n\tthere\0", 80), "[2Jhi there");
        assert_eq!(harmless(&[b'a'; 100], 3), "aaa…");
    }

    #[test]
    fn a_pause_is_as_long_as_asked_and_ends_with_the_deadline() {
        let cancel = Cancel::default();
        let start = Instant::now();
        let deadline = Deadline::new(Duration::from_secs(9), &cancel);
        assert!(deadline.sleep(SLICE * 2, "x").is_ok());
        assert!(start.elapsed() >= SLICE * 2);
        let deadline = Deadline::new(SLICE, &cancel);
        assert!(matches!(
            deadline.sleep(SLICE * 50, "x"),
            Err(Failure::Timeout { .. })
        ));
    }

    #[test]
    fn a_cancelled_deadline_ends_every_step() {
        let cancel = Cancel::default();
        let deadline = Deadline::new(Duration::from_secs(9), &cancel);
        assert!(deadline.slice("x").is_ok());
        cancel.cancel();
        assert!(matches!(deadline.slice("x"), Err(Failure::Cancelled)));
    }
}
