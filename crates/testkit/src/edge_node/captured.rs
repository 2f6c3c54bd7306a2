//! A node as it was, kept in a file: the tree that `edgevirt-probe capture` wrote and the facts that it gathered.
//!
//! `full` is kept whole, every other variant by what differs from it, as a JSON merge patch (RFC 7386): sixteen nodes
//! are some 150 KB, and a reader sees what makes the variant. A disk of 10 GiB is its size and its first bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::EdgeNode;

/// The variant that is kept whole.
const WHOLE: &str = "full";
/// Where a capture lives on the node while it is made.
const ON_NODE: &str = "/tmp/edge-node-capture";
/// Bytes of a device that are kept: labels of the variants' disks are in its first blocks.
const HEAD: u64 = 64 << 10;
/// What the process that captured is called, so that its number is no difference between variants. Above the kernel's
/// default for the highest number there is.
const OWN_PROCESS: &str = "99999";

/// The facts and the files of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Captured {
    /// What the probe gathered on the live node.
    pub facts: Value,
    /// What it read for that, by path.
    tree: BTreeMap<String, Entry>,
}

/// What is at a path.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Text(String),
    Link {
        link: String,
    },
    /// A folder with nothing in it.
    Folder {
        folder: bool,
    },
    /// A file that is no text; what follows `base64` are zeros.
    Bytes {
        size: u64,
        base64: String,
    },
}

/// The file of a variant.
#[must_use]
pub fn path(variant: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testbed/edge-node/captured")
        .join(format!("{variant}.json"))
}

impl Captured {
    /// Reads what was kept of a variant.
    ///
    /// # Errors
    /// When the file is not there, or is not as [`Captured::keep`] writes it.
    pub fn read(variant: &str) -> anyhow::Result<Self> {
        let mut value = document(WHOLE)?;
        if variant != WHOLE {
            json_patch::merge(&mut value, &document(variant)?);
        }
        serde_json::from_value(value).with_context(|| path(variant).display().to_string())
    }

    /// Writes the file of the variant. That of `full` must be written first.
    ///
    /// # Errors
    /// When `full` was not written yet, or this cannot be.
    pub fn keep(&self, variant: &str) -> anyhow::Result<()> {
        let mut value = serde_json::to_value(self)?;
        if variant != WHOLE {
            value = difference(&document(WHOLE)?, &value);
        }
        let path = path(variant);
        let text = serde_json::to_string_pretty(&value)? + "\n";
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Captures a booted node with the static probe.
    ///
    /// # Errors
    /// When the node or the probe refuses.
    pub fn of(node: &EdgeNode, probe: &Path) -> anyhow::Result<Self> {
        let program = fs::read(probe)
            .with_context(|| format!("{}: `make build` makes the probe", probe.display()))?;
        let run = |command: &str, input: Option<&str>| -> anyhow::Result<String> {
            let said = node.ssh_with(command, input);
            if !said.ok {
                bail!("{}: {command}: {}", node.variant(), said.stderr);
            }
            Ok(said.stdout)
        };
        let _ = run(
            &format!(
                "rm -rf {ON_NODE}; mkdir {ON_NODE} && cd {ON_NODE} && base64 -d >probe && chmod 700 probe"
            ),
            Some(&STANDARD.encode(program)),
        )?;
        let facts = run(&format!("cd / && {ON_NODE}/probe gather"), None)?;
        // Sizes of devices first, then the archive; nobody sends ten empty GiB.
        let answer = run(
            &format!(
                "set -e; cd {ON_NODE}; ./probe capture tree; cd tree; \
                 for f in dev/*; do [ ! -f \"$f\" ] || stat -c '%s %n' \"$f\"; done; echo; \
                 for f in dev/*; do [ ! -f \"$f\" ] || [ \"$(stat -c %s \"$f\")\" -le {HEAD} ] || truncate -s {HEAD} \"$f\"; done; \
                 tar -cf - . | gzip | base64; rm -rf {ON_NODE}"
            ),
            None,
        )?;
        let (sizes, archive) = answer
            .split_once("\n\n")
            .or_else(|| Some(("", answer.strip_prefix('\n')?)))
            .context("expected sizes, an empty line and an archive")?;
        let archive: String = archive.split_whitespace().collect();
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("tree.tgz"), STANDARD.decode(archive)?)?;
        let root = dir.path().join("tree");
        fs::create_dir(&root)?;
        let unpacked = Command::new("tar")
            .args(["-xzf", "../tree.tgz"])
            .current_dir(&root)
            .status()?;
        if !unpacked.success() {
            bail!("{}: tar ended with {unpacked}", node.variant());
        }
        let sizes: BTreeMap<String, u64> = sizes
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(size, path)| Some((format!("/{path}"), size.parse().ok()?)))
            .collect();
        let mut tree = BTreeMap::new();
        read_folder(&root, "", &sizes, &mut tree)?;
        Ok(Self {
            facts: serde_json::from_str(&facts)?,
            tree: with_one_number(tree),
        })
    }

    /// Writes the tree below `dir`, for `--root`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn unpack(&self, dir: &Path) -> anyhow::Result<()> {
        for (path, entry) in &self.tree {
            let to = dir.join(path.trim_start_matches('/'));
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            match entry {
                Entry::Text(text) => fs::write(&to, text),
                Entry::Link { link } => symlink(link, &to),
                Entry::Folder { .. } => fs::create_dir_all(&to),
                Entry::Bytes { size, base64 } => File::create(&to).and_then(|mut file| {
                    file.set_len(*size)?;
                    file.write_all(&STANDARD.decode(base64).unwrap_or_default())
                }),
            }
            .with_context(|| to.display().to_string())?;
        }
        Ok(())
    }
}

fn document(variant: &str) -> anyhow::Result<Value> {
    let path = path(variant);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "{}: `cargo xtask edge-node capture` makes it",
            path.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// The merge patch that makes `to` of `base`.
fn difference(base: &Value, to: &Value) -> Value {
    let (Value::Object(base), Value::Object(to)) = (base, to) else {
        return to.clone();
    };
    let gone = base.keys().filter(|key| !to.contains_key(*key));
    let mut patch: serde_json::Map<String, Value> =
        gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in to {
        match base.get(key) {
            Some(old) if old == value => {}
            Some(old) => {
                patch.insert(key.clone(), difference(old, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

fn read_folder(
    root: &Path,
    folder: &str,
    sizes: &BTreeMap<String, u64>,
    into: &mut BTreeMap<String, Entry>,
) -> anyhow::Result<()> {
    let mut empty = true;
    for entry in fs::read_dir(root.join(folder.trim_start_matches('/')))? {
        let entry = entry?;
        empty = false;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        let found = if kind.is_dir() {
            read_folder(root, &path, sizes, into)?;
            continue;
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path())?.to_string_lossy().into_owned();
            Entry::Link { link }
        } else {
            let content = fs::read(entry.path())?;
            match String::from_utf8(content) {
                Ok(text) if path.starts_with("/boot/config-") => Entry::Text(options_set(&text)),
                Ok(text) if !text.contains('\0') => Entry::Text(text),
                Ok(text) => bytes(text.as_bytes(), sizes.get(&path)),
                Err(error) => bytes(error.as_bytes(), sizes.get(&path)),
            }
        };
        into.insert(path, found);
    }
    if empty && !folder.is_empty() {
        into.insert(folder.to_owned(), Entry::Folder { folder: true });
    }
    Ok(())
}

/// A kernel's configuration without its comments, which are half of it and say what is not set.
fn options_set(text: &str) -> String {
    let set = text.lines().filter(|line| line.starts_with("CONFIG_"));
    set.fold(String::new(), |all, line| all + line + "\n")
}

fn bytes(content: &[u8], size: Option<&u64>) -> Entry {
    let end = content.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    Entry::Bytes {
        size: size.copied().unwrap_or(content.len() as u64),
        base64: STANDARD.encode(&content[..end]),
    }
}

/// Gives the process that captured the same number in every capture.
fn with_one_number(tree: BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    let Some(Entry::Link { link: own }) = tree.get("/proc/self").cloned() else {
        return tree;
    };
    let below = format!("/proc/{own}/");
    let named = |(path, entry): (String, Entry)| {
        let entry = match entry {
            Entry::Link { link } if path == "/proc/self" && link == own => Entry::Link {
                link: OWN_PROCESS.to_owned(),
            },
            Entry::Link { .. } if path == "/proc/thread-self" => Entry::Link {
                link: format!("{OWN_PROCESS}/task/{OWN_PROCESS}"),
            },
            other => other,
        };
        match path.strip_prefix(&below) {
            Some(rest) => (format!("/proc/{OWN_PROCESS}/{rest}"), entry),
            None => (path, entry),
        }
    };
    tree.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_makes_the_variant_again() {
        let base =
            json!({"facts": {"a": 1, "b": [1]}, "tree": {"/x": "text", "/y": {"link": "x"}}});
        for to in [
            json!({"facts": {"a": 2, "b": []}, "tree": {"/x": {"link": "y"}, "/z": {"folder": true}}}),
            json!({"facts": {}, "tree": {"/x": "text", "/y": "now text"}}),
            base.clone(),
        ] {
            let mut again = base.clone();
            json_patch::merge(&mut again, &difference(&base, &to));
            assert_eq!(again, to);
        }
        assert_eq!(difference(&base, &base), json!({}));
    }

    #[test]
    fn a_large_empty_disk_is_a_few_bytes() {
        let Entry::Bytes { size, base64 } = bytes(&[1, 0, 0], Some(&(10 << 30))) else {
            panic!("no text");
        };
        assert_eq!((size, base64.as_str()), (10 << 30, "AQ=="));
    }
}
