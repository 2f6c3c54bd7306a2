//! The guest's root: guest/rootfs of this repository, programs of Debian, our seed reader.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use oci::Tree;

use super::super::Workshop;
use super::super::base;
use super::super::build;
use super::super::root::Root;
use super::{cpio, modules};

/// Programs that are linked to libraries.
const PROGRAMS: [&str; 4] = [
    "usr/sbin/dropbear",
    "usr/bin/dropbearkey",
    // Where dropbear looks for it; scp of today speaks its protocol.
    "usr/lib/sftp-server",
    "usr/sbin/qemu-ga",
];
/// The kernel unpacks LZ4 many times faster than anything smaller, which counts most where the CPU is emulated.
const LZ4_LEGACY_MAGIC: [u8; 4] = 0x184C_2102_u32.to_le_bytes();
/// The block length of that form.
const LZ4_BLOCK: usize = 8 << 20;

/// The compressed archive.
pub(super) fn build(context: &Workshop, root: &Root) -> anyhow::Result<Vec<u8>> {
    let mut tree = Tree::owned_by(0, 0);
    base::skeleton(&mut tree)?;
    tree.dir("home/cirros", 0o755)?;
    tree.dir("etc/dropbear", 0o700)?;
    tree.dir("mnt", 0o755)?;
    let overlay = context.repository.join("guest/rootfs");
    copy_overlay(&overlay, &overlay, &mut tree)?;
    tree.file("etc/shadow", fs::read(overlay.join("etc/shadow"))?, 0o600)?;

    root.copy_programs(&PROGRAMS, &mut tree)?;
    // Set-user-ID for su, login and passwd; busybox gives it up at once for every other applet.
    tree.file(
        "usr/bin/busybox",
        root.find("bin/busybox")?.to_owned(),
        0o4755,
    )?;
    let busybox = root.find("bin/busybox")?;
    for (path, target) in applets(busybox)? {
        if !tree.contains(&path) {
            tree.symlink(&path, &target)?;
        }
    }
    tree.symlink("init", "usr/bin/busybox")?;
    // One program by two names; as guest-seed it serves root alone.
    tree.file("usr/sbin/guest-seed", build::guest_seed(context)?, 0o4755)?;
    tree.symlink("usr/bin/sudo", "/usr/sbin/guest-seed")?;
    let names = fs::read_to_string(overlay.join("etc/modules"))?;
    modules::copy(root, &names, &mut tree)?;
    Ok(lz4(&cpio::archive(&tree)?))
}

pub(crate) fn copy_overlay(top: &Path, dir: &Path, tree: &mut Tree) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            copy_overlay(top, &path, tree)?;
            continue;
        }
        let name = path.strip_prefix(top)?.to_string_lossy().into_owned();
        let executable = entry.metadata()?.permissions().mode() & 0o111 != 0;
        tree.file(&name, path, if executable { 0o755 } else { 0o644 })?;
    }
    Ok(())
}

/// Busybox's own list of where its applets belong.
pub(crate) fn applets(busybox: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let output = std::process::Command::new(busybox)
        .arg("--list-full")
        .output()
        .context("busybox --list-full")?;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let link = |path: &str| {
        let path = super::super::root::merged(path);
        (path != "usr/bin/busybox" && !path.is_empty())
            .then(|| (path, "/usr/bin/busybox".to_owned()))
    };
    Ok(list.lines().filter_map(link).collect())
}

pub(crate) fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut out = LZ4_LEGACY_MAGIC.to_vec();
    for block in bytes.chunks(LZ4_BLOCK) {
        let packed = lz4_flex::block::compress(block);
        // A block of 8 MiB packs to less than 4 GiB.
        out.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        out.extend_from_slice(&packed);
    }
    out
}
