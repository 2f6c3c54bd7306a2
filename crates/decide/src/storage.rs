//! The claims and DataVolumes behind a guest's volumes: what is known of them,
//! and whether a guest can start on them.
//!
//! ```text
//!   volume ─ claim name ─► claim ─ controlled by? ─► DataVolume ─ phase
//!              missing: wait, FailedPvcNotFound         Failed: the VMI fails
//!              filled by a worker: wait                 not Succeeded: wait
//! ```
//! Source of phases, reasons and words: KubeVirt, pkg/storage/types/{pvc,dv}.go
//! and pkg/virt-controller/watch/vmi/datavolumes.go.

use std::collections::BTreeMap;

use api::Condition;
use api::VirtualMachine;
use api::names::POPULATING_ANNOTATION;
use api::vmi::VmiSpec;
use api::vmi_status::{ClaimInfo, VolumeStatus};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::conditions::condition;

/// Reason of `Synchronized` and of the event while a claim does not exist.
pub const CLAIM_NOT_FOUND: &str = "FailedPvcNotFound";
/// Reason of a VMI whose DataVolume failed.
pub const IMPORT_FAILED: &str = "FailedDataVolumeImport";

/// What the decisions look at in a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimFacts {
    /// UID.
    pub uid: String,
    /// It has a volume.
    pub bound: bool,
    /// It is a block device instead of a file system.
    pub block: bool,
    /// `ReadWriteOnce` and so on.
    pub access_modes: Vec<String>,
    /// What it has; empty until it is bound.
    pub capacity: BTreeMap<String, Quantity>,
    /// What was asked for.
    pub requests: BTreeMap<String, Quantity>,
    /// Name of the DataVolume that controls it; empty when none does.
    pub data_volume: String,
    /// A worker of CDI writes into it.
    pub populating: bool,
}

impl From<&PersistentVolumeClaim> for ClaimFacts {
    fn from(claim: &PersistentVolumeClaim) -> Self {
        let meta = &claim.metadata;
        let spec = claim.spec.clone().unwrap_or_default();
        let status = claim.status.clone().unwrap_or_default();
        let worker = meta
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(POPULATING_ANNOTATION));
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            bound: status.phase.as_deref() == Some("Bound"),
            block: spec.volume_mode.as_deref() == Some("Block"),
            access_modes: spec.access_modes.unwrap_or_default(),
            capacity: status.capacity.unwrap_or_default(),
            requests: spec
                .resources
                .and_then(|resources| resources.requests)
                .unwrap_or_default(),
            data_volume: controller(meta, "DataVolume").unwrap_or_default(),
            populating: worker.is_some_and(|phase| phase != "Succeeded"),
        }
    }
}

impl ClaimFacts {
    /// Bytes of an image that is made in it: what was asked for, or less when
    /// it has less. `None` when neither can be read.
    #[must_use]
    pub fn image_bytes(&self) -> Option<u64> {
        let bytes =
            |list: &BTreeMap<String, Quantity>| machine::quantity::bytes(list.get("storage")?).ok();
        match (bytes(&self.capacity), bytes(&self.requests)) {
            (Some(capacity), Some(request)) => Some(capacity.min(request)),
            (one, other) => one.or(other),
        }
    }

    fn info(&self, name: &str) -> ClaimInfo {
        ClaimInfo {
            claim_name: name.to_owned(),
            access_modes: self.access_modes.clone(),
            volume_mode: Some(if self.block { "Block" } else { "Filesystem" }.to_owned()),
            capacity: self.capacity.clone(),
            requests: self.requests.clone(),
        }
    }
}

/// What the decisions look at in a DataVolume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataVolumeFacts {
    /// UID.
    pub uid: String,
    /// Phase as CDI writes it; empty before it has.
    pub phase: String,
    /// Status of its condition `Ready`; empty when there is none.
    pub ready: String,
    /// Its condition `Bound` is true.
    pub bound: bool,
    /// Why its worker stopped, while that is an error.
    pub error: Option<String>,
}

impl DataVolumeFacts {
    /// Reads them off a DataVolume's metadata and status.
    #[must_use]
    pub fn new(meta: &ObjectMeta, status: &Value) -> Self {
        let conditions = status["conditions"].as_array();
        let find = |type_: &str| {
            conditions
                .into_iter()
                .flatten()
                .find(|one| one["type"] == type_)
        };
        let word = |one: Option<&Value>, field: &str| {
            one.and_then(|one| one[field].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let running = find("Running");
        let stopped = word(running, "status") == "False"
            && ["Error", "ImagePullFailed"].contains(&word(running, "reason").as_str());
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            phase: status["phase"].as_str().unwrap_or_default().to_owned(),
            ready: word(find("Ready"), "status"),
            bound: word(find("Bound"), "status") == "True",
            error: stopped.then(|| word(running, "message")),
        }
    }

    /// The claim has what it is to have, or gets it from its first consumer.
    fn is_done(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "PendingPopulation")
    }

    fn waits_for_consumer(&self) -> bool {
        self.phase == "WaitForFirstConsumer"
    }

    fn failed(&self) -> bool {
        self.phase == "Failed"
    }
}

/// Claims and DataVolumes of one namespace by name; at least those that the
/// object decided on names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Storage {
    /// Claims.
    pub claims: BTreeMap<String, ClaimFacts>,
    /// DataVolumes.
    pub data_volumes: BTreeMap<String, DataVolumeFacts>,
}

/// Names of the claims, and so DataVolumes, that a spec's volumes name.
pub fn claim_names(spec: &VmiSpec) -> impl Iterator<Item = &str> {
    spec.volumes.iter().filter_map(|volume| volume.claim_name())
}

/// Names that a VM's templates and volumes name.
pub fn names_of(vm: &VirtualMachine) -> impl Iterator<Item = &str> {
    let volumes = vm.spec.template.iter().flat_map(|t| claim_names(&t.spec));
    let templates = vm.spec.data_volume_templates.iter();
    volumes.chain(templates.filter_map(|template| template.metadata.name.as_deref()))
}

/// Whether a guest can start on its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A claim does not exist; the sentence tells which.
    pub missing: Option<String>,
    /// A DataVolume failed for good; the sentence tells which.
    pub failed: Option<String>,
    /// A claim has not got its content yet; the sentence tells why.
    pub waits: Option<String>,
    /// A DataVolume waits for a pod that uses its claim.
    pub first_consumer: bool,
}

impl Readiness {
    /// Nothing is in the way.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.missing.is_none() && self.failed.is_none() && self.waits.is_none()
    }
}

impl Storage {
    /// Whether a guest of this spec can start.
    #[must_use]
    pub fn readiness(&self, namespace: &str, spec: &VmiSpec) -> Readiness {
        let mut readiness = Readiness::default();
        for volume in &spec.volumes {
            let Some(name) = volume.claim_name() else {
                continue;
            };
            let claim = self.claims.get(name);
            let owner = match claim {
                Some(claim) if claim.data_volume.is_empty() => {
                    if claim.populating {
                        wait(&mut readiness, format!("claim {name} is being filled"));
                    }
                    continue;
                }
                Some(claim) => claim.data_volume.as_str(),
                None => name,
            };
            match (self.data_volumes.get(owner), claim) {
                (None, None) => {
                    readiness.missing.get_or_insert_with(|| {
                        format!("PVC {namespace}/{name} does not exist, waiting for it to appear")
                    });
                }
                (Some(known), _) if known.failed() => {
                    readiness.failed.get_or_insert_with(|| {
                        format!("DataVolume {owner} failed to import disk image")
                    });
                }
                (Some(known), Some(_)) if known.is_done() => {}
                (Some(known), _) => {
                    readiness.first_consumer |= known.waits_for_consumer();
                    wait(&mut readiness, waits_on(owner, known));
                }
                (None, Some(_)) => {
                    wait(
                        &mut readiness,
                        format!("DataVolume {owner} is not known yet"),
                    );
                }
            }
        }
        readiness
    }

    /// DataVolumes behind the volumes, by name.
    fn data_volumes_of<'a>(
        &'a self,
        spec: &'a VmiSpec,
    ) -> impl Iterator<Item = (&'a str, &'a DataVolumeFacts)> {
        spec.volumes.iter().filter_map(|volume| {
            let name = volume.claim_name()?;
            let name = if volume.data_volume.is_some() {
                name
            } else {
                self.claims.get(name)?.data_volume.as_str()
            };
            self.data_volumes
                .get_key_value(name)
                .map(|(name, known)| (name.as_str(), known))
        })
    }

    /// Condition `DataVolumesReady`; `None` when there is no DataVolume.
    #[must_use]
    pub fn data_volumes_ready(&self, spec: &VmiSpec) -> Option<Condition> {
        let states: Vec<&str> = self
            .data_volumes_of(spec)
            .map(|(_, known)| known.ready.as_str())
            .collect();
        if states.is_empty() {
            return None;
        }
        if states.iter().all(|state| *state == "True") {
            return Some(condition(
                "DataVolumesReady",
                true,
                "AllDVsReady",
                "All of the VMI's DVs are bound and ready",
            ));
        }
        let mut not = condition(
            "DataVolumesReady",
            false,
            "NotAllDVsReady",
            "Not all of the VMI's DVs are ready",
        );
        if !states.contains(&"False") {
            not.status = "Unknown".to_owned();
        }
        Some(not)
    }

    /// What is known about the claims behind the volumes.
    #[must_use]
    pub fn volume_statuses(&self, spec: &VmiSpec) -> Vec<VolumeStatus> {
        let of_claims = spec.volumes.iter().filter_map(|volume| {
            let name = volume.claim_name()?;
            Some(VolumeStatus {
                name: volume.name.clone(),
                persistent_volume_claim_info: Some(self.claims.get(name)?.info(name)),
                ..VolumeStatus::default()
            })
        });
        of_claims.collect()
    }

    /// The word of the column STATUS that the disks of a VM ask for. `starting`:
    /// it has an instance or is to get one.
    #[must_use]
    pub(crate) fn trouble(&self, vm: &VirtualMachine, starting: bool) -> Option<&'static str> {
        let spec = &vm.spec.template.as_ref()?.spec;
        let templates = vm.spec.data_volume_templates.iter().filter_map(|template| {
            let name = template.metadata.name.as_deref()?;
            self.data_volumes.get(name)
        });
        let all: Vec<&DataVolumeFacts> = self
            .data_volumes_of(spec)
            .map(|(_, known)| known)
            .chain(templates)
            .collect();
        if all
            .iter()
            .any(|known| known.failed() || known.error.is_some())
        {
            return Some("DataVolumeError");
        }
        // One that waits for its first consumer is not being filled.
        if all
            .iter()
            .any(|known| !known.is_done() && (known.bound || !known.waits_for_consumer()))
        {
            return Some("Provisioning");
        }
        let unbound = claim_names(spec)
            .filter_map(|name| self.claims.get(name))
            .any(|claim| !claim.bound);
        (starting && unbound).then_some("WaitingForVolumeBinding")
    }

    /// How far the DataVolumes of a VM's templates are.
    pub(crate) fn templates<'a>(&self, vm: &'a VirtualMachine) -> Templates<'a> {
        let mut templates = Templates::default();
        for template in &vm.spec.data_volume_templates {
            let name = template.metadata.name.as_deref().unwrap_or_default();
            match self.data_volumes.get(name) {
                None => templates.missing.push(template),
                Some(known) if known.is_done() || known.waits_for_consumer() => {}
                Some(_) => templates.unfinished = true,
            }
        }
        templates
    }
}

/// How far the DataVolumes of a VM's templates are.
#[derive(Debug, Default)]
pub(crate) struct Templates<'a> {
    /// Those that do not exist.
    pub(crate) missing: Vec<&'a api::vm::DataVolumeTemplate>,
    /// One of them has not got its content yet.
    pub(crate) unfinished: bool,
}

fn wait(readiness: &mut Readiness, why: String) {
    readiness.waits.get_or_insert(why);
}

fn waits_on(name: &str, known: &DataVolumeFacts) -> String {
    if known.waits_for_consumer() {
        return format!(
            "DataVolume {name} waits for its first consumer, which a guest cannot be before its disk has its content; annotate it with cdi.kubevirt.io/storage.bind.immediate.requested, or turn CDI's feature gate HonorWaitForFirstConsumer off"
        );
    }
    let phase = if known.phase.is_empty() {
        "not begun"
    } else {
        &known.phase
    };
    format!("DataVolume {name} is {phase}, not Succeeded")
}

fn controller(meta: &ObjectMeta, kind: &str) -> Option<String> {
    let mut owners = meta.owner_references.iter().flatten();
    owners
        .find(|owner| owner.controller == Some(true) && owner.kind == kind)
        .map(|owner| owner.name.clone())
}

#[cfg(test)]
pub(crate) mod tests;
