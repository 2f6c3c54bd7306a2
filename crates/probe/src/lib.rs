//! Reads the facts of a node. Nothing here judges: see `hardware`.
//!
//! ```text
//!   /proc /sys /etc /dev ──Tree──► gather::* ──► hardware::Facts
//!        (bounded reads,      │        (one module for each group of facts)
//!         any root)           └──► capture: what was read, as a tree for --root
//!
//!   --trial BDF ──► trial: journal ─► change ─► look ─► undo ─► journal gone
//! ```
//! A node may hold anything: files that vanish while they are read, garbage,
//! FIFOs where files are expected. What cannot be read is listed in
//! `Facts::unread`, and everything else is gathered all the same.

pub mod capture;
mod gather;
mod tree;
pub mod trial;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hardware::Facts;

pub use gather::gather;

/// What to gather, and from where.
#[derive(Clone, Debug)]
pub struct Options {
    /// `/` for this machine, else the root of a captured tree: there nothing is
    /// opened, run or asked of the kernel, only files are read.
    pub root: PathBuf,
    /// Directories whose file systems must have room.
    pub space: Vec<PathBuf>,
    /// Leave out the guests that are run in KVM.
    pub skip_kvm_run: bool,
    /// How long these may take before KVM counts as broken.
    pub kvm_time_limit: Duration,
    /// How long the name server may take; 0 leaves the question out.
    pub dns_time_limit: Duration,
    /// How long all disks together may take to show both their ends.
    pub disk_time_limit: Duration,
    /// `SSH_CONNECTION` of whoever called, when it is known better than from
    /// the environment and the parents of this process.
    pub ssh_connection: Option<String>,
}

impl Default for Options {
    /// This machine. A guest of a few instructions needs milliseconds; one on a machine that is
    /// itself emulated, beside others that are, was seen to need more than 3 s. Only a guest that
    /// hangs takes the 10 s.
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            space: vec![PathBuf::from("/var/lib")],
            skip_kvm_run: false,
            kvm_time_limit: Duration::from_secs(10),
            dns_time_limit: Duration::from_millis(700),
            disk_time_limit: Duration::from_secs(3),
            ssh_connection: None,
        }
    }
}

/// Notes how long it took since `begin`, and the clock of the middle of that
/// time: whoever compares clocks knows when the answer came and how long it took.
pub fn stamp(facts: &mut Facts, begin: Instant) {
    let took = begin.elapsed();
    facts.elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    facts.clock.unix_ms = SystemTime::now()
        .checked_sub(took / 2)
        .and_then(|middle| middle.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_millis()).ok());
}

impl Options {
    /// The facts are this machine's own, so that the kernel may be asked too.
    #[must_use]
    pub fn live(&self) -> bool {
        self.root == Path::new("/")
    }
}
