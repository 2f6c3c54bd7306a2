//! Firmware, inputs and watchdog.

use serde_json::Value;

use super::super::json::{at, has, list_at, text_at};
use super::super::verdict::Reason;
use super::{Causes, Path};

/// Tablets on USB or virtio are the only inputs.
pub(super) fn inputs(path: &Path, spec: &Value, out: &mut Causes) {
    let path = path.child("domain.devices.inputs");
    for (index, input) in list_at(spec, "domain.devices.inputs").iter().enumerate() {
        let field = path.index(index);
        if !["", "usb", "virtio"].contains(&text_at(input, "bus")) {
            out.invalid(
                &field.child("bus"),
                "Input device can have only virtio or usb bus.",
            );
        }
        if text_at(input, "type") != "tablet" {
            out.invalid(
                &field.child("type"),
                "Input device can have only tablet type.",
            );
        }
    }
}

/// One boot loader; secure boot needs SMM.
pub(super) fn firmware(path: &Path, spec: &Value, out: &mut Causes) {
    let loader = at(spec, "domain.firmware.bootloader");
    if has(loader, "efi") && has(loader, "bios") {
        let field = path.child("domain.firmware.bootloader");
        out.invalid(
            &field,
            format!("{field} has both EFI and BIOS configured, but they are mutually exclusive."),
        );
    }
    let secure = has(loader, "efi") && at(loader, "efi.secureBoot").as_bool() != Some(false);
    let smm = at(spec, "domain.features.smm");
    let smm = !smm.is_null() && at(smm, "enabled").as_bool() != Some(false);
    if secure && !smm {
        let field = path.child("domain");
        out.invalid(
            &field,
            format!(
                "{field} has EFI SecureBoot enabled. SecureBoot requires SMM, which is currently disabled."
            ),
        );
    }
}

/// The watchdog of a PC, and what it does.
/// Source: pkg/virt-api/webhooks/amd64.go.
pub(super) fn watchdog(path: &Path, spec: &Value, out: &mut Causes) {
    let watchdog = at(spec, "domain.devices.watchdog");
    if watchdog.is_null() {
        return;
    }
    let field = path.child("domain.devices.watchdog");
    if has(watchdog, "diag288") {
        out.add(
            Reason::NotSupported,
            &field,
            "amd64 only supports I6300ESB watchdog device",
        );
    }
    let action = text_at(watchdog, "i6300esb.action");
    if !["", "poweroff", "reset", "shutdown"].contains(&action) {
        let field = field.child("i6300esb.action");
        out.invalid(
            &field,
            format!("{field} '{action}' is not one of poweroff, reset, shutdown"),
        );
    }
}
