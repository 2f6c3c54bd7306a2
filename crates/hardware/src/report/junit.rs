//! JUnit XML: a suite per node, a case per verdict.

use std::fmt::Write as _;

use super::text::xml;
use super::{Heading, NodeReport};
use crate::verdict::{Status, Verdict};

/// The document of `--output junit`. A warning is a passed case with the words in its
/// output, or a failure if the heading is strict; a node that could not be examined is
/// a suite with one case in error.
#[must_use]
pub fn junit(nodes: &[NodeReport], heading: &Heading) -> String {
    let failed = |verdict: &Verdict| {
        verdict.status == Status::Fail || (heading.strict && verdict.status == Status::Warn)
    };
    let count = |pick: &dyn Fn(&NodeReport) -> usize| nodes.iter().map(pick).sum::<usize>();
    let cases = |node: &NodeReport| node.verdicts.len() + usize::from(node.error.is_some());
    let failures = |node: &NodeReport| node.verdicts.iter().filter(|v| failed(v)).count();
    let skipped = |node: &NodeReport| {
        node.verdicts
            .iter()
            .filter(|v| v.status == Status::Skip)
            .count()
    };
    let errors = |node: &NodeReport| usize::from(node.error.is_some());
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
        xml(&heading.title),
        count(&cases),
        count(&failures),
        count(&errors),
        count(&skipped)
    );
    for node in nodes {
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" hostname=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}.{:03}\">",
            xml(&node.node),
            xml(&node.address),
            cases(node),
            failures(node),
            errors(node),
            skipped(node),
            node.elapsed_ms / 1000,
            node.elapsed_ms % 1000
        );
        if let Some(error) = &node.error {
            let _ = writeln!(
                text,
                "    <testcase classname=\"{}\" name=\"examined\"><error message=\"{}\"/></testcase>",
                xml(&node.node),
                xml(error)
            );
        }
        for verdict in &node.verdicts {
            case(&mut text, node, verdict, failed(verdict));
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn case(text: &mut String, node: &NodeReport, verdict: &Verdict, failed: bool) {
    let _ = write!(
        text,
        "    <testcase classname=\"{}\" name=\"{}\">",
        xml(&node.node),
        xml(&verdict.label())
    );
    if failed {
        let _ = write!(
            text,
            "<failure type=\"{}\" message=\"{}\">why: {}&#10;what helps: {}</failure>",
            verdict.status.word(),
            xml(&verdict.evidence),
            xml(&verdict.why),
            xml(&verdict.remedy)
        );
    } else if verdict.status == Status::Skip {
        let _ = write!(text, "<skipped message=\"{}\"/>", xml(&verdict.evidence));
    } else {
        let _ = write!(
            text,
            "<system-out>{}: {}",
            verdict.status.word(),
            xml(&verdict.evidence)
        );
        if !verdict.remedy.is_empty() {
            let _ = write!(text, "&#10;what helps: {}", xml(&verdict.remedy));
        }
        text.push_str("</system-out>");
    }
    text.push_str("</testcase>\n");
}
