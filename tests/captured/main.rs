//! The verdicts of every variant of testbed/edge-node without the node: its captured tree (`--root`) and its facts
//! (`--facts`), judged by `edgevirt preflight`, must get what the booted node gets.
//!
//! `cargo xtask edge-node capture` makes the captures.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod machines;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::edge_node::{Captured, Variant, captured, variants};

/// What no file tells: whether /dev/kvm opens and a guest runs, and how far off the clock is (adjtimex(2)).
const LIVE: [&str; 3] = ["kvm.dev", "kvm.run", "time"];

/// The worst status of each check, and the exit code.
fn judged(dir: &Path, of: &[&str]) -> (BTreeMap<String, String>, Option<i32>) {
    let (document, code) = report(dir, of);
    let mut worst: BTreeMap<String, (hardware::Status, String)> = BTreeMap::new();
    for verdict in document["nodes"][0]["verdicts"].as_array().unwrap() {
        let status: hardware::Status = serde_json::from_value(verdict["status"].clone()).unwrap();
        let entry = worst
            .entry(verdict["id"].as_str().unwrap().to_owned())
            .or_insert((status, String::new()));
        if status >= entry.0 {
            *entry = (status, status.word().to_owned());
        }
    }
    let words = worst.into_iter().map(|(id, (_, word))| (id, word));
    (words.collect(), code)
}

/// The report on what `of` names, with what the file `asks` asks, and the exit code.
fn report(dir: &Path, of: &[&str]) -> (Value, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_edgevirt"))
        .args(["preflight", "--output", "json", "--requirements", "asks"])
        .args(of)
        .current_dir(dir)
        .output()
        .unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    (document, output.status.code())
}

fn code(found: &BTreeMap<String, String>) -> i32 {
    let any = |word: &str| found.values().any(|status| status == word);
    match (any("fail"), any("warn")) {
        (true, _) => 3,
        (false, true) => 4,
        (false, false) => 0,
    }
}

fn each(mut test: impl FnMut(&str, &Variant, &Captured, &Path)) {
    for (name, variant) in variants().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("asks"),
            serde_json::to_string(&variant.asks).unwrap(),
        )
        .unwrap();
        test(&name, &variant, &Captured::read(&name).unwrap(), dir.path());
    }
}

#[test]
fn facts_of_every_variant_are_judged_as_the_node_was() {
    each(|name, variant, captured, dir| {
        fs::write(dir.join("node.json"), captured.facts.to_string()).unwrap();
        let (found, exit) = judged(dir, &["--facts", "node.json"]);
        let wrong = variant.wrong(&found, &[]);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert_eq!(exit, Some(code(&found)), "{name}");
    });
}

#[test]
fn files_of_every_variant_are_judged_as_the_node_was() {
    each(|name, variant, captured, dir| {
        let root = dir.join("tree");
        captured.unpack(&root).unwrap();
        let (found, exit) = judged(dir, &["--root", "tree"]);
        let wrong = variant.wrong(&found, &LIVE);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        for check in LIVE {
            // What was not seen is not called good.
            assert_ne!(found.get(check).map(String::as_str), Some("pass"), "{name}");
        }
        assert_eq!(exit, Some(code(&found)), "{name}");
    });
}

#[test]
fn captures_stay_small() {
    let folder = captured::path("full").parent().unwrap().to_owned();
    let size: u64 = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 1 << 20, "{size} bytes");
}
