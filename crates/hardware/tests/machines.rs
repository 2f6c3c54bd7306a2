//! Machines that cannot be emulated, as facts: the full list of verdicts on each, and
//! the fleet's report of all of them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::path::Path;

use hardware::report::{Heading, NodeReport, document, html, judge_fleet, junit, status, summary};
use hardware::{Facts, Requirements, Status, judge};

/// A machine of tests/fixtures, and what is asked of it.
fn machine(name: &str) -> (Facts, Requirements) {
    let read = |kind: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(format!("{name}.{kind}.json"));
        std::fs::read_to_string(path).unwrap()
    };
    (
        serde_json::from_str(&read("facts")).unwrap(),
        serde_json::from_str(&read("requirements")).unwrap(),
    )
}

const MACHINES: [&str; 5] = [
    "two-sockets",
    "shared-groups",
    "no-remapping",
    "secure-boot",
    "functions-64",
];

fn verdicts(name: &str) -> String {
    let (facts, requirements) = machine(name);
    world::lines(&facts, &requirements)
}

#[test]
fn two_sockets_with_hugepages_on_one() {
    insta::assert_snapshot!(verdicts("two-sockets"));
}

#[test]
fn a_board_that_puts_the_chipset_into_one_group() {
    insta::assert_snapshot!(verdicts("shared-groups"));
}

#[test]
fn an_old_chipset_without_interrupt_remapping() {
    insta::assert_snapshot!(verdicts("no-remapping"));
}

#[test]
fn secure_boot_with_lockdown_and_an_iommu_that_ubuntu_leaves_off() {
    insta::assert_snapshot!(verdicts("secure-boot"));
}

#[test]
fn sixty_four_functions_that_exist_already() {
    insta::assert_snapshot!(verdicts("functions-64"));
}

fn fleet() -> Vec<NodeReport> {
    let mut nodes: Vec<NodeReport> = MACHINES
        .iter()
        .map(|name| {
            let (facts, requirements) = machine(name);
            NodeReport {
                node: facts.names.hostname.clone(),
                address: format!("root@{}:22", facts.names.hostname),
                elapsed_ms: 412,
                verdicts: judge(&facts, &requirements),
                facts: Some(facts),
                error: None,
            }
        })
        .collect();
    nodes.push(NodeReport {
        node: "edge-gone".into(),
        address: "admin@edge-gone:2222".into(),
        error: Some("connection refused; is sshd running?".into()),
        elapsed_ms: 10_003,
        ..NodeReport::default()
    });
    judge_fleet(&mut nodes);
    nodes
}

fn heading() -> Heading {
    Heading {
        title: "inventory/sites.yml".into(),
        generated: "2026-11-22T17:00:00Z".into(),
        version: "0.1.0".into(),
        strict: false,
    }
}

#[test]
fn a_fleet_is_counted_and_the_dead_node_is_a_failure() {
    let nodes = fleet();
    let counted = summary(&nodes);
    assert_eq!((counted.nodes, counted.unreachable), (6, 1));
    assert_eq!(counted.pass + counted.warn + counted.fail, 5);
    assert_eq!(status(&nodes), Status::Fail);
    assert_eq!(status(&nodes[4..5]), Status::Pass);
    assert_eq!(status(&[]), Status::Pass);
    let heading = heading();
    let json = serde_json::to_value(document(&nodes, &heading)).unwrap();
    assert_eq!(json["status"], "fail");
    assert_eq!(json["use_emulation"], false);
    assert_eq!(json["nodes"][5]["status"], "fail");
    assert_eq!(json["nodes"][0]["facts"]["names"]["hostname"], "cell-07");
    let again: NodeReport = serde_json::from_value(json["nodes"][0].clone()).unwrap();
    assert_eq!(again, nodes[0]);
}

#[test]
fn junit_counts_what_it_lists() {
    let nodes = fleet();
    for strict in [false, true] {
        let text = junit(
            &nodes,
            &Heading {
                strict,
                ..heading()
            },
        );
        let count = |word: &str| text.matches(word).count();
        let of = |verdict: Status| {
            nodes
                .iter()
                .flat_map(|node| &node.verdicts)
                .filter(|v| v.status == verdict)
                .count()
        };
        assert_eq!(count("<testsuite "), 6);
        let failures = of(Status::Fail) + if strict { of(Status::Warn) } else { 0 };
        assert_eq!(count("<failure "), failures);
        assert_eq!(count("<skipped "), of(Status::Skip));
        assert_eq!(count("<error "), 1);
        assert!(text.contains(&format!("failures=\"{failures}\" errors=\"1\"")));
    }
}

#[test]
fn the_page_needs_nothing_from_outside_and_no_string_of_a_node_becomes_markup() {
    let evil = "<script>alert(1)</script>\"' onload=x \u{202e}\u{1b}[31m&amp;";
    let mut nodes = fleet();
    nodes[0].node = evil.into();
    nodes[0].address = evil.into();
    nodes[5].error = Some(evil.into());
    let facts = nodes[0].facts.as_mut().unwrap();
    facts.cpu.model = evil.into();
    facts.firmware.dmi.product_serial = Some(evil.into());
    facts.kernel.release = evil.into();
    for verdict in &mut nodes[0].verdicts {
        verdict.id = evil.into();
        verdict.subject = evil.into();
        verdict.evidence = evil.into();
        verdict.remedy = evil.into();
        verdict.why = evil.into();
    }
    let heading = Heading {
        title: evil.into(),
        generated: evil.into(),
        version: evil.into(),
        strict: false,
    };
    let page = html(&nodes, &heading);
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(!page.contains("\" onload") && !page.contains('\u{202e}') && !page.contains('\u{1b}'));
    for word in [
        "http://", "https://", "//", "@import", "url(", " src=", " href=",
    ] {
        let own = page.replace("http://proxy.site.example:3128", "");
        assert!(!own.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
    let xml = junit(&nodes, &heading);
    assert!(!xml.contains("<script") && !xml.contains('\u{1b}'));
}

/// Writes the page of the fleet to the file that EDGEVIRT_PAGE names, to be looked at.
#[test]
fn the_page_can_be_looked_at() {
    let page = html(&fleet(), &heading());
    assert!(page.starts_with("<!doctype html>"));
    if let Ok(path) = std::env::var("EDGEVIRT_PAGE") {
        std::fs::write(path, page).unwrap();
    }
}
