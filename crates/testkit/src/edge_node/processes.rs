//! What nodes leave when the process that started them could not clean up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::run_root;

/// QEMU ends at once when it is killed; a processor that is very busy may need a while.
const END: Duration = Duration::from_secs(10);

/// Kills every node of this machine, whoever started it, and removes what they wrote. Gives the directories.
///
/// # Errors
/// When a node does not end.
pub fn stop_all() -> anyhow::Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(run_root()) else {
        return Ok(Vec::new());
    };
    let dirs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    for dir in &dirs {
        stop(dir)?;
    }
    Ok(dirs)
}

/// Kills the node of one variant and port, as `full-2222`, whoever started it, and removes what it wrote. Gives its
/// directory.
///
/// # Errors
/// When there is no such node, with the names of those there are; when it does not end.
pub fn stop_one(name: &str) -> anyhow::Result<PathBuf> {
    let dir = run_root().join(name);
    let names: Vec<String> = fs::read_dir(run_root())
        .map(|entries| {
            let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    if !names.iter().any(|known| known == name) {
        let there = match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        bail!(
            "expected a node by its variant and port, such as full-2222; found {name:?}; there are: {there}"
        );
    }
    stop(&dir)?;
    Ok(dir)
}

/// Kills the node of one directory, if it still runs, and removes what it wrote.
///
/// # Errors
/// When it does not end.
pub fn stop(dir: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + END;
    loop {
        let found = running(dir);
        if found.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("processes {found:?} of {} do not end", dir.display());
        }
        let status = Command::new("kill").arg("-KILL").args(&found).status();
        let _ = status.context("kill is not there; it is part of procps")?;
        std::thread::sleep(Duration::from_millis(50));
    }
    remove(dir);
    Ok(())
}

/// Ids of processes whose words name a file in the directory: QEMU has its pidfile there.
#[must_use]
pub fn running(dir: &Path) -> Vec<String> {
    let trace = format!("{}/pid", dir.display());
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words
                .split(|byte| *byte == 0)
                .any(|word| word == trace.as_bytes())
        })
        .collect()
}

/// Removes a node's directory, and the one above with the last.
pub(super) fn remove(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
    let _ = fs::remove_dir(run_root());
}
