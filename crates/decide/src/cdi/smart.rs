//! Clones that the storage makes: the claim refers to its original, or to a snapshot, and
//! its driver fills it.
//!
//! ```text
//!   claim ──► csi-clone ────────────────────────► claim with dataSource claim
//!         └─► snapshot ──► temporary snapshot ──► claim with dataSource snapshot
//!   snapshot ─────────────────────────────────► claim with dataSource snapshot
//!            └─► temporary claim ──► copy (a worker's)
//! ```
//! A snapshot of another namespace is always restored and copied: see [`super::across`].
//! What is temporary is owned by the object that wants the clone, and named on the clone's
//! claim until it is deleted: a controller that is killed leaves nothing that nobody knows of.
//! Upstream clones into a claim of another name and rebinds its volume; here the claim is
//! made when all that it refers to is ready.
//!
//! Source of names, reasons and phases: CDI pkg/controller/clone and pkg/controller/datavolume.

use std::collections::BTreeMap;

use api::cdi::names::{
    APP, APP_LABEL, COMPONENT_LABEL, NO_BACKUP_LABEL, SNAPSHOT_API_VERSION, SNAPSHOT_GROUP,
    annotations as note,
};
use api::cdi::{ClaimSource, phase};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::claim::Refusal;
use super::cluster::Cluster;
use super::size::requested;
use super::strategy::{self, Fallback, Strategy, Wish};
use super::worker::{Job, note as of};
use crate::plan::Event;

/// Beginning of the names of snapshots that clones are made through.
const SNAPSHOT: &str = "tmp-snapshot-";
/// Beginning of the names of claims that snapshots are restored into to be copied.
const SOURCE: &str = "tmp-source-pvc-";

/// A VolumeSnapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// It can be restored.
    pub ready: bool,
    /// What went wrong when it was taken.
    pub error: Option<String>,
    /// Bytes of a claim that it can be restored into; 0 when the driver does not say.
    pub size: u64,
    /// Its CSI driver.
    pub driver: Option<String>,
    /// It is one of a device.
    pub block: bool,
}

/// What is known of the storage behind a clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// CSI driver of the original's volume; `None` when it is of none.
    pub driver: Option<String>,
    /// The snapshot that is restored, if it is there: the one that a clone is made through,
    /// or the source.
    pub snapshot: Option<Snapshot>,
}

/// Where a clone's data comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// A claim.
    Claim(&'a PersistentVolumeClaim),
    /// A snapshot of this name, and a claim that could hold its content.
    Snapshot(&'a str, &'a PersistentVolumeClaim),
}

/// What a clone needs next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// The claim, if no pod writes to claim `unused`.
    Make {
        claim: Box<PersistentVolumeClaim>,
        /// The claim that the worker copies from, which is made before.
        temporary: Option<Box<PersistentVolumeClaim>>,
        unused: Option<String>,
        /// Why it is a copy.
        event: Option<Event>,
    },
    /// A snapshot, if no pod writes to claim `unused`.
    Snapshot { object: Value, unused: String },
    /// Nothing can be done yet.
    Wait(Patience),
}

/// What a clone waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Patience {
    /// CamelCase word for programs.
    pub(super) reason: &'static str,
    /// Sentence for people.
    pub(super) message: String,
    /// Phase of the DataVolume meanwhile, and the event that begins it.
    pub(super) stage: Option<(&'static str, Event)>,
}

fn wait(reason: &'static str, message: impl Into<String>) -> Next {
    Next::Wait(Patience {
        reason,
        message: message.into(),
        stage: None,
    })
}

/// Name of the snapshot that the object of this uid is cloned through.
#[must_use]
pub fn snapshot_name(uid: &str) -> String {
    format!("{SNAPSHOT}{uid}")
}

/// Name of the claim that a snapshot is restored into for the object of this uid.
#[must_use]
pub(super) fn source_name(uid: &str) -> String {
    format!("{SOURCE}{uid}")
}

/// Whether `class` may want more than a copy, so that the storage is to be looked at.
#[must_use]
pub fn concerns(class: Option<&str>, cluster: &Cluster) -> bool {
    let class = cluster.class(class, true);
    class.is_some_and(|class| {
        cluster.snapshot_classes.is_none() || strategy::wish(class, cluster) != Wish::Copy
    })
}

/// A claim that could hold what the snapshot `from` holds: what sizes and modes are compared
/// with, and what it is restored into to be copied.
///
/// # Errors
/// When the snapshot is not there or not ready (yet), or nothing could restore it.
pub(super) fn stand_in(
    from: &ClaimSource,
    look: Option<&Look>,
    cluster: &Cluster,
) -> Result<PersistentVolumeClaim, Refusal> {
    let refuse = |reason, message| Err(Refusal { reason, message });
    let name = &from.name;
    let Some(look) = look else {
        return refuse(
            "SnapshotNotReady",
            format!("The source snapshot {name} is looked for"),
        );
    };
    let Some(snapshot) = &look.snapshot else {
        return refuse(
            "CloneWithoutSource",
            format!("The source snapshot {name} doesn't exist"),
        );
    };
    if let Some(error) = snapshot.error.as_ref().filter(|_| !snapshot.ready) {
        return refuse(
            "SnapshotNotReady",
            format!("The source snapshot {name} could not be taken: {error}"),
        );
    }
    let (true, Some(driver)) = (snapshot.ready, &snapshot.driver) else {
        return refuse(
            "SnapshotNotReady",
            format!("The source snapshot {name} is not ready to be restored"),
        );
    };
    let class = cluster
        .classes
        .values()
        .find(|class| class.provisioner == *driver);
    let Some(class) = class else {
        return refuse(
            "CloneValidationFailed",
            format!(
                "expected a storage class of driver {driver}, which snapshot {name} is of, found none"
            ),
        );
    };
    Ok(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(from.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(size_of(snapshot.size)),
            storage_class_name: Some(class.name.clone()),
            volume_mode: Some(
                if snapshot.block {
                    "Block"
                } else {
                    "Filesystem"
                }
                .to_owned(),
            ),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}

fn size_of(bytes: u64) -> VolumeResourceRequirements {
    VolumeResourceRequirements {
        requests: Some([("storage".to_owned(), Quantity(bytes.to_string()))].into()),
        ..VolumeResourceRequirements::default()
    }
}

/// What the clone `claim`, made as a copy of its origin, needs next; `owner` wants it.
pub(super) fn next(
    mut claim: PersistentVolumeClaim,
    owner: &OwnerReference,
    origin: Origin<'_>,
    look: Option<&Look>,
    cluster: &Cluster,
) -> Next {
    let spec = claim.spec.clone().unwrap_or_default();
    let Some(class) = cluster.class(spec.storage_class_name.as_deref(), false) else {
        return copy(claim, None, None);
    };
    match origin {
        Origin::Snapshot(_, stand_in)
            if stand_in.metadata.namespace != claim.metadata.namespace =>
        {
            copy(claim, None, strategy::across(class, cluster))
        }
        Origin::Snapshot(name, stand_in) => {
            let driver = look.and_then(|look| look.snapshot.as_ref()?.driver.as_deref());
            let driver = driver.unwrap_or_default();
            match strategy::of_snapshot(&spec, class, stand_in, driver) {
                None => {
                    refer(&mut claim, "snapshot", name, stand_in);
                    made(claim, None)
                }
                Some(why) => {
                    let temporary = restored(owner, &owner.uid, name, stand_in, &claim);
                    copy(claim, Some(temporary), Some(why))
                }
            }
        }
        Origin::Claim(original) if original.metadata.namespace != claim.metadata.namespace => {
            copy(claim, None, strategy::across(class, cluster))
        }
        Origin::Claim(original) => {
            let known = cluster.snapshot_classes.is_some();
            if known && strategy::wish(class, cluster) == Wish::Copy {
                return copy(claim, None, None);
            }
            let Some(look) = look.filter(|_| known) else {
                return wait("CloneScheduled", "The storage of the source is looked at");
            };
            if !is_full(original) {
                return wait("ImportPVCNotReady", "The source PVC is not fully imported");
            }
            let driver = look.driver.as_deref();
            match strategy::of_claim(&spec, class, original, driver, cluster) {
                Strategy::Copy(why) => copy(claim, None, why),
                Strategy::CsiClone => {
                    let name = original.metadata.name.clone().unwrap_or_default();
                    refer(&mut claim, "csi-clone", &name, original);
                    made(claim, Some(name))
                }
                Strategy::Snapshot(class) => {
                    through_snapshot(claim, owner, original, &class, look.snapshot.as_ref())
                }
            }
        }
    }
}

/// Whether a claim has all its data.
pub(super) fn is_full(claim: &PersistentVolumeClaim) -> bool {
    let bound = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Bound");
    bound && (Job::of(claim).is_none() || of(claim, note::POD_PHASE) == Some("Succeeded"))
}

fn made(claim: PersistentVolumeClaim, unused: Option<String>) -> Next {
    Next::Make {
        claim: Box::new(claim),
        temporary: None,
        unused,
        event: None,
    }
}

fn copy(
    mut claim: PersistentVolumeClaim,
    temporary: Option<PersistentVolumeClaim>,
    why: Option<Fallback>,
) -> Next {
    let notes = claim.metadata.annotations.get_or_insert_default();
    notes.insert(note::CLONE_TYPE.to_owned(), "copy".to_owned());
    if let Some(why) = why {
        notes.insert(note::CLONE_FALLBACK.to_owned(), why.message.to_owned());
    }
    if let Some(temporary) = &temporary {
        let name = temporary.metadata.name.as_deref().unwrap_or_default();
        let namespace = temporary.metadata.namespace.as_deref().unwrap_or_default();
        notes.insert(
            note::CLONE_REQUEST.to_owned(),
            format!("{namespace}/{name}"),
        );
        notes.insert(
            note::TEMPORARY_SOURCE.to_owned(),
            format!("PersistentVolumeClaim/{name}"),
        );
    }
    Next::Make {
        claim: Box::new(claim),
        temporary: temporary.map(Box::new),
        unused: None,
        event: why.map(|why| Event {
            warning: true,
            reason: why.reason,
            message: why.message.to_owned(),
        }),
    }
}

/// Makes the claim one that its driver fills from `name`, which is as large as `original`.
fn refer(
    claim: &mut PersistentVolumeClaim,
    how: &str,
    name: &str,
    original: &PersistentVolumeClaim,
) {
    let snapshot = how == "snapshot";
    let namespace = claim.metadata.namespace.clone().unwrap_or_default();
    let notes = claim.metadata.annotations.get_or_insert_default();
    notes.insert(note::CLONE_TYPE.to_owned(), how.to_owned());
    notes
        .entry(note::CLONE_REQUEST.to_owned())
        .or_insert_with(|| format!("{namespace}/{name}"));
    let spec = claim.spec.get_or_insert_default();
    spec.data_source = Some(TypedLocalObjectReference {
        api_group: snapshot.then(|| SNAPSHOT_GROUP.to_owned()),
        kind: if snapshot {
            "VolumeSnapshot"
        } else {
            "PersistentVolumeClaim"
        }
        .to_owned(),
        name: name.to_owned(),
    });
    if strategy::grows(spec, original) {
        notes.insert(note::GROWS.to_owned(), "true".to_owned());
    } else {
        // Drivers refuse to make a clone smaller than its original's volume.
        enlarge(spec, strategy::capacity(original));
    }
}

fn enlarge(spec: &mut PersistentVolumeClaimSpec, least: u64) {
    if requested(spec).unwrap_or_default() < least {
        let requests = spec.resources.get_or_insert_default();
        let requests = requests.requests.get_or_insert_default();
        requests.insert("storage".to_owned(), Quantity(least.to_string()));
    }
}

fn through_snapshot(
    mut claim: PersistentVolumeClaim,
    owner: &OwnerReference,
    original: &PersistentVolumeClaim,
    class: &str,
    snapshot: Option<&Snapshot>,
) -> Next {
    let name = snapshot_name(&owner.uid);
    let from = original.metadata.name.clone().unwrap_or_default();
    let Some(snapshot) = snapshot else {
        let object = json!({
            "apiVersion": SNAPSHOT_API_VERSION, "kind": "VolumeSnapshot",
            "metadata": {
                "name": name,
                "namespace": claim.metadata.namespace,
                "labels": labels(),
                "ownerReferences": [owner],
            },
            "spec": {
                "volumeSnapshotClassName": class,
                "source": { "persistentVolumeClaimName": from },
            },
        });
        return Next::Snapshot {
            object,
            unused: from,
        };
    };
    if snapshot.ready {
        refer(&mut claim, "snapshot", &name, original);
        enlarge(claim.spec.get_or_insert_default(), snapshot.size);
        let notes = claim.metadata.annotations.get_or_insert_default();
        notes.insert(
            note::TEMPORARY_SOURCE.to_owned(),
            format!("VolumeSnapshot/{name}"),
        );
        return made(claim, None);
    }
    let namespace = original.metadata.namespace.as_deref().unwrap_or_default();
    let says =
        format!("Creating snapshot for smart-clone is in progress (for pvc {namespace}/{from})");
    Next::Wait(Patience {
        reason: phase::SNAPSHOT_FOR_SMART_CLONE,
        message: match &snapshot.error {
            Some(error) => format!("{says}: {error}"),
            None => says.clone(),
        },
        stage: Some((
            phase::SNAPSHOT_FOR_SMART_CLONE,
            Event {
                warning: false,
                reason: phase::SNAPSHOT_FOR_SMART_CLONE,
                message: says,
            },
        )),
    })
}

fn labels() -> BTreeMap<String, String> {
    [
        (APP_LABEL, APP),
        (COMPONENT_LABEL, ""),
        (NO_BACKUP_LABEL, "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A claim beside snapshot `name` that it is restored into, to be copied from into `target` for
/// the object of this uid.
pub(super) fn restored(
    owner: &OwnerReference,
    uid: &str,
    name: &str,
    stand_in: &PersistentVolumeClaim,
    target: &PersistentVolumeClaim,
) -> PersistentVolumeClaim {
    let mut spec = stand_in.spec.clone().unwrap_or_default();
    if requested(&spec).unwrap_or_default() == 0 {
        // A driver that does not say restores into any size.
        spec.resources = target.spec.as_ref().and_then(|spec| spec.resources.clone());
    }
    spec.data_source = Some(TypedLocalObjectReference {
        api_group: Some(SNAPSHOT_GROUP.to_owned()),
        kind: "VolumeSnapshot".to_owned(),
        name: name.to_owned(),
    });
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(source_name(uid)),
            namespace: stand_in.metadata.namespace.clone(),
            labels: Some(labels()),
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// Whether the claim's original is one that a snapshot is restored into for it alone.
pub(super) fn copies_temporary(claim: &PersistentVolumeClaim) -> bool {
    of(claim, note::TEMPORARY_SOURCE).is_some_and(|what| what.starts_with("PersistentVolumeClaim/"))
}

/// What the claim was made from and needs no more: kind and name.
pub(super) fn leftover(claim: &PersistentVolumeClaim) -> Option<(&'static str, String)> {
    let (kind, name) = of(claim, note::TEMPORARY_SOURCE)?.split_once('/')?;
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    // Names of ours only: an annotation is anybody's to write.
    match kind {
        "VolumeSnapshot" if name.starts_with(SNAPSHOT) && phase == Some("Bound") => {
            Some(("VolumeSnapshot", name.to_owned()))
        }
        "PersistentVolumeClaim"
            if name.starts_with(SOURCE) && of(claim, note::POD_PHASE) == Some("Succeeded") =>
        {
            Some(("PersistentVolumeClaim", name.to_owned()))
        }
        _ => None,
    }
}
