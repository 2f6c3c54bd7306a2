//! UEFI, Secure Boot, lockdown and what DMI says of the machine.

use serde::{Deserialize, Serialize};

/// Firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Firmware {
    /// Booted by UEFI: /sys/firmware/efi exists.
    pub efi: Option<bool>,
    /// Last byte of the variable SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c is 1.
    pub secure_boot: Option<bool>,
    /// Last byte of the variable SetupMode of the same vendor is 1: keys are not enforced.
    pub setup_mode: Option<bool>,
    /// /sys/kernel/security/lockdown as it is: `none [integrity] confidentiality`.
    pub lockdown: Option<String>,
    /// /sys/class/dmi/id.
    pub dmi: Dmi,
}

/// /sys/class/dmi/id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dmi {
    /// sys_vendor.
    pub sys_vendor: Option<String>,
    /// product_name.
    pub product_name: Option<String>,
    /// product_serial; readable by root only.
    pub product_serial: Option<String>,
    /// board_name.
    pub board_name: Option<String>,
    /// bios_vendor.
    pub bios_vendor: Option<String>,
    /// bios_version.
    pub bios_version: Option<String>,
    /// bios_date.
    pub bios_date: Option<String>,
}

impl Firmware {
    /// The lockdown mode in force: the word in brackets.
    #[must_use]
    pub fn lockdown_mode(&self) -> Option<&str> {
        let (_, rest) = self.lockdown.as_deref()?.split_once('[')?;
        rest.split_once(']').map(|(mode, _)| mode)
    }
}
