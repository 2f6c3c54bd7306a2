//! A disk with Debian's own programs that boots through the BIOS and GRUB: a node whose kernel command line is a file
//! of its own, and which can reboot.
//!
//! The packages are unpacked and none of their scripts run; the first program is that of the other nodes.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::Context;
use oci::{Kind, Source, Tree};

use super::programs::Programs;
use crate::images::bootable;
use crate::images::guest::{cpio, initramfs, modules};
use crate::images::root::Root;

/// Packages of the node, with all they depend on: a shell and tools, the bootloader, Python for Ansible, sudo.
pub(super) const PACKAGES: [&str; 10] = [
    "base-files",
    "dash",
    "coreutils",
    "sed",
    "grep",
    "gettext-base",
    "grub2-common",
    "grub-pc-bin",
    "python3",
    "sudo",
];
/// The disk's length in bytes; what is never written takes no room.
const DISK: u64 = 1 << 30;
/// What the core image needs to find grub.cfg.
const GRUB_MODULES: [&str; 6] = [
    "biosdisk",
    "part_msdos",
    "ext2",
    "normal",
    "serial",
    "terminal",
];
/// What the core image does first: it speaks where the kernel does.
const GRUB_EARLY: &str = "serial --unit=0\nterminal_output serial\n";
/// What the kernel needs before it has its root.
const EARLY_MODULES: &str = "virtio_pci virtio_blk crc32c_generic ext4";
/// What is written on the partition.
const LABEL: &str = "edgeroot";
/// The command line that the node begins with, as /etc/default/grub has it.
const LINUX: &str = "console=ttyS0 quiet panic=-1 no_timer_check intel_iommu=off hugepages=16";
/// The first program before the root is there.
const EARLY: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
for name in virtio_pci virtio_blk crc32c_generic ext4; do /bin/busybox modprobe "$name"; done
for word in $(/bin/busybox cat /proc/cmdline); do
  case $word in root=*) root=${word#root=} ;; esac
done
case $root in UUID=*|LABEL=*) root=$(/bin/busybox findfs "$root") ;; esac
/bin/busybox mount -t ext4 "$root" /mnt
/bin/busybox umount /dev /sys /proc
exec /bin/busybox switch_root /mnt /init
"#;

/// Makes the disk from the node's tree. `root` has the packages above and the kernel's.
pub(super) fn make(
    root: &Root,
    tools: &Programs,
    mut tree: Tree,
    work: &Path,
    disk: &Path,
) -> anyhow::Result<()> {
    let kernel = root
        .below("boot")
        .into_iter()
        .find_map(|path| path.strip_prefix("boot/vmlinuz-"))
        .context("the kernel's package has no /boot/vmlinuz-*")?
        .to_owned();
    tree.file("boot/grub/grub.cfg", first_menu(&kernel).as_str(), 0o600)?;
    let defaults = format!(
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\n\
         GRUB_CMDLINE_LINUX=\"{LINUX}\"\nGRUB_TERMINAL=serial\nGRUB_DISABLE_OS_PROBER=true\n"
    );
    tree.file("etc/default/grub", defaults.as_str(), 0o644)?;
    tree.file(&format!("boot/initrd.img-{kernel}"), early(root)?, 0o644)?;
    for path in ["boot/vmlinuz-", "boot/config-"] {
        root.copy(&format!("{path}{kernel}"), &mut tree)?;
    }
    let modules: Vec<String> = root
        .below("usr/lib/grub/i386-pc")
        .into_iter()
        .map(str::to_owned)
        .collect();
    for path in &modules {
        let name = path.rsplit('/').next().unwrap_or(path);
        let file = root.find(path)?.to_owned();
        tree.file(&format!("boot/grub/i386-pc/{name}"), file, 0o644)?;
    }
    let top = work.join("root");
    write_out(&tree, &top)?;
    let file = OpenOptions::new().write(true).create_new(true).open(disk)?;
    file.set_len(DISK)?;
    bootable::file_system(&top, disk, LABEL, DISK)?;
    let (boot, core) = boot_code(root, tools, work)?;
    bootable::write(&file, &boot, &core, DISK)?;
    fs::remove_dir_all(&top).with_context(|| top.display().to_string())
}

/// The menu until update-grub writes another.
fn first_menu(kernel: &str) -> String {
    format!(
        "linux /boot/vmlinuz-{kernel} root=LABEL={LABEL} rw {LINUX}\ninitrd /boot/initrd.img-{kernel}\nboot\n"
    )
}

/// The initial file system: busybox, the modules for the disk, a program that goes on from there.
fn early(root: &Root) -> anyhow::Result<Vec<u8>> {
    let mut tree = Tree::owned_by(0, 0);
    for dir in ["dev", "proc", "sys", "mnt"] {
        tree.dir(dir, 0o755)?;
    }
    tree.symlink("lib", "usr/lib")?;
    tree.file("init", EARLY, 0o755)?;
    tree.file("bin/busybox", root.find("bin/busybox")?.to_owned(), 0o755)?;
    let _ = modules::copy_with_aliases(root, EARLY_MODULES, &mut tree)?;
    Ok(initramfs::lz4(&cpio::archive(&tree)?))
}

/// Writes the tree as files, for mke2fs.
fn write_out(tree: &Tree, top: &Path) -> anyhow::Result<()> {
    if top.exists() {
        fs::remove_dir_all(top)?;
    }
    fs::create_dir_all(top)?;
    for (path, kind, mode) in tree.entries() {
        let to = top.join(path);
        let wrong = || to.display().to_string();
        match kind {
            Kind::Dir => fs::create_dir_all(&to).with_context(wrong)?,
            Kind::Symlink(target) => {
                symlink(target, &to).with_context(wrong)?;
                continue;
            }
            Kind::File(Source::Bytes(bytes)) => fs::write(&to, bytes).with_context(wrong)?,
            Kind::File(Source::Path(file)) => {
                let _ = fs::copy(file, &to).with_context(wrong)?;
            }
        }
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).with_context(wrong)?;
    }
    Ok(())
}

/// GRUB's code for the first sector, and its core image.
fn boot_code(root: &Root, tools: &Programs, work: &Path) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let boot = root.find("usr/lib/grub/i386-pc/boot.img")?;
    let library = boot.parent().context("boot.img has no directory")?;
    let (core, config) = (work.join("core.img"), work.join("core.cfg"));
    fs::write(&config, GRUB_EARLY)?;
    let shown = |path: &Path| path.display().to_string();
    let (to, config, from) = (shown(&core), shown(&config), shown(library));
    let mut words = vec!["-O", "i386-pc", "-d", &from, "-c", &config, "-o", &to];
    words.extend(["-p", "(hd0,msdos1)/boot/grub"]);
    words.extend(GRUB_MODULES);
    let _ = tools.run("grub-mkimage", &words)?;
    Ok((fs::read(boot)?, fs::read(&core)?))
}
