//! Claims that refer to a source of ours (`spec.dataSourceRef`): another claim, the prime,
//! is filled in their stead, and its volume becomes theirs.
//!
//! ```text
//!   claim ──► prime ──► worker (as for any claim with annotations) ──► full
//!     ▲                                                                 │
//!     └── volume, annotations ◄─────────────── rebind ──────────────────┘
//! ```
//! Nobody sees a volume before it holds its data. Upstream clones through claims of
//! several names; here a clone goes the way of the other two.
//!
//! Source of names, events and rules: CDI pkg/controller/populators.

mod kind;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::cdi::names::{APP, APP_LABEL, COMPONENT_LABEL, NO_BACKUP_LABEL, annotations as note};
use api::cdi::{
    ClaimSource, DataVolumeSource, Nothing, VolumeCloneSource, VolumeImportSource,
    VolumeUploadSource,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Map, Value, json};

use super::claim::{self, Refusal};
use super::cluster::{Class, Cluster};
use super::smart::{self, Look, Next, Origin, Patience};
use super::volume::{self, Op};
use super::worker::note as of;
use crate::plan::{Event, Plan, Step};

pub use kind::{Kind, Reference, reference};

/// Between two looks at a prime that is being filled.
const PROGRESS_EVERY: SignedDuration = SignedDuration::from_secs(2);
/// When a volume was rebound and nothing was heard of it since, look again.
const REBOUND: SignedDuration = SignedDuration::from_secs(5);
/// What a claim tells of its prime.
const TOLD: [&str; 8] = [
    note::POD_PHASE,
    note::POD_READY,
    note::POD_RESTARTS,
    note::PREALLOCATION_REQUESTED,
    note::PREALLOCATION,
    note::RUNNING,
    note::RUNNING_MESSAGE,
    note::RUNNING_REASON,
];

/// Name of the claim that is filled in the stead of `claim`.
#[must_use]
pub fn prime_name(claim: &PersistentVolumeClaim) -> String {
    format!(
        "prime-{}",
        claim.metadata.uid.as_deref().unwrap_or_default()
    )
}

/// A source that was found.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// An import.
    Import(&'a VolumeImportSource),
    /// An upload.
    Upload(&'a VolumeUploadSource),
    /// A clone.
    Clone(&'a VolumeCloneSource),
}

/// What is known of a claim's population.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What the claim refers to.
    pub reference: Reference<'a>,
    /// The source, if it is there.
    pub source: Option<Source<'a>>,
    /// The claim that is filled in the claim's stead.
    pub prime: Option<&'a PersistentVolumeClaim>,
    /// Percent that the prime's worker told.
    pub progress: Option<f64>,
    /// The claim that is cloned, if the source is a clone and it is there.
    pub original: Option<&'a PersistentVolumeClaim>,
    /// What is known of the storage behind a clone.
    pub look: Option<&'a Look>,
}

/// Where a population is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The claim holds the data.
    Done,
    /// Its first consumer, or its class, is waited for.
    Waits,
    /// It is on its way.
    Works,
    /// It cannot go on: reason and message.
    Stuck(&'static str, String),
}

/// Decides on a claim that refers to a source of ours.
pub(super) fn decide(
    view: &View<'_>,
    claim: &PersistentVolumeClaim,
    cluster: &Cluster,
    held: bool,
    now: Timestamp,
    plan: &mut Plan<Op>,
) -> Standing {
    if claim.metadata.deletion_timestamp.is_some() {
        return Standing::Works;
    }
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    let full = of(claim, note::POD_PHASE) == Some("Succeeded");
    match view.prime {
        Some(prime) if !owned(prime, uid) => say(
            claim,
            "ErrCreatingPVCPrime",
            format!(
                "expected claim {} to be ours, found a stranger's; delete it",
                prime_name(claim)
            ),
            plan,
        ),
        Some(prime) => attend(view, claim, prime, held, now, plan),
        None if bound(claim) && full => Standing::Done,
        None if bound(claim) => unpopulated(claim, plan),
        None => begin(view, claim, cluster, held, now, plan),
    }
}

fn owned(prime: &PersistentVolumeClaim, uid: &str) -> bool {
    let owners = prime.metadata.owner_references.iter().flatten();
    owners
        .filter(|owner| owner.controller == Some(true))
        .any(|owner| owner.uid == uid)
}

/// Whether a volume is the claim's.
fn bound(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    matches!(
        status.and_then(|status| status.phase.as_deref()),
        Some("Bound" | "Lost")
    )
}

fn volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    let spec = claim.spec.as_ref()?;
    spec.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn unpopulated(claim: &PersistentVolumeClaim, plan: &mut Plan<Op>) -> Standing {
    say(
        claim,
        "NotPopulated",
        "expected the claim to get the volume of its data source, found it bound to another; its provisioner does not know data sources: delete the claim and make it again".to_owned(),
        plan,
    )
}

/// Tells on the claim why it does not go on, once.
pub(super) fn say(
    claim: &PersistentVolumeClaim,
    reason: &'static str,
    message: String,
    plan: &mut Plan<Op>,
) -> Standing {
    let wanted = [
        (note::RUNNING, "false"),
        (note::RUNNING_REASON, reason),
        (note::RUNNING_MESSAGE, message.as_str()),
    ];
    let patch: Map<String, Value> = wanted
        .into_iter()
        .filter(|(name, value)| of(claim, name) != Some(value))
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    if !patch.is_empty() {
        plan.steps.push(Step {
            op: annotate(&patch),
            done: Some(Event {
                warning: true,
                reason,
                message: message.clone(),
            }),
            failed: None,
        });
    }
    Standing::Stuck(reason, message)
}

fn annotate(patch: &Map<String, Value>) -> Op {
    Op::PatchClaim(json!({ "metadata": { "annotations": patch } }))
}

/// The class that the claim's volume comes from, if it is one that can be rebound.
fn class<'a>(
    claim: &PersistentVolumeClaim,
    cluster: &'a Cluster,
) -> Result<Option<&'a Class>, String> {
    let spec = claim.spec.as_ref();
    // A default class may still come.
    let Some(name) = spec.and_then(|spec| spec.storage_class_name.as_deref()) else {
        return Ok(None);
    };
    if name.is_empty() {
        return Err("expected a storage class, found an empty name; volumes that are made by hand cannot be populated".to_owned());
    }
    let class = cluster
        .class(Some(name), true)
        .ok_or_else(|| format!("expected storage class {name}, found none"))?;
    let migrated = of(claim, note::MIGRATED_TO).is_some_and(|to| !to.is_empty());
    if class.provisioner.starts_with("kubernetes.io/") && !migrated {
        return Err(format!(
            "expected a provisioner outside of Kubernetes, found {} of storage class {name}",
            class.provisioner
        ));
    }
    Ok(Some(class))
}

fn begin(
    view: &View<'_>,
    claim: &PersistentVolumeClaim,
    cluster: &Cluster,
    held: bool,
    now: Timestamp,
    plan: &mut Plan<Op>,
) -> Standing {
    let own = claim.metadata.namespace.as_deref().unwrap_or_default();
    let Reference {
        kind,
        name,
        namespace,
    } = view.reference;
    if let Some(other) = namespace.filter(|namespace| *namespace != own) {
        return say(
            claim,
            "CrossNamespace",
            format!(
                "expected a {} of namespace {own}, found {other}/{name}; clone with a DataVolume, which asks who may",
                kind.name()
            ),
            plan,
        );
    }
    let Some(source) = view.source else {
        return say(
            claim,
            "SourceNotFound",
            format!("expected a {} {own}/{name}, found none", kind.name()),
            plan,
        );
    };
    let class = match class(claim, cluster) {
        Ok(Some(class)) => class,
        Ok(None) => return Standing::Waits,
        Err(message) => return say(claim, "ErrClaimNotValid", message, plan),
    };
    let chosen = of(claim, note::SELECTED_NODE).is_some_and(|node| !node.is_empty());
    if class.waits && !chosen && of(claim, note::IMMEDIATE_BINDING).is_none() {
        return Standing::Waits;
    }
    if held {
        return Standing::Works;
    }
    let prime = prime(claim, source, cluster);
    let next = match (source, view.original) {
        (Source::Clone(from), _) if is_of_snapshot(from) => {
            let from = cloned(from);
            match smart::stand_in(&from, view.look, cluster) {
                Ok(stand_in) => {
                    let origin = Origin::Snapshot(&from.name, &stand_in);
                    smart::next(prime, &owner(claim), origin, view.look, cluster)
                }
                Err(Refusal { reason, message }) => Next::Wait(Patience {
                    reason,
                    message,
                    stage: None,
                }),
            }
        }
        (Source::Clone(_), Some(original)) => {
            let origin = Origin::Claim(original);
            smart::next(prime, &owner(claim), origin, view.look, cluster)
        }
        (Source::Clone(from), None) if smart::concerns(Some(&class.name), cluster) => {
            let name = &from.spec.source.name;
            plan.look_again(now, volume::look_again(&claim.metadata, now));
            let message = format!("The source pvc {name} doesn't exist");
            return say(claim, "CloneWithoutSource", message, plan);
        }
        _ => Next::Make {
            claim: Box::new(prime),
            temporary: None,
            unused: None,
            event: None,
        },
    };
    if let Some(patience) = volume::follow(next, plan) {
        return abide(claim, patience, now, plan);
    }
    for step in &mut plan.steps {
        if matches!(step.op, Op::CreateClaim(_) | Op::CreateClone { .. }) {
            step.failed = Some("ErrCreatingPVCPrime");
            step.done.get_or_insert_with(|| Event {
                warning: false,
                reason: "CreatedPVCPrimeSuccessfully",
                message: "PVC Prime created successfully".to_owned(),
            });
        }
    }
    Standing::Works
}

/// Tells what a clone waits for.
fn abide(
    claim: &PersistentVolumeClaim,
    patience: Patience,
    now: Timestamp,
    plan: &mut Plan<Op>,
) -> Standing {
    plan.look_again(now, volume::look_again(&claim.metadata, now));
    let phase = if patience.stage.is_some() {
        "Snapshot"
    } else {
        "Pending"
    };
    if of(claim, note::CLONE_PHASE) != Some(phase) {
        plan.push(annotate(&Map::from_iter([(
            note::CLONE_PHASE.to_owned(),
            json!(phase),
        )])));
    }
    Standing::Stuck(patience.reason, patience.message)
}

/// Whether a VolumeCloneSource names a snapshot.
#[must_use]
pub fn is_of_snapshot(source: &VolumeCloneSource) -> bool {
    source.spec.source.kind == "VolumeSnapshot"
}

/// What is cloned: a claim or a snapshot of the source's own namespace.
#[must_use]
pub fn cloned(source: &VolumeCloneSource) -> ClaimSource {
    ClaimSource {
        namespace: source.metadata.namespace.clone().unwrap_or_default(),
        name: source.spec.source.name.clone(),
    }
}

/// The claim as owner of what is made for it.
fn owner(claim: &PersistentVolumeClaim) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "PersistentVolumeClaim".to_owned(),
        name: claim.metadata.name.clone().unwrap_or_default(),
        uid: claim.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The claim that is filled in the stead of `claim`.
fn prime(
    claim: &PersistentVolumeClaim,
    source: Source<'_>,
    cluster: &Cluster,
) -> PersistentVolumeClaim {
    let mut notes = BTreeMap::new();
    notes.insert(note::IMMEDIATE_BINDING.to_owned(), String::new());
    for name in [
        note::SELECTED_NODE,
        note::POD_RETAIN,
        note::PRIORITY_CLASS,
        "k8s.v1.cni.cncf.io/networks",
        "v1.multus-cni.io/default-network",
        "sidecar.istio.io/inject",
        "linkerd.io/inject",
    ] {
        if let Some(value) = of(claim, name) {
            notes.insert(name.to_owned(), value.to_owned());
        }
    }
    let spec = claim.spec.clone().unwrap_or_default();
    let (kind, from, content, preallocation) = match source {
        Source::Import(import) => (
            Kind::Import,
            import.spec.source.clone().unwrap_or_default(),
            import.spec.content_type.as_str(),
            import.spec.preallocation,
        ),
        Source::Upload(upload) => (
            Kind::Upload,
            DataVolumeSource {
                upload: Some(Nothing {}),
                ..DataVolumeSource::default()
            },
            upload.spec.content_type.as_str(),
            upload.spec.preallocation,
        ),
        Source::Clone(clone) => {
            if let Some(class) = &clone.spec.priority_class_name {
                notes.insert(note::PRIORITY_CLASS.to_owned(), class.clone());
            }
            let (pvc, snapshot) = if is_of_snapshot(clone) {
                (None, Some(cloned(clone)))
            } else {
                (Some(cloned(clone)), None)
            };
            (
                Kind::Clone,
                DataVolumeSource {
                    pvc,
                    snapshot,
                    ..DataVolumeSource::default()
                },
                "",
                clone.spec.preallocation,
            )
        }
    };
    notes.insert(note::POPULATOR_KIND.to_owned(), kind.name().to_owned());
    claim::describe_source(&from, content, preallocation, cluster, &mut notes);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(prime_name(claim)),
            namespace: claim.metadata.namespace.clone(),
            labels: Some(
                [
                    (APP_LABEL, APP),
                    (COMPONENT_LABEL, ""),
                    (NO_BACKUP_LABEL, "true"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ),
            annotations: Some(notes),
            owner_references: Some(vec![owner(claim)]),
            ..ObjectMeta::default()
        },
        // No selector: that is what keeps the provisioner off the claim itself.
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: spec.access_modes,
            resources: spec.resources,
            storage_class_name: spec.storage_class_name,
            volume_mode: spec.volume_mode,
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// Tells on the claim what the prime's worker does, and takes the volume over in the end.
fn attend(
    view: &View<'_>,
    claim: &PersistentVolumeClaim,
    prime: &PersistentVolumeClaim,
    held: bool,
    now: Timestamp,
    plan: &mut Plan<Op>,
) -> Standing {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let kind = view.reference.kind;
    let complete = of(prime, note::POD_PHASE) == Some("Succeeded");
    let hopeless = of(prime, note::FATAL_ERROR) == Some("true");
    let takes = volume(prime);
    if bound(claim) && takes != volume(claim) && takes.is_some() {
        return unpopulated(claim, plan);
    }
    let patch = told(view, claim, prime, complete, hopeless);
    if !patch.is_empty() {
        let why = of(prime, note::RUNNING_MESSAGE).unwrap_or_default();
        let news = hopeless && of(claim, note::FATAL_ERROR) != Some("true");
        plan.steps.push(Step {
            op: annotate(&patch),
            done: news.then(|| kind.failed(name, why)),
            failed: None,
        });
        return Standing::Works;
    }
    if hopeless {
        let why = of(prime, note::RUNNING_MESSAGE).unwrap_or_default();
        return Standing::Stuck(
            kind.failed(name, why).reason,
            kind.failed(name, why).message,
        );
    }
    match (complete, takes) {
        (true, Some(_)) if bound(claim) => {
            let leaves = prime.metadata.deletion_timestamp.is_some();
            if !leaves && of(prime, note::POD_RETAIN) != Some("true") {
                plan.push(Op::DeleteClaim {
                    name: prime_name(claim),
                    uid: prime.metadata.uid.clone().unwrap_or_default(),
                });
            }
            return Standing::Done;
        }
        (true, Some(volume)) => {
            plan.look_again(now, now.checked_add(REBOUND).unwrap_or(now));
            if !held {
                plan.steps.push(Step {
                    op: Op::Rebind {
                        volume: volume.to_owned(),
                        from: prime.metadata.uid.clone().unwrap_or_default(),
                        to: claim.metadata.uid.clone().unwrap_or_default(),
                    },
                    done: Some(kind.succeeded(name)),
                    failed: Some("ErrRebind"),
                });
            }
        }
        _ if of(prime, note::RUNNING) == Some("true") && kind != Kind::Upload => {
            plan.look_again(now, now.checked_add(PROGRESS_EVERY).unwrap_or(now));
        }
        _ => {}
    }
    Standing::Works
}

/// Annotations of the claim that differ from what they shall be.
fn told(
    view: &View<'_>,
    claim: &PersistentVolumeClaim,
    prime: &PersistentVolumeClaim,
    complete: bool,
    hopeless: bool,
) -> Map<String, Value> {
    let mut wanted: Vec<(&str, Option<String>)> = TOLD
        .into_iter()
        .chain([note::FATAL_ERROR, note::CLONE_TYPE, note::CLONE_FALLBACK])
        .map(|name| (name, of(prime, name).map(str::to_owned)))
        .collect();
    // The name of a claim that is about to go would lead clients astray.
    wanted.push((note::PVC_PRIME, (!complete).then(|| prime_name(claim))));
    let kind = view.reference.kind;
    if kind != Kind::Upload {
        let progress = if complete {
            Some("100.0%".to_owned())
        } else {
            let known = of(claim, note::POPULATOR_PROGRESS).map(str::to_owned);
            let told = view.progress;
            told.map(|percent| format!("{:.2}%", percent.clamp(0.0, 100.0)))
                .or(known)
        };
        wanted.push((note::POPULATOR_PROGRESS, progress));
    }
    if kind == Kind::Clone {
        let phase = match (complete, hopeless) {
            (true, _) if bound(claim) => "Succeeded",
            (true, _) => "Rebind",
            (_, true) => "Error",
            _ => match of(prime, note::CLONE_TYPE) {
                Some("csi-clone") => "CSIClone",
                Some("snapshot") => "SnapshotClone",
                _ => "HostClone",
            },
        };
        wanted.push((note::CLONE_PHASE, Some(phase.to_owned())));
    }
    wanted
        .into_iter()
        .filter(|(name, value)| of(claim, name) != value.as_deref())
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect()
}
