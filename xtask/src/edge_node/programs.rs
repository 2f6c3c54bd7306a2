//! Programs of packages that run where they were unpacked, with their own loader and libraries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, bail};
use oci::{Kind, Source, Tree};

use crate::images::root::Root;

/// What the builder and the nodes call.
const PROGRAMS: [&str; 4] = [
    "usr/bin/grub-mkimage",
    "usr/bin/qemu-system-x86_64",
    "usr/bin/dropbearkey",
    "usr/bin/xz",
];
/// The program loader's file name on amd64.
const LOADER: &str = "ld-linux-x86-64.so.2";
/// What QEMU opens for a q35 that is given its kernel: the BIOS, and the option ROM that starts a vmlinux.
const FIRMWARE: [&str; 5] = [
    "usr/share/seabios/bios-256k.bin",
    "usr/share/qemu/kvmvapic.bin",
    "usr/share/qemu/linuxboot.bin",
    "usr/share/qemu/linuxboot_dma.bin",
    "usr/share/qemu/pvh.bin",
];

/// A directory with programs, their libraries and the loader side by side.
pub(super) struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Copies the programs into a directory, which afterwards holds nothing else.
    pub(super) fn collect(root: &Root, dir: &Path) -> anyhow::Result<Self> {
        let mut tree = Tree::default();
        root.copy_programs(&PROGRAMS, &mut tree)?;
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        fs::create_dir_all(dir)?;
        for (path, kind, _) in tree.entries() {
            if let Kind::File(Source::Path(file)) = kind {
                let to = dir.join(path.rsplit('/').next().unwrap_or(path));
                fs::copy(file, &to).with_context(|| to.display().to_string())?;
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Runs one of the programs to its end.
    pub(super) fn run(&self, program: &str, words: &[&str]) -> anyhow::Result<Output> {
        let output = Command::new(self.dir.join(LOADER))
            .arg("--library-path")
            .arg(&self.dir)
            .arg(self.dir.join(program))
            .args(words)
            .output()
            .with_context(|| format!("{program} of {}", self.dir.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} ended with {}: {}", output.status, said.trim());
        }
        Ok(output)
    }
}

/// Copies the firmware into a directory.
pub(super) fn firmware(root: &Root, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    for path in FIRMWARE {
        let to = dir.join(path.rsplit('/').next().unwrap_or(path));
        fs::copy(root.find(path)?, &to).with_context(|| to.display().to_string())?;
    }
    Ok(())
}
