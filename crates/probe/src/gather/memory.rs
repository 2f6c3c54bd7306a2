//! Memory, hugepages, NUMA nodes, swap, free space.

use std::path::PathBuf;

use hardware::facts::{Hugepages, Memory, NumaNode, Space, Swap};
use hardware::parse::{memory as parse, system};
use rustix::fs::StatVfsMountFlags;

use crate::tree::Tree;

const NODES: &str = "/sys/devices/system/node";

pub(super) fn memory(tree: &Tree) -> Memory {
    let info = tree.expected("/proc/meminfo").unwrap_or_default();
    if !info.is_empty() && parse::meminfo_bytes(&info, "MemTotal").is_none() {
        tree.note("/proc/meminfo", &"no line MemTotal in it");
    }
    let mut nodes: Vec<NumaNode> = tree
        .list(NODES)
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .map(|id: u32| {
            let file = |name: &str| tree.text(&format!("{NODES}/node{id}/{name}"));
            NumaNode {
                id,
                cpus: file("cpulist").unwrap_or_default().trim().to_owned(),
                memory: file("meminfo").and_then(|text| parse::meminfo_bytes(&text, "MemTotal")),
            }
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    let mut pages: Vec<Hugepages> = nodes
        .iter()
        .flat_map(|node| {
            let folder = format!("{NODES}/node{}/hugepages", node.id);
            hugepages(tree, Some(node.id), &folder)
        })
        .collect();
    if pages.is_empty() {
        pages = hugepages(tree, None, "/sys/kernel/mm/hugepages");
    }
    let limits = tree.text("/proc/self/limits").unwrap_or_default();
    Memory {
        total: parse::meminfo_bytes(&info, "MemTotal"),
        available: parse::meminfo_bytes(&info, "MemAvailable"),
        hugepage_size: parse::meminfo_bytes(&info, "Hugepagesize"),
        hugepages: pages,
        nodes,
        memlock: system::limit(&limits, "Max locked memory"),
    }
}

fn hugepages(tree: &Tree, node: Option<u32>, folder: &str) -> Vec<Hugepages> {
    tree.list(folder)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| {
            let size = parse::hugepage_size(&name)?;
            let path = format!("{folder}/{name}");
            Some(Hugepages {
                node,
                size,
                total: tree.number(&format!("{path}/nr_hugepages"))?,
                free: tree.number(&format!("{path}/free_hugepages"))?,
                path,
            })
        })
        .collect()
}

pub(super) fn swaps(tree: &Tree) -> Option<Vec<Swap>> {
    // A kernel without support for swap has no such file, and no swap.
    match tree.text("/proc/swaps") {
        Some(text) => {
            let found = parse::swaps(&text);
            if found.is_none() {
                tree.note("/proc/swaps", &"no list of swap areas");
            }
            found
        }
        None => tree.exists("/proc/meminfo").then(Vec::new),
    }
}

/// Free space of each directory or, where it does not exist yet, of the
/// nearest one above it: that is where it will be made.
pub(super) fn space(tree: &Tree, directories: &[PathBuf]) -> Vec<Space> {
    if !tree.live() {
        return Vec::new();
    }
    directories
        .iter()
        .filter_map(|directory| {
            let path = directory.display().to_string();
            let existing = directory.ancestors().find(|above| above.exists())?;
            match rustix::fs::statvfs(existing) {
                Ok(stat) => Some(Space {
                    path,
                    available: stat.f_bavail.saturating_mul(stat.f_frsize),
                    total: stat.f_blocks.saturating_mul(stat.f_frsize),
                    read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
                }),
                Err(error) => {
                    tree.note(&path, &error);
                    None
                }
            }
        })
        .collect()
}
