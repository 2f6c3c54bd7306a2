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
mod report;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use api::cdi::CDI;
use decide::cdi::operator::{Config, MANAGED, MANAGED_BY_LABEL, MANAGER};
use futures::StreamExt;
use kube_kit::apply::Applier;
use kube_kit::args::Args;
use kube_kit::health::Health;
use kube_kit::operator::{self, Credentials, Hand, Store, Stream};
use kube_kit::{Shutdown, lease};
use tokio::time::Instant;

/// Lease by which one replica leads.
const LEASE: &str = "cdi-operator";
/// Events that come this soon after each other are looked at together.
const GATHER: Duration = Duration::from_millis(25);

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

    let health = Health::new();
    let probes = tokio::spawn(kube_kit::health::serve(
        SocketAddr::from(([0, 0, 0, 0], health_port)),
        health.clone(),
        shutdown.clone(),
    ));
    let client = kube_kit::client()?;
    health.set_ready(true);
    let work = lease::while_leading(&client, &config.namespace, LEASE, &shutdown, || {
        lead(client.clone(), &config)
    });
    tokio::select! {
        outcome = work => outcome,
        outcome = probes => match outcome.context("the health server broke")? {
            Ok(()) if shutdown.is_cancelled() => Ok(()),
            Ok(()) => bail!("the health server ended"),
            Err(error) => Err(error),
        },
    }
}

/// Leads until the caller drops the future. What fails is told in the status
/// and tried again.
async fn lead(client: kube::Client, config: &Config) -> anyhow::Result<()> {
    let mut leader = Operator::new(client.clone(), config.clone());
    let mut owners = operator::owners::<CDI>(&client);
    let mut managed = Stream::new();
    let mut deadline: Option<Instant> = None;
    loop {
        tokio::select! {
            Some(seen) = owners.next() => leader.store.see(seen),
            Some(seen) = managed.next(), if !managed.is_empty() => leader.store.see(seen),
            () = sleep_until(deadline) => {}
        }
        let gathered = Instant::now() + GATHER;
        loop {
            tokio::select! {
                Some(seen) = owners.next() => leader.store.see(seen),
                Some(seen) = managed.next(), if !managed.is_empty() => leader.store.see(seen),
                () = tokio::time::sleep_until(gathered) => break,
            }
        }
        // Without a CDI object there is nothing to follow.
        if leader.store.owners.is_empty() {
            if !managed.is_empty() {
                managed = Stream::new();
                leader.forget();
            }
            deadline = None;
            continue;
        }
        if managed.is_empty() {
            let ours = format!("{MANAGED_BY_LABEL}={MANAGER}");
            let streams = operator::managed(&client, &config.namespace, &MANAGED, &ours);
            managed.extend(streams);
        }
        if leader.store.complete() {
            deadline = leader.round().await.map(|wait| Instant::now() + wait);
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Operator {
    client: kube::Client,
    hand: Hand,
    config: Config,
    store: Store<CDI>,
    credentials: Credentials,
    /// Hash of the CDIConfig as it was applied and told last.
    settings: Option<u64>,
    failures: u32,
}

impl Operator {
    fn new(client: kube::Client, config: Config) -> Self {
        Self {
            hand: Hand::new(Applier::new(client.clone(), MANAGER)),
            client,
            config,
            store: Store::new(&MANAGED),
            credentials: Credentials::default(),
            settings: None,
            failures: 0,
        }
    }

    fn forget(&mut self) {
        self.store.forget_objects();
        self.hand.forget();
        self.credentials.forget();
        self.settings = None;
    }
}
