//! The processors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The processors, from /proc/cpuinfo and /sys/devices/system/cpu.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Who made it (`vendor_id`).
    pub vendor: CpuVendor,
    /// `model name` of the first CPU.
    pub model: String,
    /// `cpu family` of the first CPU.
    pub family: Option<u32>,
    /// `model` of the first CPU.
    pub model_number: Option<u32>,
    /// `stepping` of the first CPU.
    pub stepping: Option<u32>,
    /// `flags` that every CPU has.
    pub flags: Vec<String>,
    /// Logical CPUs.
    pub logical: u32,
    /// Sockets: distinct `physical id`s; 0 if not told.
    pub sockets: u32,
    /// Physical cores: distinct pairs of `physical id` and `core id`; 0 if not told.
    pub cores: u32,
    /// Microcode revision: /sys/devices/system/cpu/cpu0/microcode/version or `microcode` of cpuinfo.
    pub microcode: Option<String>,
    /// Distinct microcode revisions of all CPUs, when they differ.
    pub microcode_mixed: Vec<String>,
    /// Files of /sys/devices/system/cpu/vulnerabilities: name to text.
    pub vulnerabilities: BTreeMap<String, String>,
}

/// Who made the CPU, from `vendor_id` of /proc/cpuinfo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuVendor {
    /// GenuineIntel.
    Intel,
    /// AuthenticAMD or HygonGenuine.
    Amd,
    /// Anybody else.
    #[default]
    #[serde(other)]
    Other,
}

impl CpuVendor {
    /// The vendor that `vendor_id` names.
    #[must_use]
    pub fn from_id(id: &str) -> Self {
        match id {
            "GenuineIntel" => Self::Intel,
            "AuthenticAMD" | "HygonGenuine" => Self::Amd,
            _ => Self::Other,
        }
    }
}

impl Cpu {
    /// Every CPU has `flag`.
    #[must_use]
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }
}
