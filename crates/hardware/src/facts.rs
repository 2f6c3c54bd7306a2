//! What was read from a node, before any judgement.

use serde::{Deserialize, Serialize};

/// Facts of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Host name.
    pub hostname: String,
    /// Kernel release as `uname -r` prints it.
    pub kernel: String,
    /// `model name` of the first CPU in /proc/cpuinfo.
    pub cpu_model: String,
    /// Flags of the first CPU in /proc/cpuinfo.
    pub cpu_flags: Vec<String>,
    /// Who made the CPU.
    pub cpu_vendor: CpuVendor,
    /// Logical CPUs.
    pub cpus: u32,
    /// MemTotal of /proc/meminfo, bytes.
    pub memory_total: u64,
    /// MemAvailable of /proc/meminfo, bytes.
    pub memory_available: u64,
    /// Directory whose file system holds images and disks.
    pub disk_path: String,
    /// Bytes free there.
    pub disk_available: u64,
    /// What happened when a guest was run in /dev/kvm.
    pub kvm: Kvm,
    /// /dev/net/tun can be opened.
    pub tun: bool,
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
    Other,
}

/// What happened when a guest was run in /dev/kvm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "result", content = "detail")]
pub enum Kvm {
    /// Nobody tried.
    #[default]
    NotTried,
    /// There is no /dev/kvm.
    Missing,
    /// It cannot be opened or refuses a VM; the text says what failed.
    Refused(String),
    /// It opens, yet a guest does not run; the text says how far it got.
    CannotRun(String),
    /// A guest ran to its end.
    Works,
}
