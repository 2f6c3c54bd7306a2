//! virt-handler: one on every node. It offers the node's devices to pods, joins
//! guests to their pod's network, starts them through their launchers, tells
//! the cluster how they are, and joins clients to consoles.
//!
//! ```text
//!   kubelet ◄── deviceplugin (kvm, tun, vhost-net, container-disk)
//!   API server ──pods, VMIs──► watches ──► guest (one task each) ──patch, events──► API server
//!                                            │  ▲
//!                                   Sync, stop  state          network (in the pod's namespace)
//!                                            ▼  │
//!                                          launcher.sock
//!   virt-api ──mTLS──► streams ──► virt-serial0, virt-vnc, launcher.sock
//! ```
//! Nothing it knows is only in its memory: killed at any instant and started
//! again, it finds pods by watching, launchers by their sockets, and what it
//! made of their networks in its state directory. Guests do not notice.

mod deviceplugin;
mod disks;
mod guest;
mod launcher;
mod network;
mod node;
mod podinfo;
mod settings;
mod streams;
mod watches;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use kube_kit::Shutdown;
use kube_kit::health::Health;

pub use settings::Settings;

/// The component's entry: `args` without the program's name.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("virt-handler", |shutdown| async move {
        let settings = Settings::parse(args)?;
        run(settings, shutdown).await
    })
}

/// Runs until shutdown.
///
/// # Errors
/// When the node is not what a handler needs (paths, certificates, ports) or a
/// part that must run for ever ended.
pub async fn run(settings: Settings, shutdown: Shutdown) -> anyhow::Result<()> {
    let health = Health::new();
    let probes = std::net::SocketAddr::from(([0, 0, 0, 0], settings.health_port));
    let probes = kube_kit::health::serve(probes, health.clone(), shutdown.clone());
    let mut probes = std::pin::pin!(probes);
    let _alone = tokio::select! {
        alone = node::alone(&settings) => alone?,
        outcome = &mut probes => {
            outcome.context("health server")?;
            return Ok(());
        }
        () = shutdown.cancelled() => return Ok(()),
    };
    node::install_helper(&settings)?;
    let client = kube_kit::client()?;
    let watcher = host::inotify::Watcher::new().context("opening inotify")?;
    let plugins = deviceplugin::start(&settings, &watcher, &shutdown);
    let guests = Arc::new(guest::Guests::new(&settings, client.clone(), watcher));
    tokio::select! {
        outcome = &mut probes => {
            outcome.context("health server")?;
        }
        outcome = streams::serve(&settings, Arc::clone(&guests), health.clone(), shutdown.clone()) => {
            outcome.context("console server")?;
        }
        () = node::heartbeat(&settings, client.clone(), plugins) => {}
        () = watches::run(&settings, client, guests) => {}
        () = shutdown.cancelled() => {}
    }
    anyhow::ensure!(
        shutdown.is_cancelled(),
        "a part of virt-handler that must run for ever ended"
    );
    Ok(())
}
