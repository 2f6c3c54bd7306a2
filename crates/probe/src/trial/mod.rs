//! Does a virtual function really come into being, and can a guest have it?
//!
//! ```text
//!   refused? ──yes──► the reason, nothing touched
//!      │no
//!   create ─► appear ─► bind ─► open ─► attach      each change: journal, fsync, then the change
//!      └────────┴────────┴───────┴────────┴──► undo in reverse ─► journal gone
//! ```
//! Killed at any point, the journal tells the next run what to put back.

mod guard;
mod journal;
mod steps;
mod system;

use std::path::Path;

use hardware::Facts;
use hardware::facts::{Attempt, SriovTrial};
use nix::sys::signal::{SigSet, Signal};

pub use guard::refusal;
pub use journal::{Error, Restored};

use journal::Journal;
use system::Linux;

/// Where the journal is.
pub const DIRECTORY: &str = "/var/lib/edgevirt/probe";

/// A trial that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Address of the physical function.
    pub address: String,
    /// Virtual functions to create.
    pub functions: u32,
}

/// What is no `BDF[,n]`.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected a PCI address and how many functions, such as 0000:01:00.0,2; found {found:?}: give the address as lspci -D prints it"
)]
pub struct WantedError {
    found: String,
}

impl std::str::FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || WantedError {
            found: text.to_owned(),
        };
        let (address, functions) = text.split_once(',').unwrap_or((text, "1"));
        let address = hardware::parse::pci::address(address).ok_or_else(error)?;
        let functions = functions.parse().map_err(|_| error())?;
        Ok(Self {
            address: address.to_string(),
            functions,
        })
    }
}

/// Puts back what an interrupted trial had changed; `None` when there is
/// nothing to put back.
///
/// # Errors
/// [`Error::Busy`] while another probe is at work; else when the journal cannot
/// be read. What could not be put back is in [`Restored::failed`], and stays in
/// the journal for the next run.
pub fn restore(directory: &Path) -> Result<Option<Restored>, Error> {
    match Journal::open_existing(directory)? {
        None => Ok(None),
        Some(mut journal) => journal.undo(&Linux),
    }
}

/// A trial of one virtual function of every physical function that has SR-IOV.
#[must_use]
pub fn every(facts: &Facts) -> Vec<Wanted> {
    facts
        .pci
        .iter()
        .filter(|device| device.sriov.is_some() && device.is_network())
        .map(|device| Wanted {
            address: device.address.clone(),
            functions: 1,
        })
        .collect()
}

/// Tries one physical function. `facts` are this machine's, gathered before.
#[must_use]
pub fn run(wanted: &Wanted, facts: &Facts, directory: &Path) -> SriovTrial {
    let mut trial = SriovTrial {
        address: wanted.address.clone(),
        functions: wanted.functions,
        ..SriovTrial::default()
    };
    trial.refused = guard::refusal(facts, wanted);
    if trial.refused.is_some() {
        return trial;
    }
    // From here on a signal must not come between a change and its undoing.
    let held = hold_signals();
    match Journal::begin(directory, &Linux) {
        Err(error) => trial.refused = Some(error.to_string()),
        Ok(mut journal) => {
            trial.steps = steps::run(wanted, &Linux, &mut journal);
            trial.restored = put_back(&mut journal);
        }
    }
    release_signals(held);
    trial
}

fn put_back(journal: &mut Journal) -> Attempt {
    match journal.undo(&Linux) {
        Ok(Some(restored)) if !restored.failed.is_empty() => {
            Attempt::failed(None, restored.failed.join("; "))
        }
        Ok(_) => Attempt::Worked,
        Err(error) => Attempt::failed(None, error.to_string()),
    }
}

/// The end of the SSH connection (SIGHUP), Ctrl-C and a polite end wait until
/// everything is put back: that takes a second or two.
fn hold_signals() -> Option<SigSet> {
    let mut held = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        held.add(signal);
    }
    held.thread_block().ok().map(|()| held)
}

fn release_signals(held: Option<SigSet>) {
    if let Some(held) = held {
        // Cannot fail: the set was taken before.
        let _ = held.thread_unblock();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_and_a_number_are_read() {
        let wanted: Wanted = "01:00.0,2".parse().unwrap();
        assert_eq!(wanted.address, "0000:01:00.0");
        assert_eq!(wanted.functions, 2);
        assert_eq!("0000:01:00.0".parse::<Wanted>().unwrap().functions, 1);
        for text in ["eth0", "0000:01:00.0,x", "0000:01:00.0,-1", ""] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }
}
