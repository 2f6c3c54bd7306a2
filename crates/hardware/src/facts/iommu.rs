//! The IOMMU: what firmware announces and what the kernel made of it.

use serde::{Deserialize, Serialize};

/// The IOMMU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Iommu {
    /// /sys/firmware/acpi/tables could be listed. A container hides it.
    pub acpi_listed: bool,
    /// The tables DMAR and IVRS, if firmware has them.
    pub acpi: Vec<AcpiTable>,
    /// Units in use: entries of /sys/class/iommu. `None`: not listed.
    pub units: Option<Vec<IommuUnit>>,
    /// Groups: entries of /sys/kernel/iommu_groups, by number. `None`: not listed.
    pub groups: Option<Vec<IommuGroup>>,
    /// Distinct interrupt chip names of /proc/interrupts (`IR-PCI-MSI`, `IO-APIC`). `None`: not read.
    pub interrupt_chips: Option<Vec<String>>,
    /// /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts. `None`: not loaded or not read.
    pub allow_unsafe_interrupts: Option<String>,
    /// /sys/module/vfio/parameters/enable_unsafe_noiommu_mode. `None`: not compiled in, not loaded or not read.
    pub unsafe_noiommu: Option<String>,
}

/// An ACPI table that announces an IOMMU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AcpiTable {
    /// `DMAR` (Intel) or `IVRS` (AMD).
    pub name: String,
    /// The file.
    pub path: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// The checksum over the table is right. `None`: the content was not read.
    pub checksum_ok: Option<bool>,
    /// DMAR: flags, byte 37. Bit 0 INTR_REMAP, bit 1 X2APIC_OPT_OUT, bit 2 DMA_CTRL_PLATFORM_OPT_IN.
    pub flags: Option<u8>,
    /// DMAR: host address width in bits (byte 36 plus one).
    pub address_width: Option<u8>,
    /// IVRS: IVinfo, bytes 36 to 39.
    pub iv_info: Option<u32>,
    /// Remapping hardware units (DRHD structures of DMAR, IVHD blocks of IVRS).
    pub hardware_units: Option<u32>,
}

/// A unit of /sys/class/iommu.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IommuUnit {
    /// `dmar0`, `ivhd0`, `smmu3.0x…`.
    pub name: String,
    /// Capability register, hexadecimal as sysfs has it: intel-iommu/cap or amd-iommu/cap.
    pub cap: Option<String>,
    /// intel-iommu/ecap, hexadecimal. Bit 3: interrupt remapping.
    pub ecap: Option<String>,
    /// amd-iommu/features, hexadecimal.
    pub features: Option<String>,
}

/// A group of /sys/kernel/iommu_groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IommuGroup {
    /// Its number.
    pub id: u32,
    /// Its `type`: DMA, DMA-FQ, identity, blocked. `None`: the kernel has no such file (before 5.11) or it was not read.
    pub kind: Option<String>,
    /// Addresses of its devices.
    pub devices: Vec<String>,
}

impl AcpiTable {
    /// DMAR says that the platform can remap interrupts (flag bit 0).
    #[must_use]
    pub fn interrupt_remapping(&self) -> Option<bool> {
        self.flags.map(|flags| flags & 1 != 0)
    }
}

impl IommuUnit {
    /// ecap bit 3 (IR) of an Intel unit.
    #[must_use]
    pub fn interrupt_remapping(&self) -> Option<bool> {
        let text = self.ecap.as_deref()?.trim_start_matches("0x");
        u64::from_str_radix(text, 16)
            .ok()
            .map(|ecap| ecap & 0b1000 != 0)
    }
}

impl Iommu {
    /// The IOMMU is on, by effect: a unit is registered and at least one group exists.
    /// `None`: neither could be listed.
    #[must_use]
    pub fn active(&self) -> Option<bool> {
        let groups = self.groups.as_ref().map(|groups| !groups.is_empty());
        let units = self.units.as_ref().map(|units| !units.is_empty());
        match (groups, units) {
            (Some(groups), Some(units)) => Some(groups && units),
            (found, None) | (None, found) => found,
        }
    }
}
