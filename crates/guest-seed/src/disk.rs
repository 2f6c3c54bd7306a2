//! Finds the seed among the block devices by its label and gives the files on it.
//!
//! NoCloud: a file system labelled `cidata` in either case, ISO 9660 or FAT, with user-data, meta-data and maybe
//! network-config. Config drive: one labelled `config-2`, with openstack/latest/user_data and meta_data.json.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Where the seed is mounted while it is read.
const MOUNT_POINT: &str = "/run/seed/disk";
/// The longest seed file that is read.
const FILE_MAX: u64 = 32 << 20;

/// The files of a seed; one that is not there is empty.
#[derive(Debug, Default)]
pub(crate) struct Seed {
    pub(crate) source: String,
    pub(crate) user_data: Vec<u8>,
    pub(crate) meta_data: Vec<u8>,
    pub(crate) network: Vec<u8>,
}

/// The first seed found; none if no disk has such a label.
pub(crate) fn find() -> anyhow::Result<Option<Seed>> {
    for device in block_devices()? {
        let Some((label, kind)) = label(&device) else {
            continue;
        };
        let names: [&str; 3] = match label.to_ascii_lowercase().as_str() {
            "cidata" => ["user-data", "meta-data", "network-config"],
            "config-2" => [
                "openstack/latest/user_data",
                "openstack/latest/meta_data.json",
                "",
            ],
            _ => continue,
        };
        return read(&device, kind, names)
            .with_context(|| format!("the seed on {} ({kind}, {label})", device.display()))
            .map(Some);
    }
    Ok(None)
}

/// Every block device, whole disks and partitions.
fn block_devices() -> anyhow::Result<Vec<PathBuf>> {
    let mut devices: Vec<PathBuf> = fs::read_dir("/sys/class/block")
        .context("/sys/class/block")?
        .filter_map(|entry| Some(Path::new("/dev").join(entry.ok()?.file_name())))
        .collect();
    devices.sort();
    Ok(devices)
}

/// The label of an ISO 9660 or FAT file system.
fn label(device: &Path) -> Option<(String, &'static str)> {
    let mut file = File::open(device).ok()?;
    let mut boot = [0; 512];
    file.read_exact(&mut boot).ok()?;
    let mut descriptor = [0; 72];
    let iso = file
        .seek(SeekFrom::Start(32768))
        .and_then(|_| file.read_exact(&mut descriptor));
    if iso.is_ok() && &descriptor[1..6] == b"CD001" {
        return Some((trim(&descriptor[40..72]), "iso9660"));
    }
    let fat = |at: usize, label: usize| {
        (&boot[at..at + 3] == b"FAT").then(|| trim(&boot[label..label + 11]))
    };
    // FAT12 and FAT16 have their label at 43, FAT32 at 71.
    fat(54, 43)
        .or_else(|| fat(82, 71))
        .map(|label| (label, "vfat"))
}

fn trim(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches([' ', '\0'])
        .to_owned()
}

fn read(device: &Path, kind: &str, names: [&str; 3]) -> anyhow::Result<Seed> {
    fs::create_dir_all(MOUNT_POINT)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(device, MOUNT_POINT, kind, flags, None).context("mount")?;
    let get = |name: &str| -> anyhow::Result<Vec<u8>> {
        let mut content = Vec::new();
        if !name.is_empty()
            && let Ok(file) = File::open(Path::new(MOUNT_POINT).join(name))
        {
            file.take(FILE_MAX)
                .read_to_end(&mut content)
                .with_context(|| name.to_owned())?;
        }
        Ok(content)
    };
    let [user_data, meta_data, network] = names.map(get);
    unmount(MOUNT_POINT, UnmountFlags::empty()).context("unmount")?;
    Ok(Seed {
        source: device.display().to_string(),
        user_data: user_data?,
        meta_data: meta_data?,
        network: network?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_of_iso_and_fat_are_found_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let image = |writes: &[(usize, &[u8])]| {
            let mut bytes = vec![0; 40_000];
            for (at, text) in writes {
                bytes[*at..*at + text.len()].copy_from_slice(text);
            }
            let path = dir.path().join("image");
            fs::write(&path, bytes).unwrap();
            label(&path)
        };
        assert_eq!(
            image(&[(32769, b"CD001"), (32808, b"cidata   ")]),
            Some(("cidata".into(), "iso9660"))
        );
        assert_eq!(
            image(&[(54, b"FAT16"), (43, b"CIDATA     ")]),
            Some(("CIDATA".into(), "vfat"))
        );
        assert_eq!(
            image(&[(82, b"FAT32"), (71, b"CONFIG-2   ")]),
            Some(("CONFIG-2".into(), "vfat"))
        );
        assert_eq!(image(&[]), None);
    }
}
