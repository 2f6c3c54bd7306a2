//! The processors.

use hardware::facts::{Cpu, CpuVendor};
use hardware::parse::cpu::cpuinfo;

use crate::tree::Tree;

const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";

pub(super) fn cpu(tree: &Tree) -> Cpu {
    let text = tree.expected("/proc/cpuinfo").unwrap_or_default();
    let info = cpuinfo(&text);
    if !text.is_empty() && info.processors == 0 {
        tree.note("/proc/cpuinfo", &"no processor in it");
    }
    let microcode = tree
        .line("/sys/devices/system/cpu/cpu0/microcode/version")
        .or(info.microcode);
    let vulnerabilities = tree
        .list(VULNERABILITIES)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| {
            let text = tree.line(&format!("{VULNERABILITIES}/{name}"))?;
            Some((name, text))
        })
        .collect();
    Cpu {
        vendor: CpuVendor::from_id(info.vendor_id.as_deref().unwrap_or_default()),
        model: info.model_name.unwrap_or_default(),
        family: info.family,
        model_number: info.model,
        stepping: info.stepping,
        flags: info.flags,
        logical: info.processors,
        sockets: info.sockets,
        cores: info.cores,
        microcode,
        microcode_mixed: match info.microcodes.len() {
            0 | 1 => Vec::new(),
            _ => info.microcodes.into_iter().collect(),
        },
        vulnerabilities,
    }
}
