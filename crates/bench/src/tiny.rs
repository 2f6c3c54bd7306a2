//! The guest of the start times: it prints a word on its serial port and halts.
//!
//! Twenty guests that boot an operating system by emulation would measure the
//! processor; this one costs no more than the bare pod it is compared with.

use std::process::Command;

use anyhow::{Context, bail};

/// The image that `edgevirt image` puts into the cluster's registry.
pub(crate) const IMAGE: &str = "edgevirt.local/bench-tiny:1";

/// A disk of one sector is the least a BIOS boots; QEMU's block layer wants more
/// than that for a qcow2 overlay of sensible geometry.
const DISK: usize = 64 << 10;
/// What the guest prints, with the final zero that ends its loop.
const WORD: &[u8] = b"up\r\n\0";

/// The disk: a boot sector in 16-bit code, loaded at 0x7c00.
fn disk() -> Vec<u8> {
    const CODE: &[u8] = &[
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x16, 0x7c, // mov si, 0x7c16
        0xac, // 7: lodsb
        0x08, 0xc0, // or al, al
        0x74, 0x06, // jz 0x12
        0xba, 0xf8, 0x03, // mov dx, 0x3f8: COM1
        0xee, // out dx, al
        0xeb, 0xf5, // jmp 7
        0xfa, // 0x12: cli
        0xf4, // hlt
        0xeb, 0xfd, // jmp to the hlt
    ];
    let mut disk = [CODE, WORD].concat();
    disk.resize(510, 0);
    disk.extend([0x55, 0xaa]);
    disk.resize(DISK, 0);
    disk
}

/// Puts the guest's disk into the registry, as a user would.
pub(crate) fn add() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("tiny.raw");
    std::fs::write(&path, disk())?;
    edgevirt(&[
        "image",
        "add",
        "-q",
        "--file",
        &path.to_string_lossy(),
        IMAGE,
    ])
}

/// Takes it out again.
pub(crate) fn remove() -> anyhow::Result<()> {
    edgevirt(&["image", "rm", "-q", IMAGE])
}

/// The installer that was built beside this program.
fn edgevirt(args: &[&str]) -> anyhow::Result<()> {
    let program = std::env::current_exe()?.with_file_name("edgevirt");
    let output = Command::new(&program)
        .args(args)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "edgevirt {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_lies_where_the_code_looks_for_it_and_the_sector_boots() {
        let disk = disk();
        assert_eq!(&disk[0x16..0x16 + WORD.len()], WORD);
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        assert_eq!(disk.len(), DISK);
    }
}
