//! Memory, hugepages, NUMA nodes, swap, free space.

use serde::{Deserialize, Serialize};

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// MemTotal of /proc/meminfo, bytes.
    pub total: Option<u64>,
    /// MemAvailable of /proc/meminfo, bytes.
    pub available: Option<u64>,
    /// Hugepagesize of /proc/meminfo, bytes: the default size.
    pub hugepage_size: Option<u64>,
    /// Hugepages per NUMA node and size, from /sys/devices/system/node/nodeN/hugepages;
    /// without NUMA from /sys/kernel/mm/hugepages.
    pub hugepages: Vec<Hugepages>,
    /// NUMA nodes.
    pub nodes: Vec<NumaNode>,
    /// RLIMIT_MEMLOCK of a root process, bytes; `u64::MAX` is unlimited.
    pub memlock: Option<u64>,
}

/// Hugepages of one size on one NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hugepages {
    /// NUMA node; `None` for the whole machine.
    pub node: Option<u32>,
    /// Size of a page, bytes.
    pub size: u64,
    /// nr_hugepages.
    pub total: u64,
    /// free_hugepages.
    pub free: u64,
    /// The folder read.
    pub path: String,
}

/// A NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NumaNode {
    /// Its number.
    pub id: u32,
    /// `cpulist`: `0-15,32-47`.
    pub cpus: String,
    /// MemTotal of its meminfo, bytes.
    pub memory: Option<u64>,
}

/// A swap area of /proc/swaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swap {
    /// File or device.
    pub path: String,
    /// `partition` or `file`.
    pub kind: String,
    /// Size, bytes.
    pub size: u64,
    /// In use, bytes.
    pub used: u64,
}

/// Free space of the file system of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    /// The directory.
    pub path: String,
    /// Bytes an ordinary process may still write there.
    pub available: u64,
    /// Size of the file system, bytes.
    pub total: u64,
    /// The file system is mounted read-only.
    pub read_only: bool,
}
