//! Children of PID 1: our own and the orphans that become ours.
//!
//! A process started by `kubectl exec` leaves its children to PID 1, so every
//! SIGCHLD reaps all that have ended, and those somebody waits for are told.

use std::collections::HashMap;
use std::io;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a child ended, in words: `exit code 1`, `signal 9`.
pub(crate) type Ending = Result<(), String>;

type Waiting = Arc<Mutex<HashMap<i32, oneshot::Sender<Ending>>>>;

/// Reaps, and knows who waits for whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    waiting: Waiting,
}

impl Children {
    /// Begins to reap; needs a runtime.
    ///
    /// # Errors
    /// When the signal cannot be listened to.
    pub(crate) fn start() -> io::Result<Self> {
        let children = Self::default();
        let mut ended = signal(SignalKind::child())?;
        let reaper = children.clone();
        tokio::spawn(async move {
            while ended.recv().await.is_some() {
                reaper.reap();
            }
        });
        Ok(children)
    }

    /// Tells how this child ends. Call it right after starting the child, before
    /// anything is awaited: reaping happens on this same thread.
    pub(crate) fn wait(&self, child: &Child) -> oneshot::Receiver<Ending> {
        let (sender, receiver) = oneshot::channel();
        if let Ok(pid) = i32::try_from(child.id()) {
            self.lock().insert(pid, sender);
        }
        receiver
    }

    fn reap(&self) {
        while let Ok(Some((pid, status))) = waitpid(None, WaitOptions::NOHANG) {
            if let Some(waiter) = self.lock().remove(&Pid::as_raw(Some(pid))) {
                // Whoever waited may have given up.
                let _ = waiter.send(words(status));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i32, oneshot::Sender<Ending>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn words(status: WaitStatus) -> Ending {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("exit code {code}")),
        (None, Some(signal)) => Err(format!("signal {signal}")),
        (None, None) => Err("an unknown status".to_owned()),
    }
}
