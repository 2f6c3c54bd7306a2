//! Firmware, identity and clock.

use api::vmi::{Domain, VirtualMachineInstance};
use uuid::Uuid;

use crate::error::SpecError;

/// BIOS or UEFI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios {
        /// Its output on the serial port.
        serial: bool,
    },
    /// OVMF.
    Efi {
        /// Secure Boot with the well-known keys.
        secure_boot: bool,
    },
}

impl Firmware {
    pub(super) fn new(domain: &Domain) -> Result<Self, SpecError> {
        let bootloader = domain
            .firmware
            .as_ref()
            .and_then(|f| f.bootloader.clone())
            .unwrap_or_default();
        match (bootloader.bios, bootloader.efi) {
            (Some(_), Some(_)) => Err(SpecError::new(
                "spec.domain.firmware.bootloader",
                "bios and efi",
                "only one of them",
            )),
            (None, Some(efi)) => Ok(Self::Efi {
                secure_boot: efi.secure_boot.unwrap_or(true),
            }),
            (bios, None) => Ok(Self::Bios {
                serial: bios.and_then(|b| b.use_serial).unwrap_or(false),
            }),
        }
    }

    /// Secure Boot keeps its variables behind system management mode.
    pub(super) fn needs_smm(self) -> bool {
        self == Self::Efi { secure_boot: true }
    }
}

/// SMBIOS chassis; empty texts are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chassis {
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Serial.
    pub serial: Option<String>,
    /// Asset tag.
    pub asset: Option<String>,
    /// SKU.
    pub sku: Option<String>,
}

impl Chassis {
    pub(super) fn new(domain: &Domain) -> Self {
        let wish = domain.chassis.clone().unwrap_or_default();
        let some = |text: Option<String>| text.filter(|t| !t.is_empty());
        Self {
            manufacturer: some(wish.manufacturer),
            version: some(wish.version),
            serial: some(wish.serial),
            asset: some(wish.asset),
            sku: some(wish.sku),
        }
    }
}

/// Real-time clock: UTC plus this many seconds at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Seconds.
    pub offset: i64,
}

impl Clock {
    pub(super) fn new(domain: &Domain) -> Result<Self, SpecError> {
        let wish = domain.clock.clone().unwrap_or_default();
        if let Some(zone) = wish.timezone.as_deref()
            && !matches!(zone, "" | "UTC" | "Etc/UTC")
        {
            return Err(SpecError::new(
                "spec.domain.clock.timezone",
                zone,
                "UTC; a guest can set its own time zone",
            ));
        }
        let offset = wish.utc.and_then(|u| u.offset_seconds).unwrap_or(0);
        // Ten years either way keeps the date within what the clock chip holds.
        if offset.unsigned_abs() > 10 * 366 * 86_400 {
            return Err(SpecError::new(
                "spec.domain.clock.utc.offsetSeconds",
                offset,
                "at most ten years either way",
            ));
        }
        Ok(Self { offset })
    }
}

/// The SMBIOS UUID: the user's, else one that follows from the VMI's own UID,
/// so that a launcher that starts again finds the same.
pub(super) fn uuid(vmi: &VirtualMachineInstance) -> Result<Uuid, SpecError> {
    let wish = vmi
        .spec
        .domain
        .firmware
        .as_ref()
        .and_then(|f| f.uuid.as_deref())
        .filter(|u| !u.is_empty());
    if let Some(text) = wish {
        return Uuid::parse_str(text).map_err(|_| {
            SpecError::new(
                "spec.domain.firmware.uuid",
                text,
                "a UUID such as 5d307ca9-b3ef-428c-8861-06e72d69f223",
            )
        });
    }
    let seed = vmi.metadata.uid.as_deref().unwrap_or_default();
    Ok(Uuid::new_v5(&Uuid::NAMESPACE_OID, seed.as_bytes()))
}

/// UUID of a VMI as text, for cloud-init's instance id; malformed ones as they are.
pub(crate) fn uuid_text(vmi: &VirtualMachineInstance) -> Result<String, SpecError> {
    Ok(uuid(vmi)?.to_string())
}
