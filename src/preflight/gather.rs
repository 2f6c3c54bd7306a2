//! Reads the facts of this machine. Nothing here judges.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hardware::facts::{Attempt, Cpu, DeviceNode, Kernel, Kvm, Memory, Names, Space};
use hardware::{CpuVendor, Facts};
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
        schema: hardware::facts::SCHEMA,
        root: "/".to_owned(),
        names: Names {
            hostname: trimmed("/proc/sys/kernel/hostname"),
            ..Names::default()
        },
        kernel: Kernel {
            release: trimmed("/proc/sys/kernel/osrelease"),
            ..Kernel::default()
        },
        cpu: Cpu {
            vendor: CpuVendor::from_id(cpu_field(&cpuinfo, "vendor_id").unwrap_or_default()),
            model: cpu_field(&cpuinfo, "model name")
                .unwrap_or_default()
                .to_owned(),
            flags: cpu_field(&cpuinfo, "flags")
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            logical: u32::try_from(
                cpuinfo
                    .lines()
                    .filter(|l| l.starts_with("processor"))
                    .count(),
            )
            .unwrap_or(u32::MAX),
            ..Cpu::default()
        },
        memory: Memory {
            total: meminfo_bytes(&meminfo, "MemTotal"),
            available: meminfo_bytes(&meminfo, "MemAvailable"),
            ..Memory::default()
        },
        space: vec![Space {
            path: disk.display().to_string(),
            available: space.f_bavail.saturating_mul(space.f_frsize),
            total: space.f_blocks.saturating_mul(space.f_frsize),
            read_only: false,
        }],
        kvm: kvm(),
        devices: vec![tun()],
        ..Facts::default()
    })
}

fn tun() -> DeviceNode {
    let path = "/dev/net/tun";
    let open = match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Attempt::Worked,
        Err(error) => Attempt::failed(error.raw_os_error(), error.to_string()),
    };
    DeviceNode {
        path: path.to_owned(),
        present: Some(Path::new(path).exists()),
        open,
    }
}

fn trimmed(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn kvm() -> Kvm {
    let mut kvm = Kvm::default();
    kvm.device.present = Some(true);
    match host::kvm::probe(KVM_TIME_LIMIT) {
        KvmVerdict::Works => {
            kvm.device.open = Attempt::Worked;
            kvm.run = Attempt::Worked;
        }
        KvmVerdict::Missing => kvm.device.present = Some(false),
        KvmVerdict::Denied(why) => kvm.device.open = Attempt::failed(None, why),
        KvmVerdict::OpensButCannotRun(why) => {
            kvm.device.open = Attempt::Worked;
            kvm.run = Attempt::failed(None, why);
        }
        KvmVerdict::ProbeFailed(why) => {
            kvm.device.open = Attempt::failed(None, format!("the probe failed: {why}"));
        }
    }
    kvm
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
            CpuVendor::from_id(cpu_field(text, "vendor_id").unwrap_or("")),
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
