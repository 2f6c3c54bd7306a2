//! The guest's disk: an MBR and one FAT partition with syslinux, made without mounting anything.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::super::qemu_img;
use super::super::root::Root;

const SECTOR: u64 = 512;
/// Where the partition begins, in sectors: 1 MiB, as every partitioner has it.
const START: u32 = 2048;
/// The disk's length in bytes. Room for the user to try things; sectors never written take no place.
const DISK: u64 = 64 << 20;
/// The serial numbers of disk and volume; any will do, as long as it is always the same.
const SERIAL: u32 = 0xed9e_0001;
/// Seconds since 1970 for every time in the file system: FAT begins with 1980.
const EPOCH: &str = "315532800";

/// Makes the qcow2 and gives its path.
pub(super) fn build(
    repository: &Path,
    root: &Root,
    qemu: &Root,
    initrd: &[u8],
    work: &Path,
) -> anyhow::Result<PathBuf> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    fs::create_dir_all(work)?;
    let raw = work.join("guest.raw");
    let disk = OpenOptions::new().write(true).create_new(true).open(&raw)?;
    disk.set_len(DISK)?;
    write_mbr(
        &disk,
        &fs::read(root.find("usr/lib/syslinux/mbr/mbr.bin")?)?,
    )?;

    let tools = Tools::new(root, work)?;
    let initrd_file = work.join("initrd");
    fs::write(&initrd_file, initrd)?;
    let kernel = root
        .below("boot")
        .into_iter()
        .find(|path| path.starts_with("boot/vmlinuz-"))
        .context("the kernel's package has no /boot/vmlinuz-*")?;
    let kernel_file = work.join("vmlinuz");
    fs::copy(root.find(kernel)?, &kernel_file)?;

    let partition = format!("{}@@{}", raw.display(), u64::from(START) * SECTOR);
    let sectors = (DISK / SECTOR - u64::from(START)).to_string();
    let hidden = START.to_string();
    let serial = format!("{SERIAL:08x}");
    tools.run(
        "mformat",
        &[
            "-i", &partition, "-T", &sectors, "-h", "64", "-s", "32", "-H", &hidden, "-N", &serial,
            "-v", "BOOT", "::",
        ],
    )?;
    let loader = root.find("usr/lib/syslinux/modules/bios/ldlinux.c32")?;
    let config = repository.join("guest/syslinux.cfg");
    for (file, name) in [
        (kernel_file.as_path(), "vmlinuz"),
        (&initrd_file, "initrd"),
        (&config, "syslinux.cfg"),
        (loader, "ldlinux.c32"),
    ] {
        tools.run(
            "mcopy",
            &[
                "-i",
                &partition,
                &file.display().to_string(),
                &format!("::{name}"),
            ],
        )?;
    }
    let offset = (u64::from(START) * SECTOR).to_string();
    tools.run(
        "syslinux",
        &["--install", "--offset", &offset, &raw.display().to_string()],
    )?;
    qemu_img::pack(qemu, &raw, work, &[])
}

/// Boot code, one active FAT16 partition up to the end, the signature.
fn write_mbr(disk: &File, code: &[u8]) -> anyhow::Result<()> {
    if code.len() > 440 {
        bail!("mbr.bin has {} bytes; expected at most 440", code.len());
    }
    let mut sector = [0; SECTOR as usize];
    sector[..code.len()].copy_from_slice(code);
    sector[440..444].copy_from_slice(&SERIAL.to_le_bytes());
    let length = u32::try_from(DISK / SECTOR)? - START;
    let entry = &mut sector[446..462];
    // Active; addresses by cylinder are out of range on purpose, so that only those by sector count.
    entry[..4].copy_from_slice(&[0x80, 0xfe, 0xff, 0xff]);
    entry[4..8].copy_from_slice(&[0x0e, 0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&START.to_le_bytes());
    entry[12..16].copy_from_slice(&length.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(disk.write_all_at(&sector, 0)?)
}

/// mtools and syslinux from their packages. They need libc alone, which a Debian machine has.
struct Tools {
    path: String,
}

impl Tools {
    fn new(root: &Root, work: &Path) -> anyhow::Result<Self> {
        let dir = work.join("bin");
        fs::create_dir_all(&dir)?;
        let mtools = root.find("usr/bin/mtools")?;
        // One program by many names; syslinux calls some of them.
        for name in [
            "mtools", "mformat", "mcopy", "mattrib", "mmove", "mdel", "mren",
        ] {
            std::os::unix::fs::symlink(fs::canonicalize(mtools)?, dir.join(name))?;
        }
        std::os::unix::fs::symlink(
            fs::canonicalize(root.find("usr/bin/syslinux")?)?,
            dir.join("syslinux"),
        )?;
        Ok(Self {
            path: format!("{}:/usr/bin:/bin", dir.display()),
        })
    }

    fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("/usr/bin/env");
        command
            .arg(program)
            .args(args)
            .env("PATH", &self.path)
            .env("TZ", "UTC")
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .env("MTOOLS_SKIP_CHECK", "1");
        run(command, program)
    }
}

fn run(mut command: Command, what: &str) -> anyhow::Result<()> {
    let output = command.output().with_context(|| what.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "{what} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )
}
