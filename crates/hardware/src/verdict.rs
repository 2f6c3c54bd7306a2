//! The answer of a check.

use serde::{Deserialize, Serialize};

/// How a check ended, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not asked for, or not answerable here.
    Skip,
    /// As it should be.
    Pass,
    /// Works with a limitation.
    Warn,
    /// Does not work.
    Fail,
}

/// The answer of one check on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Stable name, for `--skip` and for programs: `kvm.run`.
    pub id: String,
    /// How it ended.
    pub status: Status,
    /// What was read where.
    pub evidence: String,
    /// Why it matters.
    pub why: String,
    /// What to do; empty on a pass.
    pub remedy: String,
}

/// The worst status in the list; `Pass` when it is empty.
#[must_use]
pub fn worst(verdicts: &[Verdict]) -> Status {
    verdicts
        .iter()
        .map(|v| v.status)
        .max()
        .unwrap_or(Status::Pass)
}
