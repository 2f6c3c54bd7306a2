//! Programs of this workspace, built for images.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use oci::Tree;
use serde_json::Value;

use super::Workshop;

/// The target whose programs are linked statically; the C library for static linking without glibc is not to be had.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";
/// The names under which the one binary is called.
const COMPONENTS: [&str; 12] = [
    "virt-operator",
    "virt-api",
    "virt-controller",
    "virt-handler",
    "virt-launcher",
    "cdi-operator",
    "cdi-apiserver",
    "cdi-controller",
    "cdi-uploadproxy",
    "cdi-importer",
    "cdi-uploadserver",
    "cdi-cloner",
];

/// The packages that `make build` builds. Cargo chooses the features of shared libraries for all packages of a call
/// together, so a call that named fewer would compile much of it again.
const PROGRAMS: [&str; 3] = ["edgevirt", "virtctl", "edgevirt-bin"];
/// The packages of the static programs, all in one call for the same reason.
const STATIC_PROGRAMS: [&str; 4] = ["container-disk", "guest-seed", "pause", "probe"];

/// The layer of our own programs.
pub(super) fn virt(workshop: &Workshop, built: Option<&Path>) -> anyhow::Result<Tree> {
    let virt = match built {
        Some(path) => path.to_owned(),
        None => cargo(&workshop.repository, &PROGRAMS, &[], None, "edgevirt-bin")?,
    };
    let mut tree = Tree::owned_by(0, 0);
    tree.file("usr/bin/virt", virt, 0o755)?;
    for name in COMPONENTS {
        tree.symlink(&format!("usr/bin/{name}"), "virt")?;
    }
    let helper = static_program(&workshop.repository, "container-disk")?;
    tree.file("usr/libexec/edgevirt/container-disk", helper, 0o755)?;
    Ok(tree)
}

/// The pause image's one layer.
pub(super) fn pause(workshop: &Workshop) -> anyhow::Result<Tree> {
    let mut tree = Tree::owned_by(0, 0);
    tree.file(
        "pause",
        static_program(&workshop.repository, "pause")?,
        0o755,
    )?;
    Ok(tree)
}

/// The demo guest's own program.
pub(super) fn guest_seed(workshop: &Workshop) -> anyhow::Result<PathBuf> {
    static_program(&workshop.repository, "guest-seed")
}

/// The program that preflight runs on nodes.
pub(super) fn probe(repository: &Path) -> anyhow::Result<PathBuf> {
    static_program(repository, "probe")
}

fn static_program(repository: &Path, package: &str) -> anyhow::Result<PathBuf> {
    let flags = "-C target-feature=+crt-static";
    // A directory of their own: these change seldom and need not wait for a build of everything else.
    let directory = repository.join("target/static").display().to_string();
    let target = ["--target", STATIC_TARGET, "--target-dir", &directory];
    cargo(repository, &STATIC_PROGRAMS, &target, Some(flags), package)
}

/// Builds packages and gives the program that cargo says it made of one of them.
fn cargo(
    repository: &Path,
    packages: &[&str],
    more: &[&str],
    flags: Option<&str>,
    wanted: &str,
) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `cargo run` tells this program about its own package would reach the build
    // scripts that watch those variables (ring's), and everything be built again.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
        .args([
            "build",
            "--release",
            "--locked",
            "--message-format=json-render-diagnostics",
        ])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .args(more)
        .current_dir(repository)
        .stderr(Stdio::inherit());
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags);
    }
    let output = command.output().context("cargo")?;
    if !output.status.success() {
        bail!(
            "cargo build -p {} ended with {}",
            packages.join(" -p "),
            output.status
        );
    }
    // A package's id ends with NAME#VERSION or PATH/NAME#VERSION, or with NAME@VERSION.
    let of_wanted = |message: &Value| {
        let id = message["package_id"].as_str().unwrap_or_default();
        let name = id.rsplit('/').next().unwrap_or(id);
        name.starts_with(&format!("{wanted}#")) || name.contains(&format!("#{wanted}@"))
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(of_wanted)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo built {wanted} and no program; expected it to have one"))
}
