//! The page for the hardware team: one file without anything from outside, a card per
//! node, filters by status and by check. Without scripts everything is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::xml;
use super::{Heading, NodeReport, summary};
use crate::checks::{machine, size};
use crate::facts::Facts;
use crate::verdict::{Status, Verdict};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The document of `--output html`. Every string of a node is escaped.
#[must_use]
pub fn html(nodes: &[NodeReport], heading: &Heading) -> String {
    let mut page = String::with_capacity(64 * 1024);
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Preflight: {title}</title>\n<style>\n{STYLE}</style></head>\n<body>\n\
         <header><h1>Preflight <span>{title}</span></h1>\n<p class=\"when\">{when}{version}</p>\n",
        title = xml(&heading.title),
        when = xml(&heading.generated),
        version = if heading.version.is_empty() {
            String::new()
        } else {
            format!(" · edgevirt {}", xml(&heading.version))
        },
    );
    counts(&mut page, nodes);
    page.push_str("</header>\n");
    filters(&mut page, nodes);
    page.push_str("<main id=\"nodes\">\n");
    for node in nodes {
        card(&mut page, node);
    }
    let _ = write!(
        page,
        "</main>\n<p id=\"none\" hidden>No node matches.</p>\n<script>\n{SCRIPT}</script>\n</body></html>\n"
    );
    page
}

fn counts(page: &mut String, nodes: &[NodeReport]) {
    let all = summary(nodes);
    page.push_str("<div class=\"counts\" role=\"group\" aria-label=\"Filter by status\">");
    for (class, word, count) in [
        ("all", "nodes", all.nodes),
        ("fail", "fail", all.fail),
        ("dead", "not examined", all.unreachable),
        ("warn", "with warnings", all.warn),
        ("pass", "pass", all.pass),
    ] {
        let _ = write!(
            page,
            "<button type=\"button\" class=\"count {class}\" data-status=\"{class}\" aria-pressed=\"{pressed}\"><b>{count}</b> {word}</button>",
            pressed = class == "all"
        );
    }
    page.push_str("</div>\n");
}

/// Checks that fail or warn somewhere, with the number of nodes, most first.
fn filters(page: &mut String, nodes: &[NodeReport]) {
    let mut failing: BTreeMap<&str, (usize, Status)> = BTreeMap::new();
    for node in nodes {
        for (id, status) in wrong(node) {
            let entry = failing.entry(id).or_insert((0, status));
            entry.0 += 1;
            entry.1 = entry.1.max(status);
        }
    }
    let mut failing: Vec<_> = failing.into_iter().collect();
    failing.sort_by_key(|(id, (count, status))| {
        (std::cmp::Reverse((*status, *count)), (*id).to_owned())
    });
    page.push_str("<nav aria-label=\"Filter by check\">");
    if !failing.is_empty() {
        page.push_str("<span>Nodes with a problem in</span>");
    }
    for (id, (count, status)) in failing {
        let _ = write!(
            page,
            "<button type=\"button\" class=\"chip {}\" data-check=\"{id}\" aria-pressed=\"false\">{id} <b>{count}</b></button>",
            status.word(),
            id = xml(id)
        );
    }
    page.push_str(
        "<input id=\"find\" type=\"search\" placeholder=\"Find a node, serial, address…\" aria-label=\"Find\"></nav>\n",
    );
}

/// The checks of a node that fail or warn, each once with its worst status.
fn wrong(node: &NodeReport) -> BTreeMap<&str, Status> {
    let mut found = BTreeMap::new();
    for verdict in node.verdicts.iter().filter(|v| v.status >= Status::Warn) {
        let entry = found.entry(verdict.id.as_str()).or_insert(verdict.status);
        *entry = verdict.status.max(*entry);
    }
    found
}

fn card(page: &mut String, node: &NodeReport) {
    let (class, word) = match (&node.error, node.status()) {
        (Some(_), _) => ("dead", "not examined"),
        (None, Status::Fail) => ("fail", "fail"),
        (None, Status::Warn) => ("warn", "warn"),
        (None, Status::Pass | Status::Skip) => ("pass", "pass"),
    };
    let checks: Vec<&str> = wrong(node).into_keys().collect();
    let _ = write!(
        page,
        "<article class=\"{class}\" data-status=\"{class}\" data-checks=\"{}\">\n<h2><bdi>{}</bdi> <span class=\"badge\">{word}</span></h2>\n",
        xml(&checks.join(" ")),
        xml(&node.node)
    );
    if !node.address.is_empty() {
        let _ = writeln!(
            page,
            "<p class=\"address\"><bdi>{}</bdi></p>",
            xml(&node.address)
        );
    }
    if let Some(error) = &node.error {
        let _ = writeln!(page, "<p class=\"error\"><bdi>{}</bdi></p>", xml(error));
    }
    if let Some(facts) = &node.facts {
        inventory(page, facts);
    }
    let mut shown: Vec<&Verdict> = node
        .verdicts
        .iter()
        .filter(|v| v.status >= Status::Warn)
        .collect();
    shown.sort_by_key(|verdict| std::cmp::Reverse(verdict.status));
    for verdict in shown {
        problem(page, verdict);
    }
    rest(page, &node.verdicts, Status::Pass, "passed");
    rest(page, &node.verdicts, Status::Skip, "skipped");
    page.push_str("</article>\n");
}

/// What the machine is, so that a person finds it.
fn inventory(page: &mut String, facts: &Facts) {
    let dmi = &facts.firmware.dmi;
    let bios: Vec<&str> = [&dmi.bios_vendor, &dmi.bios_version, &dmi.bios_date]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let memory = facts.memory.total.map(size);
    let cpu = match (
        facts.cpu.model.as_str(),
        facts.cpu.sockets,
        facts.cpu.logical,
    ) {
        ("", _, _) => None,
        (model, 0 | 1, threads) => Some(format!("{model}, {threads} CPUs")),
        (model, sockets, threads) => Some(format!("{sockets} × {model}, {threads} CPUs")),
    };
    let kernel = (!facts.kernel.release.is_empty()).then(|| {
        if facts.os.pretty.is_empty() {
            facts.kernel.release.clone()
        } else {
            format!("{}, {}", facts.kernel.release, facts.os.pretty)
        }
    });
    let rows = [
        ("Machine", machine(facts)),
        ("Serial", dmi.product_serial.clone()),
        ("Firmware", (!bios.is_empty()).then(|| bios.join(" "))),
        ("CPU", cpu),
        ("Memory", memory),
        ("Kernel", kernel),
    ];
    page.push_str("<dl>");
    for (name, value) in rows {
        if let Some(value) = value {
            let _ = write!(page, "<dt>{name}</dt><dd><bdi>{}</bdi></dd>", xml(&value));
        }
    }
    page.push_str("</dl>\n");
}

fn problem(page: &mut String, verdict: &Verdict) {
    let _ = write!(
        page,
        "<section class=\"{status}\" data-check=\"{id}\"><h3><span class=\"mark\">{status}</span> {id} <bdi>{subject}</bdi></h3>\n\
         <p class=\"evidence\"><bdi>{evidence}</bdi></p>\n<p class=\"why\">{why}.</p>\n<p class=\"remedy\"><b>What helps:</b> <bdi>{remedy}</bdi></p></section>\n",
        status = verdict.status.word(),
        id = xml(&verdict.id),
        subject = xml(&verdict.subject),
        evidence = xml(&verdict.evidence),
        why = xml(&verdict.why),
        remedy = xml(&verdict.remedy)
    );
}

/// The verdicts of one harmless status, folded.
fn rest(page: &mut String, verdicts: &[Verdict], status: Status, word: &str) {
    let of: Vec<&Verdict> = verdicts.iter().filter(|v| v.status == status).collect();
    if of.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<details><summary>{} {word}</summary><table>",
        of.len()
    );
    for verdict in of {
        let _ = write!(
            page,
            "<tr><th>{} <bdi>{}</bdi></th><td><bdi>{}</bdi></td></tr>",
            xml(&verdict.id),
            xml(&verdict.subject),
            xml(&verdict.evidence)
        );
    }
    page.push_str("</table></details>\n");
}
