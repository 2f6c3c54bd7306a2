//! The validated machine: what QEMU will be, with every choice made.
//!
//! ```text
//!   api::launcher::Sync --Machine::try_from--> Machine --qemu::argv--> command line
//!    (wire, may be wrong)                      (right by construction)
//! ```
//!
//! `Machine` is not Serialize: it never travels. Nothing is defaulted after
//! this point, so the command line follows from it alone.

mod cpu;
mod disk;
pub(crate) mod firmware;
mod nic;

pub use cpu::{Cpu, CpuModel};
pub use disk::{Aio, Bus, Cache, CloudInitKind, Content, Disk, Mounted};
pub use firmware::{Chassis, Clock, Firmware};
pub use nic::{Nic, NicModel, parse_mac};

use api::launcher::Sync;
use api::names::NO_FREE_PAGE_REPORTING;
use api::vmi::FeatureState;
use uuid::Uuid;

use crate::error::SpecError;
use crate::{overhead, quantity};

const MIB: u64 = 1 << 20;

/// A guest's hardware.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// `namespace_name`, as process listings show it.
    pub name: String,
    /// Machine type: `q35` or a versioned `pc-q35-…`.
    pub machine_type: String,
    /// TCG instead of KVM.
    pub emulated: bool,
    /// vCPUs.
    pub cpu: Cpu,
    /// Guest memory in bytes, whole MiB.
    pub memory: u64,
    /// ACPI tables are there.
    pub acpi: bool,
    /// System management mode, when asked for or needed.
    pub smm: Option<bool>,
    /// SMBIOS system UUID.
    pub uuid: Uuid,
    /// SMBIOS system serial.
    pub serial: Option<String>,
    /// SMBIOS chassis.
    pub chassis: Chassis,
    /// BIOS or UEFI.
    pub firmware: Firmware,
    /// Real-time clock.
    pub clock: Clock,
    /// Disks in the order of the specification.
    pub disks: Vec<Disk>,
    /// Interfaces in the order of the specification.
    pub nics: Vec<Nic>,
    /// Entropy device.
    pub rng: bool,
    /// Memory balloon.
    pub balloon: bool,
    /// The guest tells which pages it has freed, and the host takes them back.
    pub free_page_reporting: bool,
    /// VGA and VNC.
    pub graphics: bool,
    /// Serial port on a socket.
    pub serial_console: bool,
    /// Input devices.
    pub inputs: Vec<Input>,
    /// Watchdog.
    pub watchdog: Option<WatchdogAction>,
    /// The guest waits for unpause.
    pub start_paused: bool,
}

/// An input device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// On the virtio bus instead of USB.
    pub virtio: bool,
    /// A keyboard instead of a tablet.
    pub keyboard: bool,
}

/// What the watchdog does when the guest stops feeding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogAction {
    /// Reset the guest.
    Reset,
    /// Stop QEMU.
    Poweroff,
    /// Press the power button.
    Shutdown,
}

impl TryFrom<&Sync> for Machine {
    type Error = SpecError;

    fn try_from(sync: &Sync) -> Result<Self, SpecError> {
        let vmi = &sync.vmi;
        let domain = &vmi.spec.domain;
        let devices = &domain.devices;
        let cpu = Cpu::new(domain, sync.use_emulation)?;
        let firmware = Firmware::new(domain)?;
        let smm = match domain.features.as_ref().and_then(|f| f.smm.as_ref()) {
            Some(state) => Some(is_on(state)),
            None if firmware.needs_smm() => Some(true),
            None => None,
        };
        if firmware.needs_smm() && smm == Some(false) {
            return Err(SpecError::new(
                "spec.domain.features.smm.enabled",
                false,
                "true, which EFI Secure Boot needs; or set spec.domain.firmware.bootloader.efi.secureBoot to false",
            ));
        }
        let disks = disk::disks(sync, cpu.count())?;
        let nics = nic::nics(sync)?;
        unique_boot_order(&disks, &nics)?;
        Ok(Self {
            name: format!(
                "{}_{}",
                vmi.metadata.namespace.as_deref().unwrap_or("default"),
                vmi.metadata.name.as_deref().unwrap_or("unnamed")
            ),
            machine_type: machine_type(domain)?,
            emulated: sync.use_emulation,
            memory: memory(sync)?,
            acpi: domain
                .features
                .as_ref()
                .and_then(|f| f.acpi.as_ref())
                .is_none_or(is_on),
            smm,
            uuid: firmware::uuid(vmi)?,
            serial: domain.firmware.as_ref().and_then(|f| f.serial.clone()),
            chassis: Chassis::new(domain),
            clock: Clock::new(domain)?,
            rng: devices.rng.is_some(),
            free_page_reporting: vmi
                .metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(NO_FREE_PAGE_REPORTING))
                .is_none_or(|disabled| disabled != "true"),
            balloon: devices.autoattach_mem_balloon != Some(false),
            graphics: devices.autoattach_graphics_device != Some(false),
            serial_console: devices.autoattach_serial_console != Some(false),
            inputs: inputs(devices)?,
            watchdog: watchdog(devices)?,
            start_paused: start_paused(vmi.spec.start_strategy.as_deref())?,
            cpu,
            firmware,
            disks,
            nics,
        })
    }
}

/// A switch is on when its object is there and `enabled` is not false.
fn is_on(state: &FeatureState) -> bool {
    state.enabled != Some(false)
}

fn machine_type(domain: &api::vmi::Domain) -> Result<String, SpecError> {
    let type_ = domain.machine.as_ref().map_or("", |m| m.type_.as_str());
    let versioned = type_.strip_prefix("pc-q35-").is_some_and(|v| {
        !v.is_empty()
            && v.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
    });
    match type_ {
        "" | "q35" => Ok("q35".to_owned()),
        other if versioned => Ok(other.to_owned()),
        other => Err(SpecError::new(
            "spec.domain.machine.type",
            other,
            "q35 or a versioned type such as pc-q35-10.0",
        )),
    }
}

fn memory(sync: &Sync) -> Result<u64, SpecError> {
    let domain = &sync.vmi.spec.domain;
    let sources = [
        (
            "spec.domain.memory.guest",
            domain.memory.as_ref().and_then(|m| m.guest.as_ref()),
        ),
        (
            "spec.domain.resources.requests.memory",
            domain.resources.requests.get("memory"),
        ),
        (
            "spec.domain.resources.limits.memory",
            domain.resources.limits.get("memory"),
        ),
    ];
    for (path, value) in sources {
        if let Some(value) = value {
            quantity::bytes(value).map_err(|e| SpecError::new(path, &value.0, e.to_string()))?;
        }
    }
    match overhead::guest_memory(&sync.vmi.spec) {
        0 => Err(SpecError::missing(
            "spec.domain.memory.guest",
            "the guest's memory here or in spec.domain.resources.requests.memory",
        )),
        // QEMU and guests want whole MiB; libvirt rounds the same way.
        bytes => Ok(bytes.div_ceil(MIB) * MIB),
    }
}

fn inputs(devices: &api::vmi::Devices) -> Result<Vec<Input>, SpecError> {
    let mut inputs = Vec::new();
    for (i, input) in devices.inputs.iter().enumerate() {
        let path = format!("spec.domain.devices.inputs[{i}]");
        inputs.push(Input {
            virtio: match input.bus.as_deref() {
                None | Some("" | "usb") => false,
                Some("virtio") => true,
                Some(other) => {
                    return Err(SpecError::new(
                        format!("{path}.bus"),
                        other,
                        "usb or virtio",
                    ));
                }
            },
            keyboard: match input.type_.as_str() {
                "tablet" => false,
                "keyboard" => true,
                other => {
                    return Err(SpecError::new(
                        format!("{path}.type"),
                        other,
                        "tablet or keyboard",
                    ));
                }
            },
        });
    }
    Ok(inputs)
}

fn watchdog(devices: &api::vmi::Devices) -> Result<Option<WatchdogAction>, SpecError> {
    let Some(watchdog) = &devices.watchdog else {
        return Ok(None);
    };
    let Some(model) = &watchdog.i6300esb else {
        return Err(SpecError::missing(
            "spec.domain.devices.watchdog.i6300esb",
            "the only watchdog there is",
        ));
    };
    match model.action.as_deref() {
        None | Some("" | "reset") => Ok(Some(WatchdogAction::Reset)),
        Some("poweroff") => Ok(Some(WatchdogAction::Poweroff)),
        Some("shutdown") => Ok(Some(WatchdogAction::Shutdown)),
        Some(other) => Err(SpecError::new(
            "spec.domain.devices.watchdog.i6300esb.action",
            other,
            "reset, poweroff or shutdown",
        )),
    }
}

fn start_paused(strategy: Option<&str>) -> Result<bool, SpecError> {
    match strategy {
        None | Some("") => Ok(false),
        Some("Paused") => Ok(true),
        Some(other) => Err(SpecError::new("spec.startStrategy", other, "Paused")),
    }
}

/// QEMU refuses two devices with one boot index.
fn unique_boot_order(disks: &[Disk], nics: &[Nic]) -> Result<(), SpecError> {
    let mut seen = std::collections::BTreeSet::new();
    let all = disks
        .iter()
        .enumerate()
        .map(|(i, d)| (format!("spec.domain.devices.disks[{i}]"), d.boot_order))
        .chain(
            nics.iter()
                .enumerate()
                .map(|(i, n)| (format!("spec.domain.devices.interfaces[{i}]"), n.boot_order)),
        );
    for (path, order) in all {
        if let Some(order) = order
            && !seen.insert(order)
        {
            return Err(SpecError::new(
                format!("{path}.bootOrder"),
                order,
                "a number that no other disk or interface has",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
