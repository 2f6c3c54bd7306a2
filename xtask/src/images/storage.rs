//! The image of node-local storage: the provisioner, and the shell in which its helper pods make and remove directories.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use oci::Tree;

use super::Workshop;
use super::base::skeleton;
use super::root::Root;

/// The set of third_party/build, and its program.
const PROVISIONER: &str = "local-path-provisioner";
/// What the scripts of the helper pods call (manifests/storage-local.yaml.j2).
const APPLETS: [&str; 4] = ["sh", "mkdir", "chmod", "rm"];

/// Builds the one layer.
pub(super) fn build(context: &mut Workshop) -> anyhow::Result<Tree> {
    let root = Root::new(&context.apt.closure(&["busybox-static"])?)?;
    let mut tree = Tree::owned_by(0, 0);
    skeleton(&mut tree)?;
    tree.file(
        "usr/bin/busybox",
        root.find("bin/busybox")?.to_owned(),
        0o755,
    )?;
    for applet in APPLETS {
        tree.symlink(&format!("usr/bin/{applet}"), "busybox")?;
    }
    tree.file(
        &format!("usr/bin/{PROVISIONER}"),
        provisioner(context)?,
        0o755,
    )?;
    Ok(tree)
}

/// The program, built from the Go module that third_party pins.
fn provisioner(context: &Workshop) -> anyhow::Result<PathBuf> {
    let output = Command::new(context.repository.join("third_party/build"))
        .args(["build", "--only", PROVISIONER, "--cache"])
        .arg(&context.cache)
        .stderr(Stdio::inherit())
        .output()
        .context("third_party/build")?;
    if !output.status.success() {
        bail!(
            "third_party/build --only {PROVISIONER} ended with {}",
            output.status
        );
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let set = text.lines().find_map(|line| line.strip_prefix("set "));
    let set = set.with_context(|| {
        format!("third_party/build: expected a line `set DIRECTORY`, found {text:?}")
    })?;
    Ok(PathBuf::from(set).join("bin").join(PROVISIONER))
}
