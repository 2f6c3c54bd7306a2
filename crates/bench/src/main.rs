//! `make bench`: the claims about memory, time and requests, measured on a running
//! one-node cluster, beside upstream's numbers or the limit of the same run.
//!
//! Prints a table and writes JSON to the path given as the first argument. Words after it
//! name the sections to measure instead of all. Nothing here fails because a number is
//! bad: a number is a finding, not a test.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod fleet;
mod images;
mod import;
mod install;
mod process;
mod report;
mod requests;
mod start;
mod tiny;
mod world;

use std::path::PathBuf;

use anyhow::Context;

use report::Report;
use world::World;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .map(PathBuf::from)
        .context("expected the file for the JSON, then nothing or names of sections")?;
    let only: Vec<String> = args.collect();
    if let Some(word) = only.iter().find(|word| !SECTIONS.contains(&word.as_str())) {
        anyhow::bail!("expected one of {}, found {word:?}", SECTIONS.join(", "));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(measure(&only))?;
    print!("{}", report.table());
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

/// The sections, in their order.
const SECTIONS: [&str; 10] = [
    "images", "rest", "requests", "single", "beside", "twenty", "install", "import", "upload",
    "fleet",
];

async fn measure(only: &[String]) -> anyhow::Result<Report> {
    let world = World::new().await?;
    let mut report = Report::default();
    tiny::add()?;
    let result = async {
        for section in SECTIONS {
            if only.is_empty() || only.iter().any(|word| word == section) {
                run(section, &world, &mut report).await?;
            }
        }
        Ok(())
    }
    .await;
    world.clean().await?;
    tiny::remove()?;
    result.map(|()| report)
}

/// One section; says first what it is, for the whole takes minutes.
async fn run(section: &str, world: &World, report: &mut Report) -> anyhow::Result<()> {
    let says = |what: &str| eprintln!("measuring {what}");
    match section {
        "images" => images::measure(report),
        "rest" => {
            says("the control plane at rest, a minute");
            process::at_rest(world, report).await
        }
        "requests" => {
            says("requests for one VMI");
            requests::one_vmi(world, report).await
        }
        "single" => {
            says("start times, one at a time");
            start::one_at_a_time(world, report).await
        }
        "beside" => {
            says("memory beside QEMU");
            process::beside_qemu(world, report).await
        }
        "twenty" => {
            says("start times, twenty at once");
            start::twenty_at_once(world, report).await
        }
        "install" => {
            says("the control plane made anew");
            install::again(world, report).await
        }
        "import" => {
            says("a disk image from HTTP into a claim");
            import::import(report)
        }
        "upload" => {
            says("a disk image over TLS into a claim");
            import::upload(report)
        }
        _ => {
            says("facts of a hundred nodes over SSH");
            fleet::measure(report)
        }
    }
}
