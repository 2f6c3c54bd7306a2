//! /proc/cpuinfo of x86 (arch/x86/kernel/cpu/proc.c).

use std::collections::BTreeSet;

use super::text::field;

/// What /proc/cpuinfo says: of the first processor unless something else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuInfo {
    /// `vendor_id`, for example `GenuineIntel`.
    pub vendor_id: Option<String>,
    /// `model name`.
    pub model_name: Option<String>,
    /// `cpu family`.
    pub family: Option<u32>,
    /// `model`.
    pub model: Option<u32>,
    /// `stepping`.
    pub stepping: Option<u32>,
    /// `microcode`, as the kernel prints it (hexadecimal after `0x`).
    pub microcode: Option<String>,
    /// `flags` that every processor has, in the first one's order.
    pub flags: Vec<String>,
    /// Logical processors.
    pub processors: u32,
    /// Sockets, from the distinct values of `physical id`; 0 when none is named.
    pub sockets: u32,
    /// Physical cores, from the distinct pairs of `physical id` and `core id`; 0
    /// when none is named.
    pub cores: u32,
    /// Distinct values of `microcode`: more than one
    /// value means that an update did not reach every core.
    pub microcodes: BTreeSet<String>,
}

/// Reads /proc/cpuinfo.
#[must_use]
pub fn cpuinfo(text: &str) -> CpuInfo {
    // Each processor's lines end with an empty one.
    let blocks: Vec<&str> = text
        .split("\n\n")
        .filter(|block| field(block, "processor").is_some())
        .collect();
    let first = blocks.first().copied().unwrap_or_default();
    let words = |block| -> Vec<&str> {
        field(block, "flags")
            .unwrap_or_default()
            .split_whitespace()
            .collect()
    };
    let mut flags = words(first);
    let mut last = field(first, "flags");
    for block in &blocks {
        // They are long and nearly always the same: compared before they are split.
        let theirs = field(block, "flags");
        if theirs != last {
            let theirs: BTreeSet<&str> = words(block).into_iter().collect();
            flags.retain(|flag| theirs.contains(flag));
        }
        last = theirs;
    }
    let small = |key| field(first, key).and_then(|value| value.parse().ok());
    let all = |keys: &[&str]| -> BTreeSet<String> {
        let values = |block: &&str| {
            let values: Option<Vec<&str>> = keys.iter().map(|key| field(block, key)).collect();
            values.map(|values| values.join(" "))
        };
        blocks.iter().filter_map(values).collect()
    };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    CpuInfo {
        vendor_id: field(first, "vendor_id").map(str::to_owned),
        model_name: field(first, "model name").map(str::to_owned),
        family: small("cpu family"),
        model: small("model"),
        stepping: small("stepping"),
        microcode: field(first, "microcode").map(str::to_owned),
        flags: flags.into_iter().map(str::to_owned).collect(),
        processors: count(blocks.len()),
        sockets: count(all(&["physical id"]).len()),
        cores: count(all(&["physical id", "core id"]).len()),
        microcodes: all(&["microcode"]),
    }
}

/// Distinct interrupt chips of /proc/interrupts: `IO-APIC`, `PCI-MSIX-0000:00:02.0`,
/// and with `IR-` before them when an IOMMU remaps their interrupts
/// (drivers/iommu/intel/irq_remapping.c, drivers/iommu/amd/iommu.c). The chip
/// is the first word after the counts of the CPUs; only numbered interrupts have one.
#[must_use]
pub fn interrupt_chips(interrupts: &str) -> BTreeSet<String> {
    let cpus = interrupts
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter(|word| word.starts_with("CPU"))
        .count();
    interrupts
        .lines()
        .skip(1)
        .filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            number.trim().parse::<u32>().ok()?;
            rest.split_whitespace().nth(cpus).map(str::to_owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\n\
        model name\t: Xeon: Gold\nmicrocode\t: 0xd0003a5\nphysical id\t: 0\ncore id\t: 0\nflags\t\t: fpu vmx x\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\nmicrocode\t: 0xd0003a4\n\
        physical id\t: 1\ncore id\t: 0\nflags\t\t: fpu x\n\n";

    #[test]
    fn two_sockets_are_told_apart_and_the_first_processor_speaks() {
        let cpu = cpuinfo(TWO);
        assert_eq!(cpu.processors, 2);
        assert_eq!(cpu.sockets, 2);
        assert_eq!(cpu.model_name.as_deref(), Some("Xeon: Gold"));
        assert_eq!(cpu.cores, 2);
        assert_eq!(cpu.flags, ["fpu", "x"], "only what every CPU has");
        assert_eq!(cpu.family, Some(6));
        assert_eq!(cpu.microcodes.len(), 2);
    }

    #[test]
    fn garbage_is_no_cpu() {
        assert_eq!(cpuinfo("\0\n::\n"), CpuInfo::default());
    }

    #[test]
    fn the_chip_of_an_interrupt_stands_after_the_counts() {
        let text = "           CPU0 CPU1\n  0:   11 0 IR-IO-APIC    2-edge  timer\n 25:  3 0 IR-PCI-MSIX-0000:00:02.0  0-edge  eth0\nNMI: 0 0 Non-maskable\n 26: 1\n";
        let chips: Vec<_> = interrupt_chips(text).into_iter().collect();
        assert_eq!(chips, ["IR-IO-APIC", "IR-PCI-MSIX-0000:00:02.0"]);
        assert!(interrupt_chips("").is_empty());
    }
}
