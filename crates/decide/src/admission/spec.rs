//! Checks of a VirtualMachineInstance's spec, in upstream's order: the ones a
//! VM's template goes through as well.
//!
//! Source: pkg/virt-api/webhooks/validating-webhook/admitters/vmi-create-admitter.go,
//! `ValidateVirtualMachineInstanceSpec`. Checks of fields that edgevirt refuses
//! as a whole (see `unsupported`) are not repeated here.

mod compute;
mod devices;
mod disks;
mod hardware;
mod network;
mod placement;
mod scheduling;
mod storage;
mod volumes;

use std::fmt;

use serde_json::Value;

use super::context::ClusterConfig;
use super::verdict::{Cause, Reason};

pub(super) use compute::memory_is_given;
pub(super) use placement::{eviction_refusal, is_kept};
pub(super) use volumes::volumes_without_disk;

/// Path of a field, as clients see it.
#[derive(Clone, Debug)]
pub(super) struct Path(String);

impl Path {
    /// A path that begins with `root`.
    pub(super) fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    /// The member at a dotted path below.
    pub(super) fn child(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    /// The element of a list.
    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Causes as they are found.
#[derive(Debug, Default)]
pub(super) struct Causes(Vec<Cause>);

impl Causes {
    /// A value that is malformed or does not fit.
    pub(super) fn invalid(&mut self, field: &Path, message: impl Into<String>) {
        self.add(Reason::Invalid, field, message);
    }

    /// A cause of any reason.
    pub(super) fn add(&mut self, reason: Reason, field: &Path, message: impl Into<String>) {
        self.0.push(Cause::new(reason, field.0.clone(), message));
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All causes found.
    pub(super) fn into_vec(self) -> Vec<Cause> {
        self.0
    }
}

/// What is wrong with a spec, defaults filled in, that is at `path` of its object.
pub(super) fn check(path: &Path, spec: &Value, config: &ClusterConfig) -> Vec<Cause> {
    let mut out = Causes::default();
    placement::names(path, spec, &mut out);
    compute::memory(path, spec, &mut out);
    compute::machine(path, spec, config, &mut out);
    compute::cpu(path, spec, &mut out);
    placement::start_strategy(path, spec, &mut out);
    scheduling::check(path, spec, &mut out);
    network::check(path, spec, config, &mut out);
    disks::boot_order(path, spec, &mut out);
    devices::inputs(path, spec, &mut out);
    disks::check(path, spec, &mut out);
    devices::firmware(path, spec, &mut out);
    storage::disks(path, spec, &mut out);
    volumes::check(path, spec, &mut out);
    storage::volumes(path, spec, config, &mut out);
    placement::dns(path, spec, &mut out);
    placement::eviction(path, spec, config, &mut out);
    devices::watchdog(path, spec, &mut out);
    compute::architecture(path, spec, &mut out);
    hardware::check(path, spec, &mut out);
    out.into_vec()
}
