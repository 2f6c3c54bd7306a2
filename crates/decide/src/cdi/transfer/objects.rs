//! What is kept of the source while it moves, and what the target is made of it.

use std::collections::BTreeMap;

use api::cdi::names::annotations as note;
use api::cdi::names::{API_VERSION, APPLY_STORAGE_PROFILE};
use api::cdi::{DataVolume, ObjectTransfer};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::{Place, moves_data_volume, target, uid};

/// Annotations that tell of a claim's own binding.
const BINDING: [&str; 4] = [
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];
/// Annotations of CDI that tell what a claim holds, not how it came in.
const CONTENT: [&str; 3] = [
    note::CONTENT_TYPE,
    note::PREALLOCATION,
    note::PREALLOCATION_REQUESTED,
];

/// What must be known when the source is gone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Memory {
    /// The claim as it was.
    pub(super) claim: PersistentVolumeClaim,
    /// The DataVolume as it was, if one is moved.
    pub(super) dv: Option<DataVolume>,
    /// Name of the volume.
    pub(super) volume: String,
    /// Its reclaim policy.
    pub(super) reclaim: String,
}

fn bare(mut meta: ObjectMeta) -> ObjectMeta {
    meta.managed_fields = None;
    meta
}

impl Memory {
    pub(super) fn of(
        claim: &PersistentVolumeClaim,
        dv: Option<&DataVolume>,
        volume: &PersistentVolume,
    ) -> Self {
        let policy = |volume: &PersistentVolume| {
            let spec = volume.spec.as_ref()?;
            spec.persistent_volume_reclaim_policy.clone()
        };
        Self {
            claim: PersistentVolumeClaim {
                metadata: bare(claim.metadata.clone()),
                spec: claim.spec.clone(),
                status: None,
            },
            dv: dv.map(|dv| DataVolume {
                metadata: bare(dv.metadata.clone()),
                status: None,
                ..dv.clone()
            }),
            volume: volume.metadata.name.clone().unwrap_or_default(),
            // What the API server takes a volume's for that says nothing.
            reclaim: policy(volume).unwrap_or_else(|| "Retain".to_owned()),
        }
    }

    /// As `status.data`. Keys `source`, `pvName`, `pvReclaim` and `pvcName` are upstream's.
    pub(super) fn write(&self) -> Value {
        let claim = json!(self.claim).to_string();
        let mut data = json!({ "pvName": self.volume, "pvReclaim": self.reclaim });
        match &self.dv {
            Some(dv) => {
                data["source"] = json!(json!(dv).to_string());
                data["claim"] = json!(claim);
                data["pvcName"] = json!(self.claim.metadata.name);
            }
            None => data["source"] = json!(claim),
        }
        data
    }

    /// Out of `status.data`; `None` if somebody else wrote that.
    pub(super) fn read(transfer: &ObjectTransfer) -> Option<Self> {
        let data = &transfer.status.as_ref()?.data;
        let (claim, dv) = if moves_data_volume(transfer) {
            let dv = serde_json::from_str(data.get("source")?).ok()?;
            (data.get("claim")?, Some(dv))
        } else {
            (data.get("source")?, None)
        };
        let claim: PersistentVolumeClaim = serde_json::from_str(claim).ok()?;
        claim.metadata.uid.as_ref()?;
        Some(Self {
            claim,
            dv,
            volume: data.get("pvName")?.clone(),
            reclaim: data.get("pvReclaim")?.clone(),
        })
    }

    /// The claim that gets the volume. It has no source: nothing is fetched into it again.
    pub(super) fn new_claim(&self, transfer: &ObjectTransfer) -> PersistentVolumeClaim {
        let old = &self.claim;
        let mut metadata = moved(transfer, &old.metadata, self.dv.as_ref());
        if let Some(labels) = &mut metadata.labels {
            // Its gaps are filled.
            labels.remove(APPLY_STORAGE_PROFILE);
        }
        let notes = metadata.annotations.get_or_insert_default();
        notes.retain(|name, _| is_kept(name));
        notes.insert(
            note::TRANSFER_UID.to_owned(),
            uid(&transfer.metadata).to_owned(),
        );
        if self.dv.is_some() {
            notes.insert(note::POPULATED_FOR.to_owned(), target(transfer).name);
        }
        let mut spec = old.spec.clone().unwrap_or_default();
        spec.volume_name = Some(self.volume.clone());
        spec.data_source = None;
        spec.data_source_ref = None;
        spec.selector = None;
        PersistentVolumeClaim {
            metadata,
            spec: Some(spec),
            status: None,
        }
    }

    /// The DataVolume that gets the claim, if one is moved.
    pub(super) fn new_data_volume(&self, transfer: &ObjectTransfer) -> Option<DataVolume> {
        let old = self.dv.as_ref()?;
        Some(DataVolume {
            api_version: API_VERSION.to_owned(),
            kind: "DataVolume".to_owned(),
            metadata: moved(transfer, &old.metadata, None),
            spec: old.spec.clone(),
            status: None,
        })
    }
}

/// Whether an annotation is true of the claim in its new place as well.
fn is_kept(name: &str) -> bool {
    let origin = [
        note::CLONE_REQUEST,
        note::CLONE_OF,
        note::CLONE_TYPE,
        note::CLONE_FALLBACK,
        note::CLONE_PHASE,
        note::CREATED_FOR,
        note::TEMPORARY_SOURCE,
        note::GROWS,
        note::SELECTED_NODE,
    ];
    let worker = name.starts_with("cdi.kubevirt.io/storage.") && !CONTENT.contains(&name);
    !worker && !origin.contains(&name) && !BINDING.contains(&name)
}

/// Metadata in the new place. Owners stay in the same namespace only, for there are none
/// across namespaces; `but` is one that goes.
fn moved(transfer: &ObjectTransfer, old: &ObjectMeta, but: Option<&DataVolume>) -> ObjectMeta {
    let Place { namespace, name } = target(transfer);
    let gone = but.map(|dv| uid(&dv.metadata));
    let owners = old.owner_references.clone().unwrap_or_default();
    let owners: Vec<OwnerReference> = owners
        .into_iter()
        .filter(|owner| Some(owner.uid.as_str()) != gone)
        .collect();
    let mut notes: BTreeMap<String, String> = old.annotations.clone().unwrap_or_default();
    for name in [note::OBJECT_TRANSFER, note::CLONE_TOKEN] {
        notes.remove(name);
    }
    notes.insert(
        note::TRANSFER_UID.to_owned(),
        uid(&transfer.metadata).to_owned(),
    );
    let stays = old.namespace.as_ref() == Some(&namespace) && !owners.is_empty();
    ObjectMeta {
        namespace: Some(namespace),
        name: Some(name),
        labels: old.labels.clone(),
        annotations: Some(notes),
        owner_references: stays.then_some(owners),
        ..ObjectMeta::default()
    }
}
