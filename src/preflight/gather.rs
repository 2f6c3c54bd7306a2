//! Reads the facts of this machine. Nothing here judges.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hardware::{CpuVendor, Facts, Kvm};
use host::kvm::KvmVerdict;

/// How long a guest of a few instructions may take before KVM counts as broken.
const KVM_TIME_LIMIT: Duration = Duration::from_secs(3);

/// Facts of this machine; `disk` is the directory that must have room.
pub(crate) fn facts(disk: &Path) -> anyhow::Result<Facts> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let space = rustix::fs::statvfs(disk)
        .with_context(|| format!("cannot ask for the free space of {}", disk.display()))?;
    Ok(Facts {
        hostname: trimmed("/proc/sys/kernel/hostname"),
        kernel: trimmed("/proc/sys/kernel/osrelease"),
        cpu_model: cpu_field(&cpuinfo, "model name")
            .unwrap_or_default()
            .to_owned(),
        cpu_flags: cpu_field(&cpuinfo, "flags")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        cpu_vendor: vendor(cpu_field(&cpuinfo, "vendor_id").unwrap_or_default()),
        cpus: u32::try_from(
            cpuinfo
                .lines()
                .filter(|l| l.starts_with("processor"))
                .count(),
        )
        .unwrap_or(u32::MAX),
        memory_total: meminfo_bytes(&meminfo, "MemTotal").unwrap_or(0),
        memory_available: meminfo_bytes(&meminfo, "MemAvailable").unwrap_or(0),
        disk_path: disk.display().to_string(),
        disk_available: space.f_bavail.saturating_mul(space.f_frsize),
        kvm: kvm(),
        tun: fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .is_ok(),
    })
}

fn trimmed(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn kvm() -> Kvm {
    match host::kvm::probe(KVM_TIME_LIMIT) {
        KvmVerdict::Works => Kvm::Works,
        KvmVerdict::Missing => Kvm::Missing,
        KvmVerdict::Denied(why) => Kvm::Refused(why),
        KvmVerdict::OpensButCannotRun(why) => Kvm::CannotRun(why),
        KvmVerdict::ProbeFailed(why) => Kvm::Refused(format!("the probe failed: {why}")),
    }
}

fn vendor(id: &str) -> CpuVendor {
    match id {
        "GenuineIntel" => CpuVendor::Intel,
        "AuthenticAMD" | "HygonGenuine" => CpuVendor::Amd,
        _ => CpuVendor::Other,
    }
}

/// First value of a `key : value` line of /proc/cpuinfo.
fn cpu_field<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// A `Key: n kB` line of /proc/meminfo, in bytes.
fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| {
        line.strip_prefix(key)
            .is_some_and(|rest| rest.starts_with(':'))
    })?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_cpuinfo_are_found_whatever_the_spacing() {
        let text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu svm\n";
        assert_eq!(cpu_field(text, "flags"), Some("fpu svm"));
        assert_eq!(
            vendor(cpu_field(text, "vendor_id").unwrap_or("")),
            CpuVendor::Amd
        );
        assert_eq!(cpu_field(text, "absent"), None);
    }

    #[test]
    fn memory_is_read_in_bytes_and_garbage_is_none() {
        assert_eq!(meminfo_bytes("MemTotal:  2 kB\n", "MemTotal"), Some(2048));
        assert_eq!(meminfo_bytes("MemTotal:  x kB\n", "MemTotal"), None);
        assert_eq!(meminfo_bytes("MemTotalX: 2 kB\n", "MemTotal"), None);
    }
}
