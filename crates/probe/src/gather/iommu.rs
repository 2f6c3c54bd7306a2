//! The IOMMU: the firmware's tables, the units in use, their groups.

use hardware::facts::{AcpiTable, Iommu, IommuGroup, IommuUnit};
use hardware::parse::{acpi, cpu};

use crate::tree::Tree;

const TABLES: &str = "/sys/firmware/acpi/tables";
const UNITS: &str = "/sys/class/iommu";
const GROUPS: &str = "/sys/kernel/iommu_groups";

pub(super) fn iommu(tree: &Tree) -> Iommu {
    let listed = tree.list(TABLES);
    let acpi = ["DMAR", "IVRS"]
        .into_iter()
        .filter(|name| listed.iter().flatten().any(|found| found == name))
        .map(|name| table(tree, name))
        .collect();
    let chips = tree
        .expected("/proc/interrupts")
        .map(|text| cpu::interrupt_chips(&text).into_iter().collect());
    Iommu {
        acpi_listed: listed.is_some(),
        acpi,
        units: units(tree),
        groups: groups(tree),
        interrupt_chips: chips,
        allow_unsafe_interrupts: tree
            .line("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"),
        unsafe_noiommu: tree.line("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"),
    }
}

fn table(tree: &Tree, name: &str) -> AcpiTable {
    let path = format!("{TABLES}/{name}");
    let bytes = tree.bytes(&path);
    let mut table = AcpiTable {
        name: name.to_owned(),
        bytes: bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
        path,
        ..AcpiTable::default()
    };
    let bytes = bytes.unwrap_or_default();
    let count = |units: &[(u16, u64)]| u32::try_from(units.len()).ok();
    if let Some(dmar) = acpi::dmar(&bytes) {
        table.checksum_ok = Some(dmar.sound);
        table.flags = Some(dmar.flags);
        table.address_width = Some(dmar.address_width);
        table.hardware_units = count(&dmar.units);
    } else if let Some(ivrs) = acpi::ivrs(&bytes) {
        table.checksum_ok = Some(ivrs.sound);
        table.address_width = Some(ivrs.address_width);
        table.iv_info = Some(ivrs.info);
        table.hardware_units = count(&ivrs.units);
    } else if !bytes.is_empty() {
        tree.note(&table.path, &format!("its bytes are no {name} table"));
    }
    table
}

/// Units in use.
fn units(tree: &Tree) -> Option<Vec<IommuUnit>> {
    let names = listed(tree, UNITS, "/sys/class")?;
    let units = names.into_iter().map(|name| {
        let register = |path: &str| tree.line(&format!("{UNITS}/{name}/{path}"));
        IommuUnit {
            cap: register("intel-iommu/cap").or_else(|| register("amd-iommu/cap")),
            ecap: register("intel-iommu/ecap"),
            features: register("amd-iommu/features"),
            name,
        }
    });
    Some(units.collect())
}

fn groups(tree: &Tree) -> Option<Vec<IommuGroup>> {
    let names = listed(tree, GROUPS, "/sys/kernel")?;
    let mut groups: Vec<IommuGroup> = names
        .into_iter()
        .filter_map(|name| {
            let folder = format!("{GROUPS}/{name}");
            Some(IommuGroup {
                id: name.parse().ok()?,
                kind: tree.line(&format!("{folder}/type")),
                devices: tree.list(&format!("{folder}/devices")).unwrap_or_default(),
            })
        })
        .collect();
    groups.sort_by_key(|group| group.id);
    Some(groups)
}

/// Entries of `path`. A kernel that has IOMMU support, but no IOMMU, has the
/// empty folder; one without support has none: both have no entries. Only where
/// the folder above is missing too is nothing known.
fn listed(tree: &Tree, path: &str, above: &str) -> Option<Vec<String>> {
    match tree.list(path) {
        Some(names) => Some(names),
        None if !tree.exists(path) && tree.exists(above) => Some(Vec::new()),
        None => None,
    }
}
