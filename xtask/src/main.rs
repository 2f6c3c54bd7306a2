//! Chores of the repository that need Rust: generated files, images, checks, test nodes.

mod check;
mod cloud_image;
mod edge_node;
mod r#gen;
mod images;

use std::path::Path;

use clap::Parser;

/// Chores of the repository.
#[derive(Parser, Debug)]
#[command(name = "xtask")]
enum Chore {
    /// Write the generated files, or check that they are up to date.
    Gen(r#gen::Args),
    /// Hold the layering of the crates and the rules on files.
    Check,
    /// Build the container images and the demo guest.
    Images(images::Args),
    /// Build the static program that preflight runs on nodes.
    Probe(images::ProbeArgs),
    /// Build the image of a Debian with cloud-init that persistent machines are tested with.
    CloudImage(cloud_image::Args),
    /// Build and start the nodes that the preflight checks are tested on.
    EdgeNode(edge_node::Args),
}

fn main() -> anyhow::Result<()> {
    // CARGO_MANIFEST_DIR is xtask/; the repository is its parent.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().unwrap_or(manifest);
    match Chore::parse() {
        Chore::Gen(args) => r#gen::run(root, &args),
        Chore::Check => check::run(),
        Chore::Images(args) => images::run(root, &args),
        Chore::Probe(args) => images::probe(root, &args),
        Chore::CloudImage(args) => cloud_image::run(&args),
        Chore::EdgeNode(args) => edge_node::run(root, &args),
    }
}
