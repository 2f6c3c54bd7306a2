//! cdi-operator: makes the programs that a CDI object asks for, and keeps them so.
//!
//! ```text
//!   watches ─► store ─► step (decide) ─► apply / delete ─► status (decide) ─► patch
//!                 ▲                          │
//!                 └── answers of the API ◄───┘        timer: certificates only
//! ```
//! The machinery is that of virt-operator (`kube_kit::operator`); one replica
//! runs, and a lease keeps two apart while one is replaced by another.

mod act;
mod look;
#[cfg(test)]
mod tests;
mod wish;

use std::ffi::OsString;
use std::process::ExitCode;

use api::cdi::CDI;
use decide::cdi::operator::{Config, MANAGED, MANAGED_BY_LABEL, MANAGER};
use kube_kit::args::Args;
use kube_kit::operator::{self, Kit};
use kube_kit::{Shutdown, lease};

/// Lease by which one replica leads.
const LEASE: &str = "cdi-operator";

/// Runs cdi-operator with the arguments after its name: `[--health-port PORT]
/// [--namespace NS] [--image REF]`. What is not given comes from
/// `POD_NAMESPACE` and `VIRT_IMAGE`.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("cdi-operator", |shutdown| run(args, shutdown))
}

async fn run(args: Vec<OsString>, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut args = Args::new(args);
    let health_port: u16 = args.or("--health-port", 8080)?;
    let config = Config {
        namespace: args.or_variable("--namespace", "POD_NAMESPACE")?,
        version: format!("v{}", env!("CARGO_PKG_VERSION")),
        image: args.or_variable("--image", "VIRT_IMAGE")?,
    };
    args.finish()?;

    let client = kube_kit::client()?;
    let namespace = &config.namespace;
    lease::lead_and_answer_probes(&client, namespace, LEASE, health_port, &shutdown, || {
        operator::lead(Operator::new(client.clone(), config.clone()))
    })
    .await
}

/// cdi-operator, as [`kube_kit::operator`] has them.
struct Operator {
    config: Config,
    kit: Kit<CDI>,
    /// Hash of the CDIConfig as it was applied and told last.
    settings: Option<u64>,
}

impl Operator {
    /// Has done nothing yet.
    fn new(client: kube::Client, config: Config) -> Self {
        let namespace = &config.namespace;
        Self {
            kit: Kit::new(client, namespace, &MANAGED, MANAGED_BY_LABEL, MANAGER),
            config,
            settings: None,
        }
    }
}
