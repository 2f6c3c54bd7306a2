//! The table of variants.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// How a node differs from the one that has everything, and what preflight must say of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// One line for people.
    pub what: String,
    /// The IOMMU in the machine.
    #[serde(default)]
    pub iommu: Iommu,
    /// What the kernel's command line says of the IOMMU.
    #[serde(default = "iommu_on")]
    pub kernel: Vec<String>,
    /// The NIC for guests.
    #[serde(default)]
    pub nic: Nic,
    /// The processor, in QEMU's words. EPYC is the one for which the emulator can do nested virtualization.
    #[serde(default = "epyc")]
    pub cpu: String,
    /// The SSH connection goes over the NIC for guests; there is no other.
    #[serde(default)]
    pub ssh_over_nic: bool,
    /// Kernel modules that are not installed.
    #[serde(default)]
    pub without: Vec<String>,
    /// How many huge pages of 2 MiB the kernel reserves.
    #[serde(default = "hugepages")]
    pub hugepages: u32,
    /// What the spare disk holds.
    #[serde(default)]
    pub disk: Disk,
    /// It boots from a disk of its own through the BIOS and GRUB, with Debian's programs; `kernel` and `hugepages` are
    /// then what /etc/default/grub of that disk says.
    #[serde(default)]
    pub own_disk: bool,
    /// What is asked of this node, as the inventory says it; with what is asked of all.
    #[serde(default)]
    pub asks: BTreeMap<String, serde_json::Value>,
    /// The status that a check must have, by its id; those of the node that has everything included. A check that is
    /// not named must not be `fail`.
    #[serde(default)]
    pub verdicts: BTreeMap<String, String>,
}

impl Variant {
    /// What is wrong with the statuses found, the worst of each check, by its id. A check of `but` is not compared.
    #[must_use]
    pub fn wrong(&self, found: &BTreeMap<String, String>, but: &[&str]) -> Vec<String> {
        let compared = |check: &&String| !but.contains(&check.as_str());
        let mut wrong = Vec::new();
        for (check, expected) in self.verdicts.iter().filter(|(check, _)| compared(check)) {
            let status = found.get(check).map_or("none", String::as_str);
            if status != expected {
                wrong.push(format!("{check}: expected {expected}, found {status}"));
            }
        }
        for (check, status) in found.iter().filter(|(check, _)| compared(check)) {
            if status == "fail" && !self.verdicts.contains_key(check) {
                wrong.push(format!("{check}: expected no fail, found one"));
            }
        }
        wrong
    }
}

/// The file: what holds for all, and the variants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    asks: BTreeMap<String, serde_json::Value>,
    verdicts: BTreeMap<String, String>,
    variants: BTreeMap<String, Variant>,
}

impl Table {
    /// The variants, each complete.
    fn complete(self) -> BTreeMap<String, Variant> {
        let mut variants = self.variants;
        for variant in variants.values_mut() {
            for (key, value) in &self.asks {
                let _ = variant
                    .asks
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
            for (check, status) in &self.verdicts {
                let _ = variant
                    .verdicts
                    .entry(check.clone())
                    .or_insert_with(|| status.clone());
            }
        }
        variants
    }
}

/// The IOMMU in the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Iommu {
    /// VT-d that remaps interrupts.
    #[default]
    Intel,
    /// VT-d that does not.
    IntelNoRemapping,
    /// AMD-Vi.
    Amd,
    /// None, as when the firmware has it switched off.
    None,
}

/// The NIC for guests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nic {
    /// Intel 82576: SR-IOV with seven virtual functions.
    #[default]
    Igb,
    /// Intel 82574: no SR-IOV.
    E1000e,
    /// Two functions of one device without ACS.
    E1000eTwoFunctions,
}

/// What the spare disk holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disk {
    /// Nothing.
    #[default]
    Empty,
    /// The label of a Ceph OSD.
    Bluestore,
    /// The label of an LVM physical volume.
    Lvm,
}

fn iommu_on() -> Vec<String> {
    vec!["intel_iommu=on".into(), "iommu=pt".into()]
}

fn epyc() -> String {
    "EPYC".into()
}

fn hugepages() -> u32 {
    16
}

/// Reads the table of this repository; it needs nothing that was built.
///
/// # Errors
/// When the table is not as expected.
pub fn table() -> anyhow::Result<BTreeMap<String, Variant>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/edge-node/variants.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let table: Table = serde_yaml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(table.complete())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_its_verdicts_are_statuses() {
        let table = table().unwrap();
        assert!(table.contains_key("full"));
        for (name, variant) in table {
            for (check, status) in variant.verdicts {
                let known = ["pass", "warn", "fail", "skip"].contains(&status.as_str());
                assert!(known, "{name}: {check}: {status}");
            }
        }
    }

    #[test]
    fn a_key_that_is_not_known_is_refused() {
        let text = "a: {what: x, verdicts: {}, iomu: none}";
        assert!(serde_yaml::from_str::<BTreeMap<String, Variant>>(text).is_err());
    }
}
