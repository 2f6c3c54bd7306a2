//! cdi-controller: DataVolumes into claims, claims into worker pods, and the word of
//! the workers back.
//!
//! ```text
//!   watches ── events ──► World ── keys ──► WorkQueue ──► decide ──► act ─┐
//!                           ▲                               ▲   until the plan is empty
//!                           └──── what the API server answered ─────────────┘
//! ```
//! As in virt-controller: the world is a synchronous picture of the cluster, decisions
//! are pure (`decide::cdi`), and nothing in memory is the truth. Only the progress of
//! workers is asked for, every two seconds, while they work.

mod act;
mod certify;
mod cron;
mod measure;
mod permits;
mod run;
mod storage;
#[cfg(test)]
mod tests;
mod transfer;
mod ways;
mod world;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use kube_kit::Shutdown;
use kube_kit::args::Args;
use kube_kit::lease::lead_and_answer_probes;

/// Lease by which one replica leads.
const LEASE: &str = "cdi-controller";

/// What the command line says.
#[derive(Clone, Debug)]
struct Options {
    worker_image: String,
    namespace: String,
    health_port: u16,
    certificates: PathBuf,
}

impl Options {
    fn parse(args: Vec<OsString>) -> anyhow::Result<Self> {
        let mut args = Args::new(args);
        let options = Self {
            worker_image: args.required("--worker-image")?,
            namespace: args.or("--namespace", api::cdi::names::NAMESPACE.to_owned())?,
            health_port: args.or("--health-port", 8080)?,
            certificates: args.or("--certificates", PathBuf::from("/var/run/certs"))?,
        };
        args.finish()?;
        Ok(options)
    }
}

/// Runs cdi-controller with the arguments after its name: `--worker-image REF
/// [--namespace cdi] [--health-port 8080] [--certificates /var/run/certs]`.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("cdi-controller", |shutdown| run(args, shutdown))
}

async fn run(args: Vec<OsString>, shutdown: Shutdown) -> anyhow::Result<()> {
    let options = Options::parse(args).context("command line of cdi-controller")?;
    let client = kube_kit::client()?;
    lead_and_answer_probes(
        &client,
        &options.namespace,
        LEASE,
        options.health_port,
        &shutdown,
        || async {
            let controller = run::Controller::new(client.clone(), &options);
            controller.run().await;
            Ok(())
        },
    )
    .await
}
