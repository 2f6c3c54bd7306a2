//! virt-operator: makes the control plane that a KubeVirt object asks for, and
//! keeps it so.
//!
//! Two replicas run, one leads. The standby holds nothing but its lease's
//! name. The leader follows KubeVirt objects; once there is one it also follows
//! the metadata of everything it made (by label), so that what is deleted or
//! changed by others comes back. It holds no copies: of each object it knows
//! version, generation and a hash. What to do is decided in `decide::operator`.
//!
//! ```text
//!   watches ─► store ─► step (pure) ─► apply / delete ─► status (pure) ─► patch
//!                 ▲                          │
//!                 └── answers of the API ◄───┘        timer: certificates only
//! ```

mod certs;
mod reconcile;

use std::ffi::OsString;
use std::process::ExitCode;

use decide::operator::Config;
use kube_kit::args::Args;
use kube_kit::{Shutdown, lease, operator};

/// Lease by which one replica leads; upstream's name.
const LEASE: &str = "virt-operator";

/// Runs virt-operator with the arguments after its name:
/// `[--health-port PORT] [--namespace NS] [--image REF] [--launcher-image REF]`.
/// What is not given comes from `POD_NAMESPACE`, `VIRT_IMAGE` and
/// `VIRT_LAUNCHER_IMAGE`.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("virt-operator", |shutdown| run(args, shutdown))
}

/// See [`main`].
///
/// # Errors
/// When an argument is bad or missing, or the API server's address is unknown.
pub async fn run(args: Vec<OsString>, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut args = Args::new(args);
    let health_port: u16 = args.or("--health-port", 8080)?;
    let config = Config {
        namespace: args.or_variable("--namespace", "POD_NAMESPACE")?,
        version: format!("v{}", env!("CARGO_PKG_VERSION")),
        image: args.or_variable("--image", "VIRT_IMAGE")?,
        launcher_image: args.or_variable("--launcher-image", "VIRT_LAUNCHER_IMAGE")?,
    };
    args.finish()?;

    let client = kube_kit::client()?;
    let namespace = &config.namespace;
    lease::lead_and_answer_probes(&client, namespace, LEASE, health_port, &shutdown, || {
        operator::lead(reconcile::Operator::new(client.clone(), config.clone()))
    })
    .await
}
