//! Block devices with what is written on them, and what an earlier Ceph left.

use serde::{Deserialize, Serialize};

/// A block device of /sys/block, or a partition of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockDevice {
    /// Kernel name: `nvme0n1`, `sda1`, `dm-0`.
    pub name: String,
    /// What it is.
    pub kind: BlockKind,
    /// The disk a partition belongs to.
    pub parent: Option<String>,
    /// Names below /dev/disk that lead here, in full: `/dev/disk/by-id/…`, by-path, by-partuuid.
    pub links: Vec<String>,
    /// device/model.
    pub model: Option<String>,
    /// device/serial, `serial`, or the serial of the VPD page.
    pub serial: Option<String>,
    /// `wwid` or device/wwid.
    pub wwn: Option<String>,
    /// Size, bytes.
    pub size: u64,
    /// Logical block size, bytes.
    pub block_size: Option<u32>,
    /// queue/rotational.
    pub rotational: Option<bool>,
    /// `removable`.
    pub removable: Option<bool>,
    /// `ro`.
    pub read_only: Option<bool>,
    /// Devices on top of it: entries of `holders` (LVM, RAID, crypt, multipath).
    pub holders: Vec<String>,
    /// dm/name of a device mapper device.
    pub dm_name: Option<String>,
    /// dm/uuid of a device mapper device: `LVM-…`, `CRYPT-…`, `mpath-…`.
    pub dm_uuid: Option<String>,
    /// Where it is mounted (/proc/self/mountinfo).
    pub mounts: Vec<String>,
    /// It is a swap area in use.
    pub swap: bool,
    /// What is written on it.
    pub signatures: Vec<Signature>,
    /// Both ends could be read, so that no signature means that there is none.
    pub inspected: bool,
    /// Opened with O_EXCL: fails with EBUSY when the kernel uses the device. `None`: not tried.
    pub exclusive: Option<bool>,
}

/// What a block device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    /// A whole disk of any bus, NVMe included.
    Disk,
    /// A partition.
    Partition,
    /// A device mapper device.
    Mapper,
    /// A Linux software RAID array.
    Raid,
    /// loop, zram, ram, nbd, rbd, floppy, optical and all else.
    #[default]
    #[serde(other)]
    Other,
}

/// Something recognised on a block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signature {
    /// What it is.
    pub kind: SignatureKind,
    /// Where it begins, bytes from the start of the device.
    pub offset: u64,
    /// What else could be read: the type of a file system, a label, a UUID.
    pub detail: String,
}

/// What was recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureKind {
    /// A master boot record with partitions.
    Mbr,
    /// A GUID partition table at the start.
    Gpt,
    /// The copy of a GUID partition table at the end.
    GptBackup,
    /// An LVM physical volume: `LABELONE`.
    Lvm,
    /// A Ceph OSD: `bluestore block device`.
    Bluestore,
    /// LUKS 1 or 2.
    Luks,
    /// A member of a Linux software RAID.
    Raid,
    /// A member of a ZFS pool.
    Zfs,
    /// A swap area.
    Swap,
    /// A file system; its type is in the detail.
    Filesystem,
    /// Anything else; the detail says what.
    #[default]
    #[serde(other)]
    Other,
}

/// What an earlier Ceph cluster left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ceph {
    /// Entries of /var/lib/rook. `None`: there is no such directory.
    pub rook: Option<Vec<String>>,
    /// Entries of /var/lib/ceph that hold something. `None`: there is no such directory.
    pub lib: Option<Vec<String>>,
    /// Device mapper names that begin with `ceph-`.
    pub mapper: Vec<String>,
    /// Running Ceph processes by name.
    pub processes: Vec<String>,
}

impl SignatureKind {
    /// How people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mbr => "MBR partition table",
            Self::Gpt => "GPT partition table",
            Self::GptBackup => "backup GPT at the end",
            Self::Lvm => "LVM physical volume",
            Self::Bluestore => "Ceph OSD (bluestore)",
            Self::Luks => "LUKS",
            Self::Raid => "Linux RAID member",
            Self::Zfs => "ZFS member",
            Self::Swap => "swap",
            Self::Filesystem => "file system",
            Self::Other => "unknown signature",
        }
    }
}

impl BlockDevice {
    /// Its device node.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// The link that survives a reboot and a change of slots: by-id, else by-path, else the node.
    #[must_use]
    pub fn stable_path(&self) -> String {
        ["/dev/disk/by-id/", "/dev/disk/by-path/"]
            .iter()
            .find_map(|prefix| self.links.iter().find(|link| link.starts_with(prefix)))
            .cloned()
            .unwrap_or_else(|| self.path())
    }

    /// `wanted` names this device: node, kernel name, link in full or its last part, serial or WWN.
    #[must_use]
    pub fn answers_to(&self, wanted: &str) -> bool {
        wanted == self.name
            || wanted == self.path()
            || self.serial.as_deref() == Some(wanted)
            || self.wwn.as_deref() == Some(wanted)
            || self.links.iter().any(|link| {
                link == wanted || link.rsplit('/').next().is_some_and(|last| last == wanted)
            })
    }
}
