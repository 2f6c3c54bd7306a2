//! `cargo xtask check`: the house rules that no compiler holds.
//!
//! - arrows between crates point one way, and pure crates stay pure;
//! - every source file says what it is for and stays small;
//! - nothing in the repository names a path or host of somebody's machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// What a crate of ours may depend on, of our own crates. A crate that is not
/// listed may not exist: whoever adds one decides where it stands.
const ARROWS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("hardware", &[]),
    ("machine", &["api"]),
    ("decide", &["api", "machine"]),
    ("diagnose", &["api", "hardware", "machine"]),
    ("host", &[]),
    ("oci", &[]),
    ("probe", &["hardware", "host"]),
    ("trust", &[]),
    ("kube-kit", &["api", "trust"]),
    ("container-disk", &[]),
    ("guest-seed", &[]),
    ("pause", &[]),
    (
        "virt-operator",
        &["api", "machine", "decide", "host", "kube-kit"],
    ),
    ("virt-api", &["api", "machine", "decide", "kube-kit"]),
    ("virt-controller", &["api", "machine", "decide", "kube-kit"]),
    (
        "virt-handler",
        &["api", "machine", "decide", "host", "kube-kit"],
    ),
    ("virt-launcher", &["api", "machine", "host"]),
    ("imaging", &[]),
    (
        "cdi",
        &["api", "decide", "kube-kit", "host", "imaging", "oci"],
    ),
    ("virtctl", &["api", "trust"]),
    (
        "edgevirt-bin",
        &[
            "api",
            "host",
            "kube-kit",
            "virt-operator",
            "virt-api",
            "virt-controller",
            "virt-handler",
            "virt-launcher",
            "cdi",
        ],
    ),
    ("testkit", &["api", "oci"]),
    (
        "edgevirt",
        &[
            "api", "diagnose", "hardware", "host", "kube-kit", "oci", "probe", "trust",
        ],
    ),
    ("xtask", &["api", "decide", "hardware", "oci", "testkit"]),
    ("bench", &["api", "kube-kit"]),
];

/// Crates that are functions over values.
const PURE: [&str; 5] = ["api", "machine", "decide", "hardware", "diagnose"];

/// Libraries that do I/O or know the time; no pure crate may reach them.
const IMPURE: [&str; 8] = [
    "tokio",
    "kube",
    "kube-client",
    "hyper",
    "axum",
    "rustix",
    "nix",
    "reqwest",
];

/// Longest source file, in lines; tables of data are not Rust and not counted.
const CEILING: usize = 800;

/// Words that would tie the repository to one machine or registry.
const FORBIDDEN: [&str; 6] = [
    "/work/main",
    "/work/shared",
    "deb.debian.org",
    "proxy.golang.org",
    "index.crates.io",
    "files.pythonhosted.org",
];

/// Runs every rule and lists every breach.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut breaches = arrows()?;
    breaches.extend(sources()?);
    if breaches.is_empty() {
        return Ok(());
    }
    bail!(
        "{} breaches of the house rules:\n{}",
        breaches.len(),
        breaches.join("\n")
    )
}

fn arrows() -> anyhow::Result<Vec<String>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--locked"])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let graph = Graph::read(&serde_json::from_slice(&output.stdout)?)?;
    Ok(graph.breaches())
}

/// Who depends on whom, by normal (not dev, not build) dependencies.
#[derive(Debug, Default)]
struct Graph {
    ours: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read(metadata: &Value) -> anyhow::Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let names: BTreeMap<String, String> = list(&metadata["packages"])
            .iter()
            .map(|p| (text(&p["id"]), text(&p["name"])))
            .collect();
        let name = |id: &Value| names.get(id.as_str().unwrap_or_default()).cloned();
        let mut graph = Self {
            ours: list(&metadata["workspace_members"])
                .iter()
                .filter_map(name)
                .collect(),
            ..Self::default()
        };
        for node in list(&metadata["resolve"]["nodes"]) {
            let from = name(&node["id"]).context("a node without a package")?;
            for dep in list(&node["deps"]) {
                let normal = list(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null());
                if let (true, Some(to)) = (normal, name(&dep["pkg"])) {
                    graph.edges.entry(from.clone()).or_default().insert(to);
                }
            }
        }
        Ok(graph)
    }

    fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        for from in &self.ours {
            let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == from) else {
                breaches.push(format!("crate {from}: not in the table of arrows"));
                continue;
            };
            for to in self.edges.get(from).into_iter().flatten() {
                if self.ours.contains(to) && !allowed.contains(&to.as_str()) {
                    breaches.push(format!("crate {from} may not depend on {to}"));
                }
            }
        }
        for pure in PURE {
            let reached = self.reach(pure);
            for impure in IMPURE {
                if reached.contains(impure) {
                    breaches.push(format!("crate {pure} is pure, but reaches {impure}"));
                }
            }
        }
        breaches
    }

    fn reach(&self, from: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(name) = open.pop() {
            for to in self.edges.get(&name).into_iter().flatten() {
                if reached.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        reached
    }
}

fn sources() -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .context("cannot run git ls-files")?;
    let files = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut breaches = Vec::new();
    for path in files
        .split('\0')
        .filter(|p| !p.is_empty())
        .map(PathBuf::from)
    {
        // A file that was deleted and not committed, or one that is no text, has no lines.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        breaches.extend(judge(&path, &text));
    }
    Ok(breaches)
}

fn judge(path: &Path, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let name = path.display();
    if path.extension().is_some_and(|e| e == "rs") {
        let lines = text.lines().count();
        if lines > CEILING {
            breaches.push(format!("{name}: {lines} lines, the ceiling is {CEILING}"));
        }
        if !text.starts_with("//!") {
            breaches.push(format!(
                "{name}: expected to begin with its module doc (//!)"
            ));
        }
    }
    if path.ends_with("xtask/src/check.rs") {
        return breaches;
    }
    for word in FORBIDDEN {
        if let Some((at, _)) = text
            .lines()
            .enumerate()
            .find(|(_, line)| line.contains(word))
        {
            breaches.push(format!("{name}:{}: names {word}", at + 1));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn graph(ours: &[&str], edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph {
            ours: ours.iter().map(|s| (*s).to_owned()).collect(),
            ..Graph::default()
        };
        for (from, to) in edges {
            graph
                .edges
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        graph
    }

    #[test]
    fn an_arrow_that_points_back_is_a_breach() {
        let breaches = graph(&["api", "decide"], &[("api", "decide")]).breaches();
        assert_eq!(breaches, ["crate api may not depend on decide"]);
    }

    #[test]
    fn a_pure_crate_that_reaches_a_runtime_through_another_is_a_breach() {
        let breaches = graph(
            &["decide"],
            &[("decide", "innocent"), ("innocent", "tokio")],
        )
        .breaches();
        assert_eq!(breaches, ["crate decide is pure, but reaches tokio"]);
    }

    #[test]
    fn a_crate_nobody_placed_is_a_breach() {
        assert_eq!(graph(&["new"], &[]).breaches().len(), 1);
    }

    #[test]
    fn a_long_file_and_one_without_a_module_doc_are_breaches() {
        let long = format!("//! x\n{}", "\n".repeat(CEILING));
        assert_eq!(judge(Path::new("a.rs"), &long).len(), 1);
        assert_eq!(judge(Path::new("a.rs"), "fn main() {}").len(), 1);
        assert!(judge(Path::new("a.rs"), "//! x\n").is_empty());
    }

    #[test]
    fn a_path_of_one_machine_is_a_breach() {
        let text = format!("see {}\n", FORBIDDEN[0]);
        assert_eq!(judge(Path::new("a.md"), &text).len(), 1);
    }
}
