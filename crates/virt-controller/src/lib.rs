//! virt-controller: VirtualMachine -> VirtualMachineInstance -> launcher pod.
//!
//! ```text
//!   watches (VM, VMI, pods, nodes, KubeVirt)
//!      │ events
//!      ▼
//!   Index  ── keys ──► WorkQueue ── key ──► reconcile: observe ► decide ► execute ─┐
//!      ▲                                       ▲        until the plan is empty   │
//!      └──────── what the API server answered ─┴──────────────────────────────────┘
//! ```
//! The [`index`] is a synchronous picture of the cluster; the decisions are
//! pure (`decide::{vm, vmi, node}`); the executor writes what the API server
//! answered back into the index, so that the next decision sees it before the
//! watch does. Nothing in memory is the truth: a new leader lists and goes on.
//! The standby watches nothing.

mod controller;
mod execute;
mod index;
mod raw;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use kube_kit::Shutdown;
use kube_kit::args::Args;
use kube_kit::lease::lead_and_answer_probes;

use controller::Controller;

/// Name of the lease by which one replica leads.
const LEASE: &str = "virt-controller";

/// What the command line says.
#[derive(Debug)]
struct Options {
    launcher_image: String,
    namespace: String,
    health_port: u16,
}

impl Options {
    fn parse(args: Vec<OsString>) -> anyhow::Result<Self> {
        let mut args = Args::new(args);
        let options = Self {
            launcher_image: args.required("--launcher-image")?,
            namespace: args.or("--namespace", api::names::DEFAULT_NAMESPACE.to_owned())?,
            health_port: args.or("--health-port", 8080)?,
        };
        args.finish()?;
        Ok(options)
    }
}

/// Runs virt-controller with the arguments after its name:
/// `--launcher-image REF [--namespace kubevirt] [--health-port 8080]`.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("virt-controller", |shutdown| run(args, shutdown))
}

async fn run(args: Vec<OsString>, shutdown: Shutdown) -> anyhow::Result<()> {
    let options = Options::parse(args).context("command line of virt-controller")?;
    let client = kube_kit::client()?;
    let Options {
        launcher_image,
        namespace,
        health_port,
    } = &options;
    lead_and_answer_probes(
        &client,
        namespace,
        LEASE,
        *health_port,
        &shutdown,
        || async {
            let controller = Controller::new(client.clone(), launcher_image, namespace);
            controller.run().await;
            Ok(())
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(words: &[&str]) -> anyhow::Result<Options> {
        Options::parse(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_launcher_image_is_required_and_the_rest_has_defaults() {
        let options = parse(&["--launcher-image", "launcher:1"]).unwrap();
        assert_eq!(options.launcher_image, "launcher:1");
        assert_eq!(
            (options.namespace.as_str(), options.health_port),
            ("kubevirt", 8080)
        );
        assert!(
            parse(&[])
                .unwrap_err()
                .to_string()
                .contains("--launcher-image")
        );
    }
}
