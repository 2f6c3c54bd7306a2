//! A fleet's verdicts as documents: JSON for programs, JUnit for test reports, a page
//! to hand to the hardware team. Functions over values; whoever gathered the fleet
//! calls them.

mod fleet;
mod html;
mod junit;
mod text;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::verdict::{Status, Verdict, worst};

pub use fleet::{clock_skews, judge_fleet};
pub use html::html;
pub use junit::junit;
pub use text::printable;

/// Version of [`Document`], raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// What is known of one node after the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// Its name in the inventory.
    pub node: String,
    /// Where it was reached: `user@host:port`, or empty for the local node.
    pub address: String,
    /// Why it could not be examined; its verdicts are then empty.
    pub error: Option<String>,
    /// Time from the first packet to the last verdict, milliseconds.
    pub elapsed_ms: u64,
    /// What was read.
    pub facts: Option<Facts>,
    /// The verdicts, in the order of the catalogue.
    pub verdicts: Vec<Verdict>,
}

/// What a report is about, given by whoever writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heading {
    /// Title: the inventory's name, or the node's.
    pub title: String,
    /// When the facts were gathered, in words or RFC 3339.
    pub generated: String,
    /// Version of the program.
    pub version: String,
    /// Warnings count as failures.
    pub strict: bool,
}

/// The document of `--output json`.
#[derive(Clone, Debug, Serialize)]
pub struct Document<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the program.
    pub version: &'a str,
    /// When the facts were gathered.
    pub generated: &'a str,
    /// The worst status of all nodes; `fail` if one could not be examined.
    pub status: Status,
    /// Guests need emulation on at least one node that was examined.
    pub use_emulation: bool,
    /// How many nodes ended how.
    pub summary: Summary,
    /// The nodes, in the order given.
    pub nodes: Vec<Node<'a>>,
}

/// A node within a [`Document`].
#[derive(Clone, Debug, Serialize)]
pub struct Node<'a> {
    /// The worst status of its verdicts; `fail` if it could not be examined.
    pub status: Status,
    /// Guests need emulation here.
    pub use_emulation: bool,
    /// The rest.
    #[serde(flatten)]
    pub report: &'a NodeReport,
}

/// How many nodes ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Nodes in all.
    pub nodes: usize,
    /// All passed.
    pub pass: usize,
    /// The worst is a warning.
    pub warn: usize,
    /// Something failed.
    pub fail: usize,
    /// Could not be examined.
    pub unreachable: usize,
}

impl NodeReport {
    /// The worst status; `Fail` if the node could not be examined.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.error.is_some() {
            Status::Fail
        } else {
            worst(&self.verdicts)
        }
    }

    /// Guests need emulation here: no guest ran in its KVM. False if nothing is known.
    #[must_use]
    pub fn use_emulation(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| !facts.kvm.works())
    }
}

/// Counts the nodes.
#[must_use]
pub fn summary(nodes: &[NodeReport]) -> Summary {
    let mut summary = Summary {
        nodes: nodes.len(),
        ..Summary::default()
    };
    for node in nodes {
        let count = match (&node.error, node.status()) {
            (Some(_), _) => &mut summary.unreachable,
            (None, Status::Fail) => &mut summary.fail,
            (None, Status::Warn) => &mut summary.warn,
            (None, Status::Pass | Status::Skip) => &mut summary.pass,
        };
        *count += 1;
    }
    summary
}

/// The worst status of all nodes; a node that could not be examined is a failure.
#[must_use]
pub fn status(nodes: &[NodeReport]) -> Status {
    nodes
        .iter()
        .map(NodeReport::status)
        .max()
        .unwrap_or(Status::Pass)
}

/// The document of `--output json`, to be serialised by the caller.
#[must_use]
pub fn document<'a>(nodes: &'a [NodeReport], heading: &'a Heading) -> Document<'a> {
    Document {
        schema: SCHEMA,
        version: &heading.version,
        generated: &heading.generated,
        status: status(nodes),
        use_emulation: nodes.iter().any(NodeReport::use_emulation),
        summary: summary(nodes),
        nodes: nodes
            .iter()
            .map(|report| Node {
                status: report.status(),
                use_emulation: report.use_emulation(),
                report,
            })
            .collect(),
    }
}
