//! The demo guest: a disk that boots Debian's cloud kernel into an initramfs of busybox, dropbear and the guest agent.

pub(crate) mod cpio;
mod disk;
pub(crate) mod initramfs;
pub(crate) mod modules;

use std::path::PathBuf;

use oci::Tree;

use super::Workshop;
use super::root::Root;

/// The name the user's document has for it.
pub(super) const REFERENCE: &str = "docker.io/kubevirt/cirros-registry-disk-demo:latest";
/// The user whom disk images belong to, by KubeVirt's convention.
const OWNER: u64 = 107;

/// Builds the image's one layer.
pub(super) fn build(context: &mut Workshop) -> anyhow::Result<Tree> {
    let kernel = context
        .apt
        .dependency("linux-image-cloud-amd64", "linux-image-6")?;
    let mut trees = context.apt.closure(&[
        "busybox-static",
        "dropbear-bin",
        "openssh-sftp-server",
        "qemu-guest-agent",
    ])?;
    trees.extend(
        context
            .apt
            .exactly(&[&kernel, "syslinux", "syslinux-common", "mtools"])?,
    );
    let root = Root::new(&trees)?;
    let qemu = Root::new(&context.apt.closure(&["qemu-utils"])?)?;

    let initrd = initramfs::build(context, &root)?;
    let work = context.cache.join("guest");
    let disk: PathBuf = disk::build(&context.repository, &root, &qemu, &initrd, &work)?;
    let mut tree = Tree::owned_by(OWNER, OWNER);
    tree.file("disk/guest.qcow2", disk, 0o440)?;
    Ok(tree)
}
