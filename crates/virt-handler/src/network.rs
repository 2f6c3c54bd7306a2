//! Joins a guest to its pod's network, from inside the pod's network namespace.
//!
//! ```text
//!   bridge:      eth0 (no address, other MAC) ─┐           the guest has the pod's
//!                now "eth0-nic"                ├ k6t-eth0  address and MAC
//!                tap0 ──────────── guest ──────┘
//!   masquerade:  eth0 (pod's address) ══ nft ══ k6t-eth0 10.0.2.1 ── tap0 ── guest 10.0.2.2
//! ```
//! What the pod's interface was like is written down before it is changed
//! ([`record`]), so a handler that was killed on the way, or that comes later,
//! knows it. Every step looks first, so all of it may be done again.

mod bridge;
mod masquerade;
mod plan;
mod record;
mod resolv;
mod uplink;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use api::VirtualMachineInstance;
use api::launcher::Nic;
use decide::handler::NicFacts;

use crate::podinfo::PodInfo;
pub(crate) use record::{forget, load};

/// The pod's interface as the CNI plugin made it.
const UPLINK: &str = "eth0";
/// Its name as a port of the bridge.
const UPLINK_PORT: &str = "eth0-nic";
/// The bridge in the pod.
const BRIDGE: &str = "k6t-eth0";
/// The guest's tap.
const TAP: &str = "tap0";

/// Why a guest could not be joined to the network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The namespace cannot be entered.
    #[error("entering the pod's network namespace: {0}")]
    Namespace(std::io::Error),
    /// A link, address or route.
    #[error("{0}: {source}", source = root(.0))]
    Link(#[from] host::links::LinkError),
    /// The tap.
    #[error("making tap {TAP}: {0}")]
    Tap(std::io::Error),
    /// A kernel setting or nft.
    #[error("{0}")]
    Kernel(std::io::Error),
    /// The record.
    #[error("keeping {path}: {source}", path = path.display())]
    Record {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The pod has not what a guest needs.
    #[error("{0}")]
    Pod(String),
    /// The VMI asks for what cannot be.
    #[error("{path}: expected {expected}, found {found:?}")]
    Spec {
        /// Field path.
        path: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

fn root(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A guest's interfaces: for the launcher and for the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Networks {
    /// For the launcher.
    pub(crate) nics: Vec<Nic>,
    /// For the status.
    pub(crate) facts: Vec<NicFacts>,
}

/// Joins the guest whose launcher is process `pid`. Waits; may be done again.
///
/// # Errors
/// See [`NetworkError`]; what was done stays, for the next try.
pub(crate) async fn join(
    records: &Path,
    pod: &PodInfo,
    vmi: &VirtualMachineInstance,
    pid: u32,
) -> Result<Networks, NetworkError> {
    let Some(wish) = plan::wish(vmi)? else {
        return Ok(Networks::default());
    };
    let namespace = host::netns::of_process(pid).map_err(NetworkError::Namespace)?;
    let resolv = resolv::of_process(pid);
    let path = record::path(records, &pod.uid);
    let uid = pod.uid.clone();
    let record =
        host::netns::run_in_async(namespace, move || join_here(&path, &uid, &wish, &resolv))
            .await
            .map_err(NetworkError::Namespace)??;
    Ok(record.networks())
}

/// In the pod's network namespace.
fn join_here(
    path: &Path,
    pod_uid: &str,
    wish: &plan::Wish,
    resolv: &resolv::Resolv,
) -> Result<record::Record, NetworkError> {
    let links = host::links::Links::open()?;
    let uplink = match record::read(path) {
        Some(record) => record.uplink,
        None => uplink::Uplink::read(&links)?,
    };
    let record = plan::decide(wish, uplink, resolv, pod_uid);
    record::write(path, &record)?;
    match wish.binding {
        plan::Binding::Bridge => bridge::join(&links, &record, pod_uid)?,
        plan::Binding::Masquerade { .. } => masquerade::join(&links, &record, wish)?,
    }
    Ok(record)
}

/// Makes the tap and puts it on the bridge, unless it is there.
fn tap(links: &host::links::Links, nic: &Nic, bridge: u32) -> Result<(), NetworkError> {
    if links.find(TAP)?.is_none() {
        let owner = api::names::NONROOT_UID;
        let tap = host::tap::Tap {
            name: TAP,
            uid: owner,
            gid: owner,
            multi_queue: nic.queues > 1,
        };
        host::tap::create(&tap).map_err(NetworkError::Tap)?;
    }
    let tap = find(links, TAP)?;
    if tap.mtu != nic.mtu {
        links.set_mtu(tap.index, nic.mtu)?;
    }
    if tap.controller != Some(bridge) {
        links.attach(tap.index, bridge)?;
    }
    quiet(TAP)?;
    if !tap.up {
        links.set_up(tap.index, true)?;
    }
    Ok(())
}

/// The interface, which must be there.
fn find(links: &host::links::Links, name: &str) -> Result<host::links::Link, NetworkError> {
    links.find(name)?.ok_or_else(|| {
        NetworkError::Pod(format!(
            "expected interface {name} in the pod's network namespace, found none"
        ))
    })
}

/// Keeps the pod's own IPv6 (router solicitations and so on) off an interface
/// that belongs to the guest.
fn quiet(name: &str) -> Result<(), NetworkError> {
    match host::sysctl::set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1") {
        // A kernel without IPv6 is quiet enough.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(NetworkError::Kernel(error))
        }
        _ => Ok(()),
    }
}
