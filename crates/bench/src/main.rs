//! `make bench`: the claims about memory, time and requests, measured on a running
//! one-node cluster, beside upstream's numbers or the limit of the same run.
//!
//! Prints a table and writes JSON to the path given as the only argument. Nothing here
//! fails because a number is bad: a number is a finding, not a test.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod fleet;
mod images;
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
    let path = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("expected one argument: the file for the JSON")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(measure())?;
    print!("{}", report.table());
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

/// What is measured now: the whole takes minutes.
fn step(what: &str) {
    eprintln!("measuring {what}");
}

async fn measure() -> anyhow::Result<Report> {
    let world = World::new().await?;
    let mut report = Report::default();
    images::measure(&mut report)?;
    tiny::add()?;
    let result = async {
        step("the control plane at rest, a minute");
        process::at_rest(&world, &mut report).await?;
        step("requests for one VMI");
        requests::one_vmi(&world, &mut report).await?;
        step("start times, one at a time");
        start::one_at_a_time(&world, &mut report).await?;
        step("memory beside QEMU");
        process::beside_qemu(&world, &mut report).await?;
        step("start times, twenty at once");
        start::twenty_at_once(&world, &mut report).await?;
        step("the control plane made anew");
        install::again(&world, &mut report).await?;
        step("facts of a hundred nodes over SSH");
        fleet::measure(&mut report)
    }
    .await;
    world.clean().await?;
    tiny::remove()?;
    result.map(|()| report)
}
