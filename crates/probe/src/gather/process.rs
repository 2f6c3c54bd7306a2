//! Running processes: their names, and who holds a socket.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::Tree;

/// Most open files looked at, over all processes: a machine with more than that
/// loses the names of some sockets' holders, not time.
const FILES: usize = 200_000;

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// Its id.
    pub(super) pid: u32,
    /// Its name, at most 15 bytes (`comm`).
    pub(super) name: String,
}

/// Every process of /proc. One that ends meanwhile is left out.
pub(super) fn all(tree: &Tree) -> Vec<Process> {
    tree.list("/proc")
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter_map(|pid: u32| {
            let name = tree.quiet_line(&format!("/proc/{pid}/comm"))?;
            Some(Process { pid, name })
        })
        .collect()
}

/// Who holds each of the sockets, by inode. Needs root for others' processes.
pub(super) fn holders<'a>(
    tree: &Tree,
    processes: &'a [Process],
    sockets: &BTreeSet<u64>,
) -> BTreeMap<u64, &'a Process> {
    let mut found = BTreeMap::new();
    let mut left = FILES;
    if !tree.live() || sockets.is_empty() {
        return found;
    }
    for process in processes {
        let folder = format!("/proc/{}/fd", process.pid);
        let Ok(files) = std::fs::read_dir(&folder) else {
            continue;
        };
        for file in files.filter_map(Result::ok) {
            left = left.saturating_sub(1);
            if left == 0 || found.len() == sockets.len() {
                return found;
            }
            let Ok(target) = std::fs::read_link(file.path()) else {
                continue;
            };
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'))
                .and_then(|number| number.parse().ok())
                .filter(|inode| sockets.contains(inode));
            if let Some(inode) = inode {
                found.entry(inode).or_insert(process);
            }
        }
    }
    found
}
