//! Programs of this workspace, built for images.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use oci::Tree;

use super::Workshop;

/// The target whose programs are linked statically; the C library for static linking without glibc is not to be had.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";
/// The names under which the one binary is called.
const COMPONENTS: [&str; 5] = [
    "virt-operator",
    "virt-api",
    "virt-controller",
    "virt-handler",
    "virt-launcher",
];

/// The layer of our own programs.
pub(super) fn virt(context: &Workshop) -> anyhow::Result<Tree> {
    let virt = release(&context.repository, "edgevirt-bin", "virt")?;
    let helper = static_release(&context.repository, "container-disk", "container-disk")?;
    let mut tree = Tree::owned_by(0, 0);
    tree.file("usr/bin/virt", virt, 0o755)?;
    for name in COMPONENTS {
        tree.symlink(&format!("usr/bin/{name}"), "virt")?;
    }
    tree.file("usr/libexec/edgevirt/container-disk", helper, 0o755)?;
    Ok(tree)
}

/// The pause image's one layer.
pub(super) fn pause(context: &Workshop) -> anyhow::Result<Tree> {
    let mut tree = Tree::owned_by(0, 0);
    tree.file(
        "pause",
        static_release(&context.repository, "pause", "pause")?,
        0o755,
    )?;
    Ok(tree)
}

/// The demo guest's own program.
pub(super) fn guest_seed(context: &Workshop) -> anyhow::Result<PathBuf> {
    static_release(&context.repository, "guest-seed", "guest-seed")
}

fn release(repository: &Path, package: &str, binary: &str) -> anyhow::Result<PathBuf> {
    cargo(
        repository,
        &["build", "--release", "--locked", "-p", package],
        None,
    )?;
    built(target_dir(repository).join("release").join(binary), package)
}

fn static_release(repository: &Path, package: &str, binary: &str) -> anyhow::Result<PathBuf> {
    let args = [
        "build",
        "--release",
        "--locked",
        "-p",
        package,
        "--target",
        STATIC_TARGET,
    ];
    cargo(repository, &args, Some("-C target-feature=+crt-static"))?;
    built(
        target_dir(repository)
            .join(STATIC_TARGET)
            .join("release")
            .join(binary),
        package,
    )
}

fn target_dir(repository: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), PathBuf::from)
}

fn built(path: PathBuf, package: &str) -> anyhow::Result<PathBuf> {
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        "cargo built {package}, yet {} is not there; is its binary called otherwise?",
        path.display()
    )
}

fn cargo(repository: &Path, args: &[&str], flags: Option<&str>) -> anyhow::Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(repository);
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags);
    }
    let status = command.status().context("cargo")?;
    if status.success() {
        Ok(())
    } else {
        bail!("cargo {} ended with {status}", args.join(" "))
    }
}
