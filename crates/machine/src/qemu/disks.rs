//! Disks: controllers, block nodes and devices.
//!
//! ```text
//!   overlay:    device -> diskN (qcow2) -> file
//!                            \ backing -> diskN-base (qcow2|raw, read-only) -> /dev/fdset/N
//!   file:       device -> diskN (raw) -> file
//!   inherited:  device -> diskN (raw) -> /dev/fdset/N
//!   device:     device -> diskN (raw) -> host_device
//! ```
//! Claims and disks of the node are raw: what their bytes look like is the
//! guest's business, and would let it choose which files QEMU opens.
//! The base's own backing link is nulled and the overlay's is given here, so
//! no header decides what is opened.

use serde_json::{Value, json};

use super::switch::{Blockdev, Device, Pairs};
use super::{Base, L2_CACHE_BYTES, Medium, Places, Runtime, at, push_all};
use crate::error::SpecError;
use crate::image::Format;
use crate::spec::{Aio, Bus, Cache, Disk, Machine};

pub(super) fn push(
    machine: &Machine,
    runtime: &Runtime,
    places: &Places,
    argv: &mut Vec<String>,
) -> Result<(), SpecError> {
    if let Some(place) = places.scsi {
        let controller = Device::new("virtio-scsi-pci-non-transitional", "scsi0");
        push_all(argv, &[&at(controller.with("num_queues", 1), place)]);
    }
    if let Some(place) = places.usb {
        push_all(argv, &[&at(Device::new("qemu-xhci", "usb0"), place)]);
    }
    for (i, place) in places.ahci.iter().enumerate() {
        let controller = Device::new("ich9-ahci", &format!("ahci{}", i + 1));
        push_all(argv, &[&at(controller, *place)]);
    }
    let (mut sata, mut scsi) = (0, 0);
    for (i, (disk, medium)) in machine.disks.iter().zip(&runtime.media).enumerate() {
        push_nodes(i, disk, medium, argv)?;
        let device = match disk.bus {
            Bus::Virtio => {
                let device = Device::new("virtio-blk-pci-non-transitional", &format!("disk{i}"))
                    .with("num-queues", disk.queues);
                match places.disks[i] {
                    Some(place) => at(device, place),
                    None => device,
                }
            }
            Bus::Scsi => {
                scsi += 1;
                let driver = match (disk.lun, disk.cdrom) {
                    (true, _) => "scsi-block",
                    (false, true) => "scsi-cd",
                    (false, false) => "scsi-hd",
                };
                Device::new(driver, &format!("disk{i}"))
                    .with("bus", "scsi0.0")
                    .with("scsi-id", 0)
                    .with("lun", scsi - 1)
            }
            Bus::Sata => {
                let driver = if disk.cdrom { "ide-cd" } else { "ide-hd" };
                // The chipset's ports are ide.0 to ide.5; a further controller's are ahciN.0 to .5.
                let bus = match sata / 6 {
                    0 => format!("ide.{sata}"),
                    n => format!("ahci{n}.{}", sata % 6),
                };
                sata += 1;
                Device::new(driver, &format!("disk{i}")).with("bus", bus)
            }
            Bus::Usb => Device::new("usb-storage", &format!("disk{i}"))
                .with("bus", "usb0.0")
                .with("removable", "off"),
        };
        let mut device = device
            .with("drive", format!("disk{i}-node"))
            .with_some("serial", disk.serial.as_ref().filter(|_| !disk.lun))
            .with_some("bootindex", disk.boot_order);
        // A lun's cache and serial are the real device's.
        if !disk.cdrom && !disk.lun {
            // write-cache=off makes QEMU flush after each write.
            let through = disk.cache == Cache::WriteThrough
                || (disk.cache == Cache::Durable && !medium.takes_direct_io());
            device = device.with("write-cache", super::switch::on(!through));
        }
        if disk.shareable {
            device = device.with("share-rw", "on");
        }
        push_all(argv, &[&device]);
    }
    Ok(())
}

fn push_nodes(
    i: usize,
    disk: &Disk,
    medium: &Medium,
    argv: &mut Vec<String>,
) -> Result<(), SpecError> {
    let read_only = disk.read_only || disk.cdrom;
    let node = format!("disk{i}-node");
    let set = i + 1;
    if disk.lun && !matches!(medium, Medium::Device { .. }) {
        return Err(SpecError::new(
            format!("spec.domain.devices.disks[{i}].lun"),
            "a claim with volumeMode Filesystem",
            "a claim with volumeMode Block; use disk for this one",
        ));
    }
    let cache = cache(i, disk, medium.takes_direct_io())?;
    let raw = |file: Value| {
        Blockdev(json!({
            "node-name": node, "driver": "raw", "read-only": read_only,
            "cache": cache, "discard": "unmap", "file": file,
        }))
    };
    let add_fd = |fd: i32| Pairs::new("-add-fd", "").with("fd", fd).with("set", set);
    match medium {
        Medium::File { path, .. } => {
            push_all(argv, &[&raw(file("file", path, disk.aio, &cache))]);
        }
        Medium::Inherited { fd, .. } => {
            let path = format!("/dev/fdset/{set}");
            let file = file("file", &path, disk.aio, &cache);
            push_all(argv, &[&add_fd(*fd), &raw(file)]);
        }
        Medium::Device { path } => {
            let aio = match disk.aio {
                Aio::Auto if cache["direct"] == json!(true) => Aio::Native,
                aio => aio,
            };
            push_all(argv, &[&raw(file("host_device", path, aio, &cache))]);
        }
        Medium::Overlay { base, path, .. } => {
            let below = format!("disk{i}-base");
            let mut base_node = json!({"node-name": below, "read-only": true});
            match base {
                Base::Image { fd, format } => {
                    push_all(argv, &[&add_fd(*fd)]);
                    base_node["driver"] = json!(format.driver());
                    base_node["file"] = json!({
                        "driver": "file", "filename": format!("/dev/fdset/{set}"), "read-only": true,
                    });
                    if *format == Format::Qcow2 {
                        base_node["backing"] = Value::Null;
                        base_node["l2-cache-size"] = json!(L2_CACHE_BYTES);
                    }
                }
                Base::Device { path } => {
                    base_node["driver"] = json!("raw");
                    base_node["file"] =
                        json!({"driver": "host_device", "filename": path, "read-only": true});
                }
            }
            push_all(
                argv,
                &[
                    &Blockdev(base_node),
                    &Blockdev(json!({
                        "node-name": node, "driver": "qcow2", "read-only": read_only,
                        "cache": cache, "discard": "unmap", "l2-cache-size": L2_CACHE_BYTES,
                        "file": file("file", path, disk.aio, &cache), "backing": below,
                    })),
                ],
            );
        }
    }
    Ok(())
}

impl Medium {
    /// Requests may go around the page cache.
    fn takes_direct_io(&self) -> bool {
        match self {
            Self::File { direct, .. }
            | Self::Inherited { direct, .. }
            | Self::Overlay { direct, .. } => *direct,
            Self::Device { .. } => true,
        }
    }
}

fn file(driver: &str, path: &str, aio: Aio, cache: &Value) -> Value {
    let mut file = json!({
        "driver": driver, "filename": path, "cache": cache, "discard": "unmap",
    });
    if aio == Aio::Native {
        file["aio"] = json!("native");
    }
    file
}

/// What the cache mode means for a node; the write cache itself is the device's.
fn cache(i: usize, disk: &Disk, direct: bool) -> Result<Value, SpecError> {
    let path = format!("spec.domain.devices.disks[{i}]");
    let no_flush = disk.cache == Cache::Ephemeral;
    let wanted = disk.goes_direct(direct);
    if wanted && !direct {
        return Err(SpecError::new(
            format!("{path}.cache"),
            "none",
            "writethrough or writeback, since the node's file system has no direct I/O",
        ));
    }
    if disk.aio == Aio::Native && !wanted {
        return Err(SpecError::new(
            format!("{path}.io"),
            "native",
            "threads, since the node's file system has no direct I/O",
        ));
    }
    Ok(json!({"direct": wanted, "no-flush": no_flush}))
}
