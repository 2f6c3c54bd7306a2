//! qemu-img of a package, with its own loader and libraries, so that none need be installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::root::Root;

/// The qcow2 of a raw disk, beside it, with these options besides.
pub(crate) fn pack(
    qemu: &Root,
    raw: &Path,
    work: &Path,
    options: &[&str],
) -> anyhow::Result<PathBuf> {
    let qcow2 = raw.with_extension("qcow2");
    let formats = ["-f", "raw", "-O", "qcow2"];
    convert(qemu, work, &[&formats, options].concat(), raw, &qcow2)?;
    Ok(qcow2)
}

/// The raw disk of a qcow2, which takes no more room than what is written in it.
pub(crate) fn unpack(qemu: &Root, qcow2: &Path, work: &Path, raw: &Path) -> anyhow::Result<()> {
    convert(qemu, work, &["-f", "qcow2", "-O", "raw"], qcow2, raw)
}

fn convert(
    qemu: &Root,
    work: &Path,
    options: &[&str],
    from: &Path,
    to: &Path,
) -> anyhow::Result<()> {
    let mut tree = oci::Tree::default();
    qemu.copy_programs(&["usr/bin/qemu-img"], &mut tree)?;
    let libraries = work.join("lib");
    fs::create_dir_all(&libraries)?;
    for (path, kind, _) in tree.entries() {
        if let oci::Kind::File(oci::Source::Path(file)) = kind {
            let name = path.rsplit('/').next().unwrap_or(path);
            // The loader is there twice: programs name it by one path, libraries by another.
            if !libraries.join(name).exists() {
                std::os::unix::fs::symlink(fs::canonicalize(file)?, libraries.join(name))?;
            }
        }
    }
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(&libraries)
        .arg(libraries.join("qemu-img"))
        .arg("convert")
        .args(options)
        .args([from, to]);
    let output = command.output().context("qemu-img")?;
    if !output.status.success() {
        bail!(
            "qemu-img convert ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
