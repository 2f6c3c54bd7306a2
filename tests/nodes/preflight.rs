//! Calls `edgevirt preflight` as a user does, with an inventory, and reads its JSON.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hardware::{Status, Verdict};
use serde_json::{Value, json};
use testkit::edge_node::EdgeNode;

/// A host of the inventory.
pub(crate) fn host(node: &EdgeNode, asks: &BTreeMap<String, Value>) -> Value {
    json!({
        "ansible_host": "127.0.0.1",
        "ansible_port": node.port(),
        "ansible_user": "root",
        "ansible_ssh_private_key_file": node.key(),
        "ansible_ssh_common_args": format!("-o UserKnownHostsFile={}", node.known_hosts().display()),
        "edgevirt_requirements": asks,
    })
}

/// What preflight printed and how it ended.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) code: Option<i32>,
    pub(crate) document: Value,
    pub(crate) stderr: String,
}

impl Report {
    /// The node's part of the document.
    pub(crate) fn node(&self, name: &str) -> &Value {
        let nodes = self.document["nodes"].as_array().expect("nodes");
        nodes
            .iter()
            .find(|node| node["node"] == name)
            .unwrap_or_else(|| panic!("no node {name} in {}", self.document))
    }

    /// The node's verdicts; the error instead where it has none.
    pub(crate) fn verdicts(&self, name: &str) -> Vec<Verdict> {
        let node = self.node(name);
        serde_json::from_value(node["verdicts"].clone())
            .unwrap_or_else(|e| panic!("{name}: {e}: {node}{}", self.stderr))
    }

    /// The worst verdict of each check.
    pub(crate) fn worst(&self, name: &str) -> BTreeMap<String, Status> {
        let mut worst = BTreeMap::new();
        for verdict in self.verdicts(name) {
            let status = worst.entry(verdict.id).or_insert(verdict.status);
            *status = (*status).max(verdict.status);
        }
        worst
    }
}

/// Starts `edgevirt preflight` on these hosts; `dir` keeps the inventory.
pub(crate) fn start(dir: &Path, hosts: &[(&str, Value)], more: &[&str]) -> Child {
    start_with(dir, hosts, more, &[])
}

fn start_with(
    dir: &Path,
    hosts: &[(&str, Value)],
    more: &[&str],
    environment: &[(&str, &OsStr)],
) -> Child {
    let hosts: BTreeMap<&str, &Value> = hosts.iter().map(|(name, host)| (*name, host)).collect();
    let inventory = dir.join("inventory.json");
    // JSON is YAML.
    let text = serde_json::to_string_pretty(&json!({"all": {"hosts": hosts}})).unwrap();
    fs::write(&inventory, text).expect("inventory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgevirt"));
    command
        .args(["preflight", "--output", "json", "--inventory"])
        .arg(&inventory)
        .args(more)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("edgevirt")
}

/// Waits for its end.
pub(crate) fn finish(child: Child) -> Report {
    let output = child.wait_with_output().expect("edgevirt");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "expected JSON: {e}: {}{stderr}",
            String::from_utf8_lossy(&output.stdout)
        )
    });
    Report {
        code: output.status.code(),
        document,
        stderr,
    }
}

/// Runs it to its end.
pub(crate) fn run(dir: &Path, hosts: &[(&str, Value)], more: &[&str]) -> Report {
    finish(start(dir, hosts, more))
}

/// Runs it to its end with these variables in its environment.
pub(crate) fn run_with(
    dir: &Path,
    hosts: &[(&str, Value)],
    more: &[&str],
    environment: &[(&str, &OsStr)],
) -> Report {
    finish(start_with(dir, hosts, more, environment))
}
