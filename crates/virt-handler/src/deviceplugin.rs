//! Offers the node's devices to pods through the kubelet's device plugin API
//! (v1beta1): only devices that exist and work.

mod plugin;
mod proto;
mod service;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use api::names::{
    CONTAINER_DISK_HELPER, CONTAINER_DISK_HOST_PATH, CONTAINER_DISK_RESOURCE, KVM_RESOURCE,
    TUN_RESOURCE, VHOST_NET_RESOURCE,
};
use host::inotify::Watcher;
use kube_kit::Shutdown;
use tokio::sync::watch;

use crate::Settings;
use plugin::{Grant, Plugin};

/// The probe's guests need milliseconds; a machine on which they need seconds
/// runs no guest worth having.
const KVM_PROBE: Duration = Duration::from_secs(3);
/// A guest may have several containerDisks.
const DISKS_PER_GUEST: u32 = 4;

/// Starts the plugins. The receiver is true while every device that each guest
/// needs (tun and the containerDisk helper) is offered.
pub(crate) fn start(
    settings: &Settings,
    watcher: &Watcher,
    shutdown: &Shutdown,
) -> watch::Receiver<bool> {
    let needed = [
        Plugin::new(TUN_RESOURCE, settings.max_devices, device("/dev/net/tun")),
        Plugin::new(
            CONTAINER_DISK_RESOURCE,
            settings.max_devices.saturating_mul(DISKS_PER_GUEST),
            Grant::Mount {
                host: CONTAINER_DISK_HOST_PATH,
                container: CONTAINER_DISK_HELPER,
            },
        ),
    ];
    let (offered, all) = watch::channel(false);
    let mut states = Vec::new();
    for plugin in needed {
        if present(&plugin) {
            states.push(plugin.start(settings.device_plugins(), watcher.clone(), shutdown.clone()));
        } else {
            // Never true, so the node never takes guests.
            tracing::error!(
                resource = plugin.resource(),
                "the device is missing: this node cannot run guests"
            );
            states.push(watch::channel(false).1);
        }
    }
    for plugin in [
        Plugin::new(KVM_RESOURCE, settings.max_devices, device("/dev/kvm")),
        Plugin::new(
            VHOST_NET_RESOURCE,
            settings.max_devices,
            device("/dev/vhost-net"),
        ),
    ] {
        let (directory, watcher, shutdown) =
            (settings.device_plugins(), watcher.clone(), shutdown.clone());
        tokio::spawn(async move {
            let found = tokio::task::spawn_blocking(move || works(&plugin).then_some(plugin)).await;
            if let Ok(Some(plugin)) = found {
                plugin.start(directory, watcher, shutdown);
            }
        });
    }
    tokio::spawn(join(states, offered));
    all
}

fn device(path: &'static str) -> Grant {
    Grant::Device { path }
}

fn present(plugin: &Plugin) -> bool {
    match plugin.grant() {
        Grant::Device { path } => Path::new(path).exists(),
        Grant::Mount { .. } => true,
    }
}

fn works(plugin: &Plugin) -> bool {
    if !present(plugin) {
        tracing::info!(
            resource = plugin.resource(),
            "not offered: the node has no such device"
        );
        return false;
    }
    if plugin.resource() != KVM_RESOURCE {
        return true;
    }
    let verdict = host::kvm::probe(KVM_PROBE);
    if !verdict.works() {
        tracing::warn!(resource = plugin.resource(), "not offered: {verdict}");
    }
    verdict.works()
}

/// True while all are.
async fn join(mut states: Vec<watch::Receiver<bool>>, all: watch::Sender<bool>) {
    loop {
        let every = states.iter_mut().all(|state| *state.borrow_and_update());
        all.send_if_modified(|known| std::mem::replace(known, every) != every);
        let changes: Vec<_> = states
            .iter_mut()
            .map(|state| Box::pin(state.changed()))
            .collect();
        let (changed, _, rest) = futures::future::select_all(changes).await;
        drop(rest);
        if changed.is_err() {
            return futures::future::pending().await;
        }
    }
}
