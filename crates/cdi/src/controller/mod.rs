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
mod measure;
mod run;
#[cfg(test)]
mod tests;
mod world;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use kube_kit::Shutdown;
use kube_kit::args::Args;
use kube_kit::health::Health;

/// Lease by which one replica leads.
const LEASE: &str = "cdi-controller";

/// What the command line says.
#[derive(Clone, Debug)]
struct Options {
    worker_image: String,
    namespace: String,
    health_port: u16,
    certificates: PathBuf,
    /// Objects of this namespace only, or of all.
    only: Option<String>,
}

impl Options {
    fn parse(args: Vec<OsString>) -> anyhow::Result<Self> {
        let mut args = Args::new(args);
        let options = Self {
            worker_image: args.required("--worker-image")?,
            namespace: args.or("--namespace", api::cdi::names::NAMESPACE.to_owned())?,
            health_port: args.or("--health-port", 8080)?,
            certificates: args.or("--certificates", PathBuf::from("/var/run/certs"))?,
            only: Some(args.or("--only", String::new())?).filter(|name| !name.is_empty()),
        };
        args.finish()?;
        Ok(options)
    }
}

/// Runs cdi-controller with the arguments after its name: `--worker-image REF
/// [--namespace cdi] [--health-port 8080] [--certificates /var/run/certs] [--only NAMESPACE]`.
/// With `--only` it works on one namespace, as a second controller that is tried beside
/// the cluster's own.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("cdi-controller", |shutdown| run(args, shutdown))
}

async fn run(args: Vec<OsString>, shutdown: Shutdown) -> anyhow::Result<()> {
    let options = Options::parse(args).context("command line of cdi-controller")?;
    let client = kube_kit::client()?;
    let health = Health::new();
    health.set_ready(true);
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.health_port));
    let probes = kube_kit::health::serve(address, health, shutdown.clone());
    let work =
        kube_kit::lease::while_leading(&client, &options.namespace, LEASE, &shutdown, || async {
            let controller = run::Controller::new(client.clone(), &options);
            controller.run().await;
            Ok(())
        });
    tokio::select! {
        ended = probes => ended,
        ended = work => ended,
    }
}
