//! Makes the launcher the owner of its guest's durable disks, as it sees them.
//!
//! The kubelet gives file systems to the launcher's group where their driver
//! can; directories of the node and old images belong to somebody else, and a
//! block device to root. So images become the launcher's user's, one that is
//! missing is made empty (the launcher gives it its size), and device nodes are
//! given. All of it inside the launcher's own root, never through a link.
//!
//! Source of the rule: KubeVirt, pkg/virt-handler (`nonRootSetup`) and
//! pkg/host-disk.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use api::VirtualMachineInstance;
use api::names::{CLAIM_IMAGE, DISKS_DIR, NONROOT_UID, PRIVATE_DIR};
use api::vmi::Volume;
use host::files::Given;

/// Gives what the VMI's volumes need to the launcher with this process id.
///
/// # Errors
/// A sentence that names the volume.
pub(crate) fn give(pid: u32, vmi: &VirtualMachineInstance) -> Result<(), String> {
    for (index, volume) in vmi.spec.volumes.iter().enumerate() {
        let told = |error| format!("spec.volumes[{index}] ({}): {error}", volume.name);
        if volume.name.contains('/') || volume.name.starts_with('.') {
            return Err(told(io::Error::other("expected a DNS label as its name")));
        }
        match wanted(volume) {
            Some((name, make)) => one(pid, &volume.name, name, make).map_err(told)?,
            // A device node is the container's own; whose the device is, it does not say.
            None if volume.claim_name().is_some() => device(pid, &volume.name).map_err(told)?,
            None => {}
        }
    }
    Ok(())
}

/// The image of a volume that is the launcher's to write, and whether to make it.
fn wanted(volume: &Volume) -> Option<(&str, bool)> {
    if let Some(host) = &volume.host_disk {
        let name = host.path.rsplit('/').next()?;
        return Some((name, host.type_ == "DiskOrCreate"));
    }
    let claim = volume.claim_name()?;
    // What is only read stays whose it is: others may have it too.
    (!claim.is_empty() && !volume.claim_is_read_only()).then_some((CLAIM_IMAGE, true))
}

fn one(pid: u32, volume: &str, name: &str, make: bool) -> io::Result<()> {
    let directory = PathBuf::from(PRIVATE_DIR).join(DISKS_DIR).join(volume);
    let name = OsStr::new(name);
    match host::files::give_of_process(pid, &directory, name, make, NONROOT_UID, NONROOT_UID) {
        Ok(Given::NoDirectory) => device(pid, volume),
        Ok(Given::NoFile | Given::Yes) => Ok(()),
        // A server that lets nobody be root (NFS) or a volume that is mounted read-only:
        // the launcher may have its way in all the same, and tells when it has not.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            tracing::info!(volume, "its image keeps its owner: {error}");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Gives the block device of a volume. One that is missing, the launcher tells of.
fn device(pid: u32, volume: &str) -> io::Result<()> {
    let device = Path::new("dev").join(volume);
    host::devnode::give_block(pid, &device, NONROOT_UID, NONROOT_UID)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_written_is_given_and_only_what_may_be_is_made() {
        let cases = [
            (
                json!({"dataVolume": {"name": "d"}}),
                Some(("disk.img", true)),
            ),
            (
                json!({"persistentVolumeClaim": {"claimName": "c"}}),
                Some(("disk.img", true)),
            ),
            (
                json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}),
                None,
            ),
            (
                json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}}),
                None,
            ),
            (
                json!({"hostDisk": {"path": "/a/b.img", "type": "Disk"}}),
                Some(("b.img", false)),
            ),
            (
                json!({"hostDisk": {"path": "/a/b.img", "type": "DiskOrCreate"}}),
                Some(("b.img", true)),
            ),
            (json!({"containerDisk": {"image": "i"}}), None),
        ];
        for (source, expected) in cases {
            let volume: Volume = serde_json::from_value(source).unwrap();
            assert_eq!(wanted(&volume), expected, "{volume:?}");
        }
    }
}
