//! Disks: what the guest sees and where the content comes from.

use api::launcher::Sync;
use api::vmi;
use std::collections::BTreeSet;

use crate::cloudinit;
use crate::error::SpecError;
use crate::pci::PciAddress;
use crate::quantity;

/// One disk of the guest.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Name of the disk and of its volume.
    pub name: String,
    /// Name in the order of the bus: `vda`, `sda` and so on.
    pub target: String,
    /// How it is attached.
    pub bus: Bus,
    /// A CD-ROM drive instead of a hard disk.
    pub cdrom: bool,
    /// A SCSI device of the node's: the guest gives its commands itself.
    pub lun: bool,
    /// Other guests may have it at the same time.
    pub shareable: bool,
    /// The drive's tray is open at start.
    pub tray_open: bool,
    /// The guest cannot write.
    pub read_only: bool,
    /// Place in the boot order, from 1.
    pub boot_order: Option<u32>,
    /// Serial number.
    pub serial: Option<String>,
    /// Host cache.
    pub cache: Cache,
    /// How requests reach the host.
    pub aio: Aio,
    /// Queues of a virtio disk.
    pub queues: u32,
    /// Place on the PCI bus, when the user chose one.
    pub pci: Option<PciAddress>,
    /// Where the content comes from.
    pub content: Content,
}

impl Disk {
    /// Requests go around the page cache of a file system that is `able` to.
    #[must_use]
    pub fn goes_direct(&self, able: bool) -> bool {
        match self.cache {
            Cache::Ephemeral | Cache::Durable => able,
            Cache::None => true,
            Cache::WriteThrough | Cache::WriteBack => false,
        }
    }
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk.
    Virtio,
    /// virtio-scsi.
    Scsi,
    /// AHCI.
    Sata,
    /// USB storage.
    Usb,
}

/// Host cache of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Around the page cache where the file system can, and flushes are left
    /// out: the content dies with the guest, so nothing needs to reach the medium.
    Ephemeral,
    /// Around the page cache where the file system can, else as `writethrough`:
    /// the content outlives the guest. Source: upstream's default.
    Durable,
    /// `none`: around the page cache.
    None,
    /// `writethrough`: every write reaches the medium before it is acknowledged.
    WriteThrough,
    /// `writeback`: through the page cache.
    WriteBack,
}

/// How requests reach the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aio {
    /// Linux AIO for block devices around the page cache, else threads.
    Auto,
    /// A pool of threads.
    Threads,
    /// Linux AIO; needs a cache that goes around the page cache.
    Native,
}

/// Where the content of a disk comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// An image in a container image, under an overlay.
    ContainerDisk {
        /// Place of the volume in `spec.volumes`, from 0; it numbers the
        /// helper's socket.
        index: usize,
    },
    /// A cloud-init medium.
    CloudInit {
        /// Layout.
        kind: CloudInitKind,
        /// Files: path in the medium, content.
        files: Vec<(String, Vec<u8>)>,
    },
    /// An empty disk of this many bytes.
    Empty {
        /// Bytes, whole sectors.
        capacity: u64,
    },
    /// `disk.img` in the file system of a claim, or the block device that a
    /// claim is: always raw, whatever its bytes say. The launcher sees which.
    Claim,
    /// An overlay on a claim, which itself is only read.
    Ephemeral,
    /// An image in a directory of the node.
    Host {
        /// Name of the image in its directory.
        file: String,
        /// Bytes of the image that is made when there is none; `None`: it must be there.
        create: Option<u64>,
    },
    /// A medium of the files that the kubelet has mounted.
    Mounted {
        /// What is mounted, and so where.
        from: Mounted,
        /// Label of the medium.
        label: String,
    },
}

/// What a medium is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// Fields of the pod.
    DownwardApi,
    /// What a service account's pod is given.
    ServiceAccount,
}

/// Label of a medium of files unless the volume says another. Source: KubeVirt, pkg/config.
const FILES_LABEL: &str = "cfgdata";
/// Longest label of an ISO 9660 medium, characters.
const LABEL_LENGTH: usize = 32;

/// Layout of a cloud-init medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudInitKind {
    /// Volume `cidata`.
    NoCloud,
    /// Volume `config-2`.
    ConfigDrive,
}

impl CloudInitKind {
    /// Volume label by which cloud-init finds the medium.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoCloud => "cidata",
            Self::ConfigDrive => "config-2",
        }
    }
}

/// All disks, in the order of the specification.
pub(super) fn disks(sync: &Sync, vcpus: u32) -> Result<Vec<Disk>, SpecError> {
    let devices = &sync.vmi.spec.domain.devices;
    let mut names = BTreeSet::new();
    let mut disks: Vec<Disk> = Vec::new();
    for (i, disk) in devices.disks.iter().enumerate() {
        let path = format!("spec.domain.devices.disks[{i}]");
        if !names.insert(disk.name.as_str()) {
            return Err(SpecError::new(
                format!("{path}.name"),
                &disk.name,
                "a name that no other disk has",
            ));
        }
        let queues = if devices.block_multi_queue == Some(true) {
            vcpus
        } else {
            1
        };
        let mut one = one(sync, disk, &path, queues)?;
        one.target = target(one.bus, &disks);
        disks.push(one);
    }
    // "Disks without a boot order are not tried if one with a boot order exists."
    let chosen = devices
        .disks
        .iter()
        .map(|d| d.boot_order)
        .chain(devices.interfaces.iter().map(|i| i.boot_order))
        .any(|order| order.is_some());
    if !chosen {
        for (order, disk) in (1..).zip(&mut disks) {
            disk.boot_order = Some(order);
        }
    }
    Ok(disks)
}

fn one(sync: &Sync, disk: &vmi::Disk, path: &str, queues: u32) -> Result<Disk, SpecError> {
    let kinds = [
        disk.disk.is_some(),
        disk.cdrom.is_some(),
        disk.lun.is_some(),
    ];
    if kinds.iter().filter(|there| **there).count() > 1 {
        return Err(SpecError::new(
            path,
            "several of disk, cdrom and lun",
            "only one of them",
        ));
    }
    let content = content(sync, &disk.name, path)?;
    let (bus, cdrom, read_only, tray_open, pci) = if let Some(cdrom) = &disk.cdrom {
        let bus = bus(cdrom.bus.as_deref(), &format!("{path}.cdrom.bus"), true)?;
        let tray_open = match cdrom.tray.as_deref() {
            None | Some("" | "closed") => false,
            Some("open") => true,
            Some(other) => {
                return Err(SpecError::new(
                    format!("{path}.cdrom.tray"),
                    other,
                    "open or closed",
                ));
            }
        };
        (bus, true, cdrom.read_only.unwrap_or(true), tray_open, None)
    } else if let Some(lun) = &disk.lun {
        match lun.bus.as_deref() {
            None | Some("" | "scsi") => (Bus::Scsi, false, lun.read_only, false, None),
            Some(other) => {
                return Err(SpecError::new(format!("{path}.lun.bus"), other, "scsi"));
            }
        }
    } else {
        let disk = disk.disk.clone().unwrap_or_default();
        let bus = bus(disk.bus.as_deref(), &format!("{path}.disk.bus"), false)?;
        let address_path = format!("{path}.disk.pciAddress");
        let pci = disk
            .pci_address
            .as_deref()
            .map(|text| PciAddress::parse(&address_path, text))
            .transpose()?;
        if pci.is_some() && bus != Bus::Virtio {
            return Err(SpecError::new(
                address_path,
                disk.pci_address.unwrap_or_default(),
                "no address, since the disk is not on the virtio bus",
            ));
        }
        (bus, false, disk.read_only, false, pci)
    };
    let cache = match disk.cache.as_deref() {
        // Writes of several guests must not wait in one node's page cache.
        None | Some("") if disk.shareable => Cache::None,
        None | Some("") if content.is_durable() => Cache::Durable,
        None | Some("") => Cache::Ephemeral,
        Some("none") => Cache::None,
        Some("writethrough") => Cache::WriteThrough,
        Some("writeback") => Cache::WriteBack,
        Some(other) => {
            return Err(SpecError::new(
                format!("{path}.cache"),
                other,
                "none, writethrough or writeback",
            ));
        }
    };
    let aio = match disk.io.as_deref() {
        None | Some("" | "default") => Aio::Auto,
        Some("threads") => Aio::Threads,
        Some("native") if matches!(cache, Cache::WriteThrough | Cache::WriteBack) => {
            return Err(SpecError::new(
                format!("{path}.io"),
                "native",
                "threads, or spec.domain.devices.disks[].cache of none",
            ));
        }
        Some("native") => Aio::Native,
        Some(other) => {
            return Err(SpecError::new(
                format!("{path}.io"),
                other,
                "native or threads",
            ));
        }
    };
    if disk.shareable && !content.is_durable() {
        return Err(SpecError::new(
            format!("{path}.shareable"),
            true,
            "false, since other guests cannot get at this volume",
        ));
    }
    if disk.shareable && matches!(cache, Cache::WriteThrough | Cache::WriteBack) {
        return Err(SpecError::new(
            format!("{path}.cache"),
            disk.cache.as_deref().unwrap_or_default(),
            "none, since the disk is shareable",
        ));
    }
    let claim = sync.vmi.spec.volumes.iter().find(|v| v.name == disk.name);
    let read_only_claim =
        content == Content::Claim && claim.is_some_and(vmi::Volume::claim_is_read_only);
    let read_only = read_only || read_only_claim;
    if read_only && bus == Bus::Sata && !cdrom {
        return Err(SpecError::new(
            format!("{path}.disk.bus"),
            "sata",
            "virtio or scsi, since a SATA hard disk cannot be read-only",
        ));
    }
    Ok(Disk {
        name: disk.name.clone(),
        target: String::new(),
        bus,
        cdrom,
        lun: disk.lun.is_some(),
        shareable: disk.shareable,
        tray_open,
        read_only,
        boot_order: disk.boot_order,
        serial: disk.serial.clone().filter(|s| !s.is_empty()),
        cache,
        aio,
        queues,
        pci,
        content,
    })
}

fn bus(text: Option<&str>, path: &str, cdrom: bool) -> Result<Bus, SpecError> {
    match text {
        // Upstream's default for amd64.
        None | Some("" | "sata") => Ok(Bus::Sata),
        Some("scsi") => Ok(Bus::Scsi),
        Some("virtio") if !cdrom => Ok(Bus::Virtio),
        Some("usb") if !cdrom => Ok(Bus::Usb),
        Some(other) => Err(SpecError::new(
            path,
            other,
            if cdrom {
                "sata or scsi"
            } else {
                "virtio, sata, scsi or usb"
            },
        )),
    }
}

/// The next free name of the bus: `vd` for virtio, `sd` for the others together.
fn target(bus: Bus, before: &[Disk]) -> String {
    let virtio = bus == Bus::Virtio;
    let place = before
        .iter()
        .filter(|d| (d.bus == Bus::Virtio) == virtio)
        .count();
    let mut letters = String::new();
    let mut rest = place + 1;
    while rest > 0 {
        rest -= 1;
        letters.insert(0, char::from(b'a' + u8::try_from(rest % 26).unwrap_or(0)));
        rest /= 26;
    }
    format!("{}{letters}", if virtio { "vd" } else { "sd" })
}

fn content(sync: &Sync, name: &str, path: &str) -> Result<Content, SpecError> {
    let volumes = &sync.vmi.spec.volumes;
    let Some(place) = volumes.iter().position(|v| v.name == name) else {
        return Err(SpecError::new(
            format!("{path}.name"),
            name,
            "the name of a volume in spec.volumes",
        ));
    };
    let volume = &volumes[place];
    let path = format!("spec.volumes[{place}]");
    if volume.container_disk.is_some() {
        return Ok(Content::ContainerDisk { index: place });
    }
    let secret = sync.cloud_init_secrets.get(name);
    if let Some(source) = &volume.cloud_init_no_cloud {
        let path = format!("{path}.cloudInitNoCloud");
        return Ok(Content::CloudInit {
            kind: CloudInitKind::NoCloud,
            files: cloudinit::no_cloud(&sync.vmi, source, secret, &path)?,
        });
    }
    if let Some(source) = &volume.cloud_init_config_drive {
        let path = format!("{path}.cloudInitConfigDrive");
        return Ok(Content::CloudInit {
            kind: CloudInitKind::ConfigDrive,
            files: cloudinit::config_drive(&sync.vmi, source, secret, &path)?,
        });
    }
    if let Some(empty) = &volume.empty_disk {
        let path = format!("{path}.emptyDisk.capacity");
        let capacity = quantity::bytes(&empty.capacity)
            .map_err(|e| SpecError::new(&path, &empty.capacity.0, e.to_string()))?;
        if capacity == 0 || capacity > crate::image::MAX_VIRTUAL_SIZE {
            return Err(SpecError::new(
                path,
                &empty.capacity.0,
                "more than nothing and at most 64Ti",
            ));
        }
        return Ok(Content::Empty {
            capacity: capacity.div_ceil(512) * 512,
        });
    }
    if volume.ephemeral.is_some() {
        return Ok(Content::Ephemeral);
    }
    if volume.claim_name().is_some() {
        return Ok(Content::Claim);
    }
    if let Some(host) = &volume.host_disk {
        return host_disk(host, &format!("{path}.hostDisk"));
    }
    mounted(volume, &path)
}

impl Content {
    /// It outlives the guest, or somebody else may have it.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Claim | Self::Host { .. })
    }
}

fn host_disk(host: &vmi::HostDisk, path: &str) -> Result<Content, SpecError> {
    let file = host.path.rsplit('/').next().unwrap_or_default();
    let steps = host.path.split('/').skip(1);
    let plain =
        host.path.starts_with('/') && steps.clone().all(|step| !matches!(step, "" | "." | ".."));
    if !plain || steps.count() < 2 {
        return Err(SpecError::new(
            format!("{path}.path"),
            &host.path,
            "the absolute path of a file in a directory, without relative components",
        ));
    }
    let create = match host.type_.as_str() {
        "Disk" => None,
        "DiskOrCreate" => {
            let capacity = host.capacity.clone().unwrap_or_default();
            let field = format!("{path}.capacity");
            // None is fine while the image is there: the launcher looks.
            let bytes = if capacity.0.is_empty() {
                0
            } else {
                quantity::bytes(&capacity)
                    .map_err(|e| SpecError::new(&field, &capacity.0, e.to_string()))?
            };
            if bytes > crate::image::MAX_VIRTUAL_SIZE {
                return Err(SpecError::new(field, &capacity.0, "at most 64Ti"));
            }
            Some(bytes.div_ceil(512) * 512)
        }
        other => {
            return Err(SpecError::new(
                format!("{path}.type"),
                other,
                "Disk or DiskOrCreate",
            ));
        }
    };
    Ok(Content::Host {
        file: file.to_owned(),
        create,
    })
}

fn mounted(volume: &vmi::Volume, path: &str) -> Result<Content, SpecError> {
    let (from, label, field) = if let Some(source) = &volume.config_map {
        (
            Mounted::ConfigMap,
            source.volume_label.as_str(),
            "configMap",
        )
    } else if let Some(source) = &volume.secret {
        (Mounted::Secret, source.volume_label.as_str(), "secret")
    } else if let Some(source) = &volume.downward_api {
        let label = source.volume_label.as_str();
        (Mounted::DownwardApi, label, "downwardAPI")
    } else if volume.service_account.is_some() {
        (Mounted::ServiceAccount, "", "serviceAccount")
    } else {
        return Err(SpecError::missing(
            path,
            "one of containerDisk, persistentVolumeClaim, dataVolume, ephemeral, emptyDisk, hostDisk, cloudInitNoCloud, cloudInitConfigDrive, configMap, secret, serviceAccount, downwardAPI",
        ));
    };
    if label.chars().count() > LABEL_LENGTH || label.chars().any(char::is_control) {
        return Err(SpecError::new(
            format!("{path}.{field}.volumeLabel"),
            label,
            format!("at most {LABEL_LENGTH} printable characters"),
        ));
    }
    let label = if label.is_empty() { FILES_LABEL } else { label };
    Ok(Content::Mounted {
        from,
        label: label.to_owned(),
    })
}
