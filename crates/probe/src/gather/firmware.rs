//! UEFI, Secure Boot, lockdown, DMI.

use hardware::facts::{Dmi, Firmware};
use hardware::parse::efi;

use crate::tree::Tree;

const VARIABLES: &str = "/sys/firmware/efi/efivars";

pub(super) fn firmware(tree: &Tree) -> Firmware {
    let variable = |name: &str| efi::secure_boot(&tree.bytes(&format!("{VARIABLES}/{name}"))?);
    let dmi = |name: &str| tree.line(&format!("/sys/class/dmi/id/{name}"));
    Firmware {
        efi: tree
            .exists("/sys/firmware")
            .then(|| tree.exists("/sys/firmware/efi")),
        secure_boot: variable(efi::SECURE_BOOT),
        setup_mode: variable(efi::SETUP_MODE),
        lockdown: tree.line("/sys/kernel/security/lockdown"),
        dmi: Dmi {
            sys_vendor: dmi("sys_vendor"),
            product_name: dmi("product_name"),
            product_serial: dmi("product_serial"),
            board_name: dmi("board_name"),
            bios_vendor: dmi("bios_vendor"),
            bios_version: dmi("bios_version"),
            bios_date: dmi("bios_date"),
        },
    }
}
