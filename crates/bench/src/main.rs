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

/// The sections that need no cluster.
const ALONE: [&str; 4] = ["images", "import", "upload", "fleet"];

async fn measure(only: &[String]) -> anyhow::Result<Report> {
    let wanted = |section: &&str| only.is_empty() || only.iter().any(|word| word == section);
    let sections: Vec<&str> = SECTIONS.into_iter().filter(wanted).collect();
    let mut report = Report::default();
    if sections.iter().all(|section| ALONE.contains(section)) {
        for section in sections {
            alone(section, &mut report)?;
        }
        return Ok(report);
    }
    let world = World::new().await?;
    tiny::add()?;
    let result = async {
        for section in sections {
            if ALONE.contains(&section) {
                alone(section, &mut report)?;
            } else {
                on_cluster(section, &world, &mut report).await?;
            }
        }
        Ok(())
    }
    .await;
    world.clean().await?;
    tiny::remove()?;
    result.map(|()| report)
}

/// Says what is measured, for the whole takes minutes.
fn says(what: &str) {
    eprintln!("measuring {what}");
}

async fn on_cluster(section: &str, world: &World, report: &mut Report) -> anyhow::Result<()> {
    match section {
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
        _ => {
            says("the control plane made anew");
            install::again(world, report).await
        }
    }
}

fn alone(section: &str, report: &mut Report) -> anyhow::Result<()> {
    match section {
        "images" => images::measure(report),
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
