//! Disks and boot order.
//!
//! Source: pkg/storage/admitters/disks.go; `validateBootOrder` of
//! vmi-create-admitter.go.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::json::{at, has, list_at, text_at};
use super::super::names;
use super::super::verdict::Reason;
use super::{Causes, Path};

const SERIAL_MAX: usize = 256;
const DEVICES: [&str; 3] = ["disk", "lun", "cdrom"];

/// Every disk has a volume; no two devices have one place in the boot order.
pub(super) fn boot_order(path: &Path, spec: &Value, out: &mut Causes) {
    let devices = path.child("domain.devices");
    let volumes: BTreeSet<&str> = list_at(spec, "volumes")
        .iter()
        .map(|volume| text_at(volume, "name"))
        .collect();
    let mut orders = BTreeSet::new();
    for (index, disk) in list_at(spec, "domain.devices.disks").iter().enumerate() {
        let field = devices.child("disks").index(index);
        let name = text_at(disk, "name");
        if !volumes.contains(name) {
            if has(disk, "cdrom") {
                out.invalid(
                    &field.child("name"),
                    "DeclarativeHotplugVolumes feature gate not enabled, cannot define an empty CD-ROM disk",
                );
            } else {
                // The message's path ends in `Name`, the field's in `name`.
                let message = format!("{} '{name}' not found.", field.child("Name"));
                out.invalid(&field.child("name"), message);
            }
        }
        take_order(&field, disk, &mut orders, out);
    }
    for (index, nic) in list_at(spec, "domain.devices.interfaces")
        .iter()
        .enumerate()
    {
        let field = devices.child("interfaces").index(index);
        match at(nic, "bootOrder").as_i64() {
            Some(order) if order < 1 => out.invalid(
                &field.child("bootOrder"),
                format!("{field} must have a boot order > 0, if supplied"),
            ),
            _ => take_order(&field, nic, &mut orders, out),
        }
    }
}

fn take_order(path: &Path, device: &Value, orders: &mut BTreeSet<i64>, out: &mut Causes) {
    if let Some(order) = at(device, "bootOrder").as_i64()
        && !orders.insert(order)
    {
        let field = path.child("bootOrder");
        let message = format!("Boot order for {field} already set for a different device.");
        out.invalid(&field, message);
    }
}

/// Each disk for itself.
pub(super) fn check(path: &Path, spec: &Value, out: &mut Causes) {
    let path = path.child("domain.devices.disks");
    let disks = list_at(spec, "domain.devices.disks");
    for (index, disk) in disks.iter().enumerate() {
        let field = path.index(index);
        let name = text_at(disk, "name");
        for (other, _) in disks[..index]
            .iter()
            .enumerate()
            .filter(|(_, earlier)| text_at(earlier, "name") == name)
        {
            out.invalid(
                &field.child("name"),
                format!(
                    "{field} and {} must not have the same Name.",
                    path.index(other)
                ),
            );
        }
        if DEVICES.iter().filter(|device| has(disk, device)).count() > 1 {
            out.invalid(
                &field,
                format!("{field} can only have a single target type defined"),
            );
        }
        pci_address(&field, disk, out);
        if at(disk, "bootOrder")
            .as_i64()
            .is_some_and(|order| order < 1)
        {
            out.invalid(
                &field.child("bootOrder"),
                format!("{field} must have a boot order > 0, if supplied"),
            );
        }
        bus(&field, disk, out);
        serial(&field, disk, out);
        modes(&field, disk, out);
        // A containerDisk's container is named after its disk.
        for why in names::dns_label(name) {
            out.invalid(&field.child("name"), why);
        }
    }
}

fn bus(path: &Path, disk: &Value, out: &mut Causes) {
    let Some(device) = DEVICES.iter().find(|device| has(disk, device)) else {
        return;
    };
    let bus = text_at(at(disk, device), "bus");
    let field = path.child(device).child("bus");
    match bus {
        "" | "scsi" | "usb" => {}
        "ide" => out.invalid(&field, "IDE bus is not supported"),
        "virtio" if *device == "cdrom" => {
            out.invalid(&field, "Bus type virtio is invalid for CD-ROM device");
        }
        "virtio" => {}
        "sata" => {
            if *device == "disk" && at(disk, "disk.readonly").as_bool() == Some(true) {
                out.invalid(&field, "sata hard-disks do not support read-only.");
            }
        }
        _ => out.invalid(
            &field,
            format!(
                "{path} is set with an unrecognized bus {bus}, must be one of: [virtio scsi sata usb]"
            ),
        ),
    }
}

fn pci_address(path: &Path, disk: &Value, out: &mut Causes) {
    let address = text_at(disk, "disk.pciAddress");
    if address.is_empty() {
        return;
    }
    let field = path.child("disk.pciAddress");
    if text_at(disk, "disk.bus") != "virtio" {
        out.invalid(
            &field,
            format!(
                "disk {} - setting a PCI address is only possible with bus type virtio.",
                path.child("name")
            ),
        );
    }
    if !is_pci_address(address) {
        out.invalid(
            &field,
            format!(
                "disk {} has malformed PCI address ({address}).",
                path.child("name")
            ),
        );
    }
}

/// Whether `text` is `domain:bus:slot.function` in hexadecimal digits.
/// Source: pkg/util/hardware, `PCI_ADDRESS_PATTERN`.
pub(super) fn is_pci_address(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let shape = text
        .bytes()
        .filter(|byte| matches!(byte, b':' | b'.'))
        .eq(*b"::.");
    shape
        && parts.iter().map(|part| part.len()).eq([4, 2, 2, 1])
        && parts
            .iter()
            .all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && parts[3] <= "7"
}

fn serial(path: &Path, disk: &Value, out: &mut Causes) {
    let serial = text_at(disk, "serial");
    let field = path.child("serial");
    if !serial
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte))
    {
        out.invalid(
            &field,
            format!(
                "{path} must be made up of the following characters [A-Za-z0-9_.+-], if specified"
            ),
        );
    }
    if serial.chars().count() > SERIAL_MAX {
        out.invalid(
            &field,
            format!("{path} must be less than or equal to {SERIAL_MAX} in length, if specified"),
        );
    }
}

fn modes(path: &Path, disk: &Value, out: &mut Causes) {
    let cache = text_at(disk, "cache");
    if !["", "none", "writethrough", "writeback"].contains(&cache) {
        let field = path.child("cache");
        out.invalid(&field, format!("{field} has invalid value {cache}"));
    }
    if !["", "native", "threads"].contains(&text_at(disk, "io")) {
        out.add(
            Reason::NotSupported,
            &path.child("io"),
            format!(
                "Disk IO mode for {path} is not supported. Supported modes are: native, threads."
            ),
        );
    }
    let tray = text_at(disk, "cdrom.tray");
    if !["", "open", "closed"].contains(&tray) {
        let field = path.child("cdrom.tray");
        out.invalid(&field, format!("{field} has invalid value {tray}"));
    }
}

#[cfg(test)]
mod tests {
    use super::is_pci_address;

    #[test]
    fn pci_addresses() {
        assert!(is_pci_address("0000:81:11.1"));
        for bad in [
            "",
            "81:11.1",
            "0000:81:11:1",
            "0000:8:11.1",
            "0000:81:1g.1",
            "0000:81:11.8",
        ] {
            assert!(!is_pci_address(bad), "{bad}");
        }
    }
}
