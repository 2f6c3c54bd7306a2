//! ObjectTransfers: a claim, or a DataVolume with its claim, gets another namespace and name.
//! No byte is moved: the volume changes its claim.
//!
//! ```text
//!   Pending ─► source is whole, bound and unused; target is free        nothing is touched
//!   Running ─► volume: Retain ─► target: claim, DataVolume made         can be taken back
//!           ─► source: DataVolume, claim deleted                        only forward from here
//!           ─► volume: claimRef ─► target: bound ─► volume: policy      the volume is retained
//!   Complete
//! ```
//! What the source was is written into the status before anything is touched, and every step
//! follows from what is seen then: whoever dies between two of them, the next takes the next.
//! The target is made before the source goes (upstream makes it after), so that a name, a quota
//! or a namespace that is not to be had costs nothing, and the volume is given to that claim by
//! its uid, so that nobody who makes one of the same name gets it.
//!
//! Source of phases, messages, annotations and keys of the data: CDI pkg/controller/transfer.

mod objects;
mod running;
#[cfg(test)]
mod tests;

use api::cdi::names::OBJECT_TRANSFER_FINALIZER;
use api::cdi::names::annotations as note;
use api::cdi::{DataVolume, ObjectTransfer, phase};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::smart::is_full;
use super::volume::look_again;
use super::worker::note as of_claim;
use crate::conditions::{beat, said};
use crate::plan::{Event, Plan, Step};

const PENDING: &str = "Pending";
const RUNNING: &str = "Running";
const COMPLETE: &str = "Complete";
const ERROR: &str = "Error";

/// Finalizers of a claim that somebody copies by its storage.
const COPIED: [&str; 2] = [
    "provisioner.storage.kubernetes.io/cloning-protection",
    "snapshot.storage.kubernetes.io/pvc-as-source-protection",
];

/// Where an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Where the source is.
#[must_use]
pub fn source(transfer: &ObjectTransfer) -> Place {
    let source = &transfer.spec.source;
    Place {
        namespace: source.namespace.clone(),
        name: source.name.clone(),
    }
}

/// Where it goes.
#[must_use]
pub fn target(transfer: &ObjectTransfer) -> Place {
    let (source, target) = (source(transfer), &transfer.spec.target);
    Place {
        namespace: target.namespace.clone().unwrap_or(source.namespace),
        name: target.name.clone().unwrap_or(source.name),
    }
}

/// Name of the volume, once the transfer runs.
#[must_use]
pub fn volume_name(transfer: &ObjectTransfer) -> Option<&str> {
    let status = transfer.status.as_ref()?;
    status.data.get("pvName").map(String::as_str)
}

/// Whether a transfer has nothing more to do, so that nothing is to be looked at for it.
#[must_use]
pub fn is_over(transfer: &ObjectTransfer) -> bool {
    phase_of(transfer) == COMPLETE
}

fn phase_of(transfer: &ObjectTransfer) -> &str {
    let status = transfer.status.as_ref();
    status.map_or("", |status| status.phase.as_str())
}

fn moves_data_volume(transfer: &ObjectTransfer) -> bool {
    transfer.spec.source.kind == "DataVolume"
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Merge patch of the transfer.
    Patch(Value),
    /// Merge patch of the transfer's status.
    PatchStatus(Value),
    /// Merge patch of a claim.
    PatchClaim(Place, Value),
    /// Merge patch of a DataVolume.
    PatchDataVolume(Place, Value),
    /// Merge patch of the volume of this name.
    PatchVolume(String, Value),
    /// Make a claim.
    CreateClaim(Box<PersistentVolumeClaim>),
    /// Make a DataVolume.
    CreateDataVolume(Box<DataVolume>),
    /// Delete the claim of this uid.
    DeleteClaim(Place, String),
    /// Delete the DataVolume of this uid.
    DeleteDataVolume(Place, String),
}

/// The namespace that is gone to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Home {
    /// It is there, or nobody looked, for there is an object in it.
    #[default]
    There,
    /// There is none.
    Missing,
    /// It is being deleted.
    Leaving,
}

/// What is known about a transfer.
pub struct Observed<'a> {
    /// The transfer.
    pub transfer: &'a ObjectTransfer,
    /// The DataVolume of the source's name.
    pub dv: Option<&'a DataVolume>,
    /// The claim of the source's name, as the API server has it now.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The DataVolume of the target's name.
    pub target_dv: Option<&'a DataVolume>,
    /// The claim of the target's name.
    pub target_claim: Option<&'a PersistentVolumeClaim>,
    /// The volume, as the API server has it now.
    pub volume: Option<&'a PersistentVolume>,
    /// Pods that use the source's claim and have not ended.
    pub users: &'a [String],
    /// The target's namespace.
    pub home: Home,
    /// Whether a transfer of this name is under way.
    pub alive: &'a dyn Fn(&str) -> bool,
}

/// Decides on a transfer.
#[must_use]
pub fn decide(seen: &Observed<'_>, now: Timestamp) -> Plan<Op> {
    let mut plan = Plan::default();
    let transfer = seen.transfer;
    let status = transfer.status.as_ref();
    let remembers = status.is_some_and(|status| !status.data.is_empty());
    match phase_of(transfer) {
        COMPLETE => let_go(transfer, &mut plan),
        _ if remembers => running::decide(seen, now, &mut plan),
        _ if leaves(&transfer.metadata) => {
            unmark(seen, &mut plan);
            let_go(transfer, &mut plan);
        }
        "" => begin(transfer, now, &mut plan),
        _ => pending(seen, now, &mut plan),
    }
    plan
}

/// What is told when a step could not be taken.
#[must_use]
pub fn failed(transfer: &ObjectTransfer, message: &str, now: Timestamp) -> Plan<Op> {
    let mut plan = Plan::default();
    let running = volume_name(transfer).is_some();
    let phase = if running { ERROR } else { PENDING };
    tell(transfer, phase, "Error", message, now, &mut plan);
    plan
}

/// Writes phase and condition, if they differ.
fn tell(
    transfer: &ObjectTransfer,
    phase: &str,
    reason: &'static str,
    message: &str,
    now: Timestamp,
    plan: &mut Plan<Op>,
) {
    tell_and(transfer, phase, reason, message, None, now, plan);
}

/// As [`tell`], with what is to be kept between the steps: `Null` for nothing.
fn tell_and(
    transfer: &ObjectTransfer,
    phase: &str,
    reason: &'static str,
    message: &str,
    data: Option<Value>,
    now: Timestamp,
    plan: &mut Plan<Op>,
) {
    let old = transfer.status.clone().unwrap_or_default();
    let mut conditions = old.conditions.clone();
    let done = if phase == COMPLETE { "True" } else { "False" };
    beat(
        &mut conditions,
        said("Complete", done, reason, message),
        now,
    );
    if data.is_none() && old.phase == phase && old.conditions == conditions {
        return;
    }
    let mut status = json!({ "phase": phase, "conditions": conditions });
    if let Some(data) = data {
        status["data"] = data;
    }
    let event = matches!(phase, COMPLETE | ERROR).then(|| Event {
        warning: phase == ERROR,
        reason,
        message: message.to_owned(),
    });
    plan.steps.push(Step {
        op: Op::PatchStatus(json!({
            "metadata": { "resourceVersion": transfer.metadata.resource_version },
            "status": status,
        })),
        done: event,
        failed: None,
    });
}

fn leaves(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

fn noted<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    let notes = meta.annotations.as_ref()?;
    notes.get(name).map(String::as_str)
}

fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    status.and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// Uid of the claim that has the volume.
fn holder(volume: &PersistentVolume) -> Option<&str> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    claim.uid.as_deref()
}

fn begin(transfer: &ObjectTransfer, now: Timestamp, plan: &mut Plan<Op>) {
    let mut finalizers = transfer.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers
        .iter()
        .any(|one| one == OBJECT_TRANSFER_FINALIZER)
    {
        finalizers.push(OBJECT_TRANSFER_FINALIZER.to_owned());
        return plan.push(finalize(transfer, &finalizers));
    }
    tell(transfer, PENDING, "", "Initializing", now, plan);
}

fn finalize(transfer: &ObjectTransfer, finalizers: &[String]) -> Op {
    Op::Patch(json!({ "metadata": {
        "resourceVersion": transfer.metadata.resource_version,
        "finalizers": finalizers,
    } }))
}

/// Takes the finalizer off.
fn let_go(transfer: &ObjectTransfer, plan: &mut Plan<Op>) {
    let mut finalizers = transfer.metadata.finalizers.clone().unwrap_or_default();
    let before = finalizers.len();
    finalizers.retain(|one| one != OBJECT_TRANSFER_FINALIZER);
    if finalizers.len() != before {
        plan.push(finalize(transfer, &finalizers));
    }
}

/// Merge patch of the mark that says whose the source is.
fn mark(meta: &ObjectMeta, transfer: Option<&str>) -> Value {
    json!({ "metadata": {
        "resourceVersion": meta.resource_version,
        "annotations": { (note::OBJECT_TRANSFER): transfer },
    } })
}

/// The source is nobody's again.
fn unmark(seen: &Observed<'_>, plan: &mut Plan<Op>) {
    let name = seen.transfer.metadata.name.as_deref();
    let from = source(seen.transfer);
    if let Some(claim) = seen.claim.map(|claim| &claim.metadata)
        && noted(claim, note::OBJECT_TRANSFER) == name
    {
        plan.push(Op::PatchClaim(from.clone(), mark(claim, None)));
    }
    if let Some(dv) = seen.dv.map(|dv| &dv.metadata)
        && noted(dv, note::OBJECT_TRANSFER) == name
    {
        plan.push(Op::PatchDataVolume(from, mark(dv, None)));
    }
}

/// Why a transfer does not go on.
struct Obstacle {
    reason: &'static str,
    message: String,
    /// Nobody tells when it is gone.
    unwatched: bool,
}

fn obstacle(reason: &'static str, message: impl Into<String>) -> Obstacle {
    Obstacle {
        reason,
        message: message.into(),
        unwatched: false,
    }
}

fn unwatched(reason: &'static str, message: impl Into<String>) -> Obstacle {
    Obstacle {
        unwatched: true,
        ..obstacle(reason, message)
    }
}

/// Looks at source and target; begins when both are fit.
fn pending(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan<Op>) {
    let transfer = seen.transfer;
    let found = fit(seen).and_then(|fit| match taken(seen) {
        Some(obstacle) => Err(obstacle),
        None => Ok(fit),
    });
    let (claim, volume) = match found {
        Ok(fit) => fit,
        Err(obstacle) => {
            if obstacle.unwatched {
                plan.look_again(now, look_again(&transfer.metadata, now));
            }
            let phase = if obstacle.reason == TAKEN {
                ERROR
            } else {
                PENDING
            };
            let Obstacle {
                reason, message, ..
            } = obstacle;
            return tell(transfer, phase, reason, &message, now, plan);
        }
    };
    let dv = seen.dv.filter(|_| moves_data_volume(transfer));
    let name = transfer.metadata.name.as_deref();
    if noted(&claim.metadata, note::OBJECT_TRANSFER) != name {
        let patch = mark(&claim.metadata, name);
        plan.push(Op::PatchClaim(source(transfer), patch));
    }
    if let Some(dv) = dv
        && noted(&dv.metadata, note::OBJECT_TRANSFER) != name
    {
        let patch = mark(&dv.metadata, name);
        plan.push(Op::PatchDataVolume(source(transfer), patch));
    }
    if !plan.steps.is_empty() {
        return;
    }
    let data = objects::Memory::of(claim, dv, volume).write();
    tell_and(transfer, RUNNING, "", "Running", Some(data), now, plan);
}

/// The claim and its volume, if they may be moved.
fn fit<'a>(
    seen: &Observed<'a>,
) -> Result<(&'a PersistentVolumeClaim, &'a PersistentVolume), Obstacle> {
    let transfer = seen.transfer;
    let whole = moves_data_volume(transfer);
    if whole {
        let dv = seen.dv.ok_or_else(|| obstacle("NoSource", "No source"))?;
        let status = dv.status.as_ref();
        if leaves(&dv.metadata) {
            return Err(obstacle("SourceLeaves", "Source is being deleted"));
        }
        if status.is_none_or(|status| status.phase != phase::SUCCEEDED) {
            return Err(obstacle("NotPopulated", "Source not populated"));
        }
    }
    let Some(claim) = seen.claim else {
        return Err(if whole {
            obstacle("NoClaim", "Source DV has no PVC")
        } else {
            obstacle("NoSource", "No source")
        });
    };
    if leaves(&claim.metadata) {
        return Err(obstacle("SourceLeaves", "Source is being deleted"));
    }
    belongs(seen, claim)?;
    if !is_bound(claim) {
        return Err(obstacle("NotBound", "PVC not bound"));
    }
    if !is_full(claim) {
        return Err(obstacle("NotPopulated", "Source not populated"));
    }
    let finalizers = claim.metadata.finalizers.iter().flatten();
    let mut finalizers = finalizers.filter(|one| COPIED.contains(&one.as_str()));
    if let Some(finalizer) = finalizers.next() {
        let message = format!("PVC has finalizer: {finalizer}");
        return Err(obstacle("BeingCopied", message));
    }
    let notes = match seen.dv.filter(|_| whole) {
        Some(dv) => &dv.metadata,
        None => &claim.metadata,
    };
    let mut required = transfer.spec.source.required_annotations.iter();
    if let Some((name, value)) =
        required.find(|(name, value)| noted(notes, name) != Some(value.as_str()))
    {
        let message = format!("Required annotation missing: {name}: {value}");
        return Err(obstacle("AnnotationMissing", message));
    }
    for meta in [Some(notes), Some(&claim.metadata)].into_iter().flatten() {
        let other = noted(meta, note::OBJECT_TRANSFER);
        let other = other.filter(|name| Some(*name) != transfer.metadata.name.as_deref());
        if let Some(other) = other.filter(|name| (seen.alive)(name)) {
            let message = format!("Source in use by another transfer: {other}");
            return Err(obstacle("InUseByTransfer", message));
        }
    }
    let volume = seen
        .volume
        .filter(|volume| !leaves(&volume.metadata) && holder(volume) == Some(uid(&claim.metadata)));
    let volume = volume.ok_or_else(|| unwatched("VolumeNotBound", "PV not bound"))?;
    match in_use(seen) {
        Some(obstacle) => Err(obstacle),
        None => Ok((claim, volume)),
    }
}

/// A claim that is part of something else moves with that, or not at all.
fn belongs(seen: &Observed<'_>, claim: &PersistentVolumeClaim) -> Result<(), Obstacle> {
    let owners = claim.metadata.owner_references.iter().flatten();
    if moves_data_volume(seen.transfer) {
        let dv = seen.dv.map(|dv| &dv.metadata);
        let its = dv.is_some_and(|dv| {
            owners.clone().any(|owner| owner.uid == uid(dv))
                || of_claim(claim, note::POPULATED_FOR) == dv.name.as_deref()
        });
        return if its {
            Ok(())
        } else {
            Err(obstacle("NoClaim", "PVC is not the source DV's"))
        };
    }
    let dv = seen.dv.map_or("", |dv| uid(&dv.metadata));
    for owner in owners {
        let living = owner.kind == "DataVolume" && owner.uid == dv;
        let helps = owner.controller == Some(true) && owner.kind == "PersistentVolumeClaim";
        if living || helps {
            let message = format!(
                "PVC belongs to {} {}: expected a claim that stands alone; transfer what it belongs to",
                owner.kind, owner.name
            );
            return Err(obstacle("NotAlone", message));
        }
    }
    Ok(())
}

fn in_use(seen: &Observed<'_>) -> Option<Obstacle> {
    let what = if moves_data_volume(seen.transfer) {
        "DataVolume PVC"
    } else {
        "PVC"
    };
    let message = format!("Pods using {what}: {}", seen.users.join(", "));
    (!seen.users.is_empty()).then(|| unwatched("InUse", message))
}

/// Reason of a target that is there and not ours.
const TAKEN: &str = "TargetExists";

/// Why the target cannot be made.
fn taken(seen: &Observed<'_>) -> Option<Obstacle> {
    let transfer = seen.transfer;
    let Place { namespace, name } = target(transfer);
    let dv = seen.target_dv.map(|dv| &dv.metadata);
    let claim = seen.target_claim.map(|claim| &claim.metadata);
    if [dv, claim]
        .into_iter()
        .flatten()
        .any(|meta| !ours(transfer, meta))
    {
        let message = format!("ObjectTransfer target \"{namespace}/{name}\" already exists");
        return Some(obstacle(TAKEN, message));
    }
    match seen.home {
        Home::There => None,
        Home::Missing => Some(unwatched(
            "NoTargetNamespace",
            format!("expected namespace {namespace}, found none; make it"),
        )),
        Home::Leaving => Some(unwatched(
            "TargetNamespaceLeaves",
            format!("expected namespace {namespace}, found it being deleted"),
        )),
    }
}

/// Whether an object was made by this transfer.
fn ours(transfer: &ObjectTransfer, meta: &ObjectMeta) -> bool {
    noted(meta, note::TRANSFER_UID) == Some(uid(&transfer.metadata))
}
