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

impl Status {
    /// The word users see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The answer of one check on one subject of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Stable name, for `--skip` and for programs: `kvm.run`.
    pub id: String,
    /// What it is about, e.g. `0000:01:00.0`; empty for the node as a whole.
    #[serde(default)]
    pub subject: String,
    /// How it ended.
    pub status: Status,
    /// What was read where.
    pub evidence: String,
    /// Why it matters.
    pub why: String,
    /// What to do; empty on a pass and a skip.
    #[serde(default)]
    pub remedy: String,
    /// What software can do about it; `None` if it takes a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
}

impl Verdict {
    /// The id with its subject: `iommu.group 0000:01:00.0`.
    #[must_use]
    pub fn label(&self) -> String {
        if self.subject.is_empty() {
            self.id.clone()
        } else {
            format!("{} {}", self.id, self.subject)
        }
    }
}

/// Something that software can carry out. Data only: who carries it out shows it first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Fix {
    /// Change the kernel's command line with the bootloader's own tool, then reboot.
    KernelArgs {
        /// Arguments to add, each `name` or `name=value`. One that replaces an
        /// argument of the same name has that one in `remove`.
        add: Vec<String>,
        /// Arguments to take out, exactly as /proc/cmdline has them.
        #[serde(default)]
        remove: Vec<String>,
    },
    /// Load modules now and at every boot.
    ModulesLoad {
        /// Their names.
        names: Vec<String>,
    },
    /// Reserve hugepages now (where the size allows it) and at every boot.
    Hugepages {
        /// Size of a page, bytes.
        size: u64,
        /// Pages in all.
        count: u64,
        /// On this NUMA node; `None`: anywhere.
        #[serde(default)]
        node: Option<u32>,
    },
    /// Switch swap off now and at every boot.
    SwapOff {
        /// The areas in use.
        areas: Vec<String>,
    },
}

impl Fix {
    /// It takes effect only after a reboot.
    #[must_use]
    pub fn needs_reboot(&self) -> bool {
        match self {
            Self::KernelArgs { .. } => true,
            // Gigantic pages want contiguous memory, which only boot has for sure.
            Self::Hugepages { size, .. } => *size >= 1 << 30,
            Self::ModulesLoad { .. } | Self::SwapOff { .. } => false,
        }
    }
}

/// The worst status in the list; `Pass` when it is empty or all were skipped.
#[must_use]
pub fn worst(verdicts: &[Verdict]) -> Status {
    verdicts
        .iter()
        .map(|v| v.status)
        .max()
        .map_or(Status::Pass, |status| status.max(Status::Pass))
}

/// What software can do about all verdicts together: each kind once, nothing twice,
/// in the order in which it was found.
#[must_use]
pub fn fixes(verdicts: &[Verdict]) -> Vec<Fix> {
    let mut all: Vec<Fix> = Vec::new();
    for fix in verdicts.iter().filter_map(|verdict| verdict.fix.clone()) {
        let merged = all.iter_mut().any(|known| match (known, &fix) {
            (
                Fix::KernelArgs { add, remove },
                Fix::KernelArgs {
                    add: more,
                    remove: less,
                },
            ) => {
                join(add, more);
                join(remove, less);
                true
            }
            (Fix::ModulesLoad { names }, Fix::ModulesLoad { names: more }) => {
                join(names, more);
                true
            }
            (Fix::SwapOff { areas }, Fix::SwapOff { areas: more }) => {
                join(areas, more);
                true
            }
            (known, fix) => known == fix,
        });
        if !merged {
            all.push(fix);
        }
    }
    all
}

fn join(to: &mut Vec<String>, more: &[String]) {
    for word in more {
        if !to.contains(word) {
            to.push(word.clone());
        }
    }
}
