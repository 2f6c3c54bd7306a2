//! The machine as QEMU's command line (QEMU 10.0).
//!
//! Conventions: each of QEMU's switches is a type in [`switch`]; its fields are
//! named as QEMU's parameters; a field that is `None` is left to QEMU's default.
//! Modules below turn one part of the machine into switches. Nothing here
//! chooses: what the machine does not say, [`Runtime`] does.
//!
//! ```text
//!   board     -name -machine -accel -cpu -smp -m -smbios -rtc -boot …
//!   disks     -add-fd -blockdev -device
//!   nics      -netdev -device
//!   channels  monitor, guest agent, serial console, VNC
//!   others    root ports, rng, balloon, inputs, watchdog
//! ```

mod board;
mod channels;
mod disks;
mod nics;
mod others;
pub mod switch;

use crate::error::SpecError;
use crate::image::Format;
use crate::pci::{PciAddress, Placement};
use crate::spec::{Bus, Disk, Machine, NicModel};
use switch::{Device, Switch};

/// Size of TCG's translation buffer, MiB. QEMU's own default is an eighth of
/// the host's memory up to 1 GiB, which no pod should be charged for; measured,
/// a Linux guest boots no faster with more than this (docs/memory-overhead.md).
pub const TB_SIZE_MIB: u64 = 32;
/// Bytes of cached qcow2 tables for each layer of a disk: 1 MiB covers 8 GiB
/// of disk at 64 KiB clusters.
pub const L2_CACHE_BYTES: u64 = 1 << 20;

/// What only the launcher knows: files, descriptors, the time.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Inherited descriptor of the monitor's socket.
    pub monitor_fd: i32,
    /// Inherited descriptor of the guest agent's socket.
    pub agent_fd: i32,
    /// Path of the serial console's socket.
    pub serial_socket: String,
    /// Path of the VNC socket.
    pub vnc_socket: String,
    /// Path of the guest's copy of the UEFI variables.
    pub efi_vars: String,
    /// Directory of OVMF's files.
    pub ovmf_dir: String,
    /// Directories that QEMU searches for BIOS and option ROMs, beside its own.
    pub data_dirs: Vec<String>,
    /// One for each disk, in the same order.
    pub media: Vec<Medium>,
    /// Now, in seconds since 1970; used when the clock has an offset.
    pub now: i64,
}

/// The file or files behind a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A raw file that the launcher made, where nobody else writes.
    File {
        /// Its path.
        path: String,
        /// The file system takes O_DIRECT.
        direct: bool,
    },
    /// A raw image from elsewhere, inherited as a descriptor: its path might lead
    /// somewhere else by the time QEMU opens it.
    Inherited {
        /// Inherited descriptor, opened as the disk needs it: QEMU takes it only
        /// with O_DIRECT exactly where [`Disk::goes_direct`] says so.
        fd: i32,
        /// The file system takes O_DIRECT.
        direct: bool,
    },
    /// A block device.
    Device {
        /// Its path.
        path: String,
    },
    /// A base that is only read, under a qcow2 overlay.
    Overlay {
        /// The base.
        base: Base,
        /// Path of the overlay.
        path: String,
        /// The file system takes O_DIRECT.
        direct: bool,
    },
}

/// What an overlay lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// An image, inherited as a descriptor.
    Image {
        /// Inherited descriptor, opened for reading only.
        fd: i32,
        /// Its format.
        format: Format,
    },
    /// A raw block device.
    Device {
        /// Its path.
        path: String,
    },
}

/// A command to give over QMP before the guest starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Name of the command.
    pub command: &'static str,
    /// Its arguments.
    pub arguments: serde_json::Value,
}

/// The whole command line, without the program's name.
///
/// # Errors
/// When the devices do not fit on the PCI bus, or a disk's options cannot be
/// kept on this file system.
pub fn argv(machine: &Machine, runtime: &Runtime) -> Result<Vec<String>, SpecError> {
    let places = Places::new(machine)?;
    let mut argv = Vec::new();
    board::push(machine, runtime, &mut argv);
    channels::push_backends(machine, runtime, &mut argv);
    others::push_root_ports(places.ports, &mut argv);
    nics::push(machine, &places, &mut argv);
    channels::push_devices(machine, &places, &mut argv);
    disks::push(machine, runtime, &places, &mut argv)?;
    others::push(machine, &places, &mut argv);
    Ok(argv)
}

/// QMP commands that put the machine into its first state, before `cont`.
#[must_use]
pub fn setup(machine: &Machine) -> Vec<Setup> {
    let links = machine
        .nics
        .iter()
        .enumerate()
        .filter(|(_, nic)| nic.link_down)
        .map(|(i, _)| Setup {
            command: "set_link",
            arguments: serde_json::json!({"name": format!("net{i}"), "up": false}),
        });
    let trays = machine
        .disks
        .iter()
        .enumerate()
        .filter(|(_, disk)| disk.tray_open)
        .map(|(i, _)| Setup {
            command: "blockdev-open-tray",
            arguments: serde_json::json!({"id": format!("disk{i}"), "force": true}),
        });
    links.chain(trays).collect()
}

/// Where each device sits.
#[derive(Debug)]
struct Places {
    nics: Vec<PciAddress>,
    scsi: Option<PciAddress>,
    usb: Option<PciAddress>,
    serial: PciAddress,
    disks: Vec<Option<PciAddress>>,
    inputs: Vec<Option<PciAddress>>,
    balloon: Option<PciAddress>,
    rng: Option<PciAddress>,
    watchdog: Option<PciAddress>,
    ahci: Vec<PciAddress>,
    ports: u8,
}

impl Places {
    fn new(machine: &Machine) -> Result<Self, SpecError> {
        let mut p = Placement::default();
        let chosen = machine.nics.iter().filter_map(|n| n.pci);
        for address in chosen.chain(machine.disks.iter().filter_map(|d| d.pci)) {
            p.reserve(address)?;
        }
        let mut nics = Vec::new();
        for nic in &machine.nics {
            nics.push(match nic.pci {
                Some(address) => address,
                None if nic.model.is_express() => p.port()?,
                None => p.slot()?,
            });
        }
        let on = |wanted: bool, p: &mut Placement| wanted.then(|| p.port()).transpose();
        let scsi = on(machine.disks.iter().any(|d| d.bus == Bus::Scsi), &mut p)?;
        let usb = on(needs_usb(machine), &mut p)?;
        let serial = p.port()?;
        let mut disks = Vec::new();
        for disk in &machine.disks {
            disks.push(match disk.pci {
                Some(address) => Some(address),
                None => on(disk.bus == Bus::Virtio, &mut p)?,
            });
        }
        let mut inputs = Vec::new();
        for input in &machine.inputs {
            inputs.push(on(input.virtio, &mut p)?);
        }
        let balloon = on(machine.balloon, &mut p)?;
        let rng = on(machine.rng, &mut p)?;
        let watchdog = machine.watchdog.map(|_| p.slot()).transpose()?;
        let mut ahci = Vec::new();
        // ICH9's own controller has six ports; each further one six more.
        for _ in 1..sata_disks(machine).div_ceil(6) {
            ahci.push(p.slot()?);
        }
        Ok(Self {
            nics,
            scsi,
            usb,
            serial,
            disks,
            inputs,
            balloon,
            rng,
            watchdog,
            ahci,
            ports: p.ports(),
        })
    }
}

fn sata_disks(machine: &Machine) -> usize {
    machine.disks.iter().filter(|d| d.bus == Bus::Sata).count()
}

fn needs_usb(machine: &Machine) -> bool {
    machine.disks.iter().any(|d: &Disk| d.bus == Bus::Usb)
        || machine.inputs.iter().any(|i| !i.virtio)
}

/// Puts a device at its place.
fn at(device: Device, place: PciAddress) -> Device {
    if place.bus == 0 {
        device
            .with("bus", "pcie.0")
            .with("addr", format!("{:#x}", place.slot))
    } else {
        device
            .with("bus", format!("rp{}", place.bus))
            .with("addr", "0x0")
    }
}

/// QEMU's name of an interface's device.
fn nic_driver(model: NicModel) -> &'static str {
    match model {
        NicModel::Virtio => "virtio-net-pci-non-transitional",
        NicModel::E1000 => "e1000",
        NicModel::E1000e => "e1000e",
        NicModel::Ne2kPci => "ne2k_pci",
        NicModel::Pcnet => "pcnet",
        NicModel::Rtl8139 => "rtl8139",
    }
}

/// Pushes switches one after the other.
fn push_all(argv: &mut Vec<String>, switches: &[&dyn Switch]) {
    for switch in switches {
        switch.push(argv);
    }
}

#[cfg(test)]
mod tests;
