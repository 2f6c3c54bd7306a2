//! The report: a table for people, or a document of `hardware::report`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use hardware::report::{self, Heading, NodeReport, printable};
use hardware::{Status, Verdict};

use crate::cli::{PreflightArgs, ReportFormat};
use crate::output::{Output, Tone};

/// How a report is written.
pub(crate) struct Report<'a> {
    /// What it is about.
    pub(crate) title: String,
    /// Warnings are failures.
    pub(crate) strict: bool,
    /// Its format.
    pub(crate) format: ReportFormat,
    /// Where it goes; `None` for standard output.
    pub(crate) file: Option<&'a Path>,
}

impl<'a> Report<'a> {
    /// As preflight was asked for it.
    pub(super) fn of(args: &'a PreflightArgs, nodes: &[NodeReport]) -> Self {
        Self {
            title: match &args.nodes.inventory {
                Some(path) => path.display().to_string(),
                None => named(nodes),
            },
            strict: args.strict,
            format: args.output,
            file: args.output_file.as_deref(),
        }
    }
}

/// The names of a few nodes; of many the first, and how many there are: it is a title.
fn named(nodes: &[NodeReport]) -> String {
    const FEW: usize = 4;
    let few = if nodes.len() > FEW { FEW - 1 } else { FEW };
    let names: Vec<&str> = nodes.iter().take(few).map(|n| n.node.as_str()).collect();
    match nodes.len() - names.len() {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Prints the report, or writes it to the file that was named.
pub(crate) fn write(of: &Report<'_>, nodes: &[NodeReport], out: &Output) -> anyhow::Result<()> {
    let heading = Heading {
        title: of.title.clone(),
        generated: now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        strict: of.strict,
    };
    let plain = match of.file {
        Some(_) => Output::new(crate::cli::Color::Never, true),
        None => *out,
    };
    let text = match of.format {
        ReportFormat::Table => table(nodes, &plain),
        ReportFormat::Json => {
            serde_json::to_string_pretty(&report::document(nodes, &heading))? + "\n"
        }
        ReportFormat::Junit => report::junit(nodes, &heading),
        ReportFormat::Html => report::html(nodes, &heading),
    };
    match of.file {
        None => out.raw(&text),
        Some(path) => {
            std::fs::write(path, text)
                .with_context(|| format!("cannot write the report {}", path.display()))?;
            out.note(&format!("report: {}", path.display()));
        }
    }
    Ok(())
}

/// The time, RFC 3339, in seconds.
fn now() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

fn word(status: Status, out: &Output) -> String {
    let tone = match status {
        Status::Pass => Tone::Good,
        Status::Skip => Tone::Dim,
        Status::Warn => Tone::Warn,
        Status::Fail => Tone::Bad,
    };
    out.paint(status.word(), tone)
}

fn count(node: &NodeReport, status: Status) -> usize {
    node.verdicts.iter().filter(|v| v.status == status).count()
}

/// One line about a node that is done.
pub(super) fn summary(node: &NodeReport, out: &Output) -> String {
    let seconds = seconds(node);
    match &node.error {
        Some(error) => format!(
            "{}: {} in {seconds}: {}",
            node.node,
            out.paint("no answer", Tone::Bad),
            printable(error)
        ),
        None => format!(
            "{}: {} in {seconds}, {} pass, {} warn, {} fail",
            node.node,
            word(node.status(), out),
            count(node, Status::Pass),
            count(node, Status::Warn),
            count(node, Status::Fail),
        ),
    }
}

fn seconds(node: &NodeReport) -> String {
    format!(
        "{}.{} s",
        node.elapsed_ms / 1000,
        node.elapsed_ms % 1000 / 100
    )
}

/// The table: every verdict of one node, or for several a line each and then what is
/// not as it should be.
fn table(nodes: &[NodeReport], out: &Output) -> String {
    let mut text = String::new();
    if let [node] = nodes {
        one(
            node,
            &node.verdicts.iter().collect::<Vec<_>>(),
            out,
            &mut text,
        );
    } else {
        fleet(nodes, out, &mut text);
        for node in nodes {
            let bad: Vec<&Verdict> = node
                .verdicts
                .iter()
                .filter(|v| matches!(v.status, Status::Warn | Status::Fail))
                .collect();
            if !bad.is_empty() {
                let _ = writeln!(text, "\n{}", node.node);
                one(node, &bad, out, &mut text);
            }
        }
    }
    if nodes.iter().any(NodeReport::use_emulation) {
        text +=
            "\nGuests will run by emulation: deploy sets useEmulation in the KubeVirt object.\n";
    }
    text
}

fn fleet(nodes: &[NodeReport], out: &Output, text: &mut String) {
    let heading = [
        "NODE", "STATUS", "PASS", "WARN", "FAIL", "SKIP", "TIME", "WORST",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for node in nodes {
        let worst = match &node.error {
            Some(error) => printable(error),
            None => {
                let mut ids: Vec<&str> = node
                    .verdicts
                    .iter()
                    .filter(|v| v.status == node.status() && v.status > Status::Pass)
                    .map(|v| v.id.as_str())
                    .collect();
                ids.dedup();
                ids.join(" ")
            }
        };
        let number = |status| match node.error {
            Some(_) => "-".to_owned(),
            None => count(node, status).to_string(),
        };
        rows.push(vec![
            node.node.clone(),
            match node.error {
                Some(_) => out.paint("error", Tone::Bad),
                None => word(node.status(), out),
            },
            number(Status::Pass),
            number(Status::Warn),
            number(Status::Fail),
            number(Status::Skip),
            seconds(node),
            worst,
        ]);
    }
    for line in Output::rows(&rows) {
        let _ = writeln!(text, "{line}");
    }
}

fn one(node: &NodeReport, verdicts: &[&Verdict], out: &Output, text: &mut String) {
    if let Some(error) = &node.error {
        let _ = writeln!(text, "{}: {}", node.node, printable(error));
        return;
    }
    let mut rows = vec![["CHECK", "STATUS", "EVIDENCE"].map(str::to_owned).to_vec()];
    for verdict in verdicts {
        let about = if verdict.subject.is_empty() {
            String::new()
        } else {
            format!("{}: ", printable(&verdict.subject))
        };
        rows.push(vec![
            verdict.id.clone(),
            word(verdict.status, out),
            about + &printable(&verdict.evidence).replace('\n', " "),
        ]);
    }
    for line in Output::rows(&rows) {
        let _ = writeln!(text, "{line}");
    }
    // One remedy for all devices that have the same fault.
    let mut said: Vec<(&str, &str)> = Vec::new();
    for verdict in verdicts.iter().filter(|v| !v.remedy.is_empty()) {
        let key = (verdict.id.as_str(), verdict.remedy.as_str());
        if said.contains(&key) {
            continue;
        }
        said.push(key);
        let _ = writeln!(
            text,
            "\n{}: {}\n  fix: {}",
            verdict.id,
            printable(&verdict.why),
            printable(&verdict.remedy)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Color;

    fn node(name: &str, status: Status) -> NodeReport {
        NodeReport {
            node: name.to_owned(),
            verdicts: vec![Verdict {
                id: "swap".to_owned(),
                subject: String::new(),
                status,
                evidence: "/proc/swaps: x".to_owned(),
                why: "why".to_owned(),
                remedy: "remedy".to_owned(),
                fix: None,
            }],
            ..NodeReport::default()
        }
    }

    #[test]
    fn a_title_names_a_few_nodes_and_counts_many() {
        let nodes: Vec<NodeReport> = (1..=6)
            .map(|n| node(&format!("n{n}"), Status::Pass))
            .collect();
        assert_eq!(named(&[]), "");
        assert_eq!(named(&nodes[..4]), "n1, n2, n3, n4");
        assert_eq!(named(&nodes), "n1, n2, n3 and 3 more");
    }

    #[test]
    fn a_fleet_has_a_line_for_each_node_and_details_for_the_bad_ones() {
        let out = Output::new(Color::Never, true);
        let mut dead = node("dead", Status::Pass);
        dead.verdicts.clear();
        dead.error = Some("cannot connect\u{1b}[2J".to_owned());
        let text = table(
            &[node("good", Status::Pass), node("bad", Status::Fail), dead],
            &out,
        );
        assert!(text.contains("good  pass"), "{text}");
        assert!(text.contains("\nbad\nCHECK"), "{text}");
        assert!(!text.contains("\ngood\nCHECK"), "{text}");
        assert!(
            text.contains("cannot connect") && !text.contains('\u{1b}'),
            "{text}"
        );
    }

    #[test]
    fn a_line_about_a_node_tells_how_it_went() {
        let out = Output::new(Color::Never, true);
        assert_eq!(
            summary(&node("edge1", Status::Warn), &out),
            "edge1: warn in 0.0 s, 0 pass, 1 warn, 0 fail"
        );
    }
}
