//! A synchronous picture of what the controller watches. Every change gives the keys
//! whose decision may differ now.

use std::collections::HashMap;

use api::cdi::ClaimSource;
use api::cdi::names::CLAIM_UID_LABEL;
use api::cdi::{
    CDI, DataSource, DataSourceSource, DataVolume, StorageProfile, VolumeCloneSource,
    VolumeImportSource, VolumeUploadSource,
};
use decide::cdi::claim::{Refusal, source, stands_for};
use decide::cdi::cluster::{Class, Cluster};
use decide::cdi::populator::{self, Kind};
use decide::cdi::smart::Look;
use decide::cdi::worker::Job;
use decide::cdi::{across, state, volume};
use decide::plan::{Failure, Plan};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::act::VALID;
use super::cron::{self, Crons};
use super::measure::Told;
use super::permits::Permits;
use super::transfer::Transfers;
use super::ways::Ways;

/// Namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Name {
    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }

    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// What is to be decided on again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A DataVolume and the claim of its name.
    Volume(Name),
    /// A DataSource.
    Source(Name),
    /// A storage class.
    Class(String),
    /// A DataImportCron.
    Cron(Name),
    /// An ObjectTransfer.
    Transfer(String),
}

/// See the module.
#[derive(Default)]
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) crons: Crons,
    pub(super) transfers: Transfers,
    pub(super) volumes: HashMap<Name, DataVolume>,
    claims: HashMap<Name, PersistentVolumeClaim>,
    /// Worker pods by their names.
    pods: HashMap<Name, Pod>,
    sources: HashMap<Name, DataSource>,
    imports: HashMap<Name, VolumeImportSource>,
    uploads: HashMap<Name, VolumeUploadSource>,
    pub(super) clones: HashMap<Name, VolumeCloneSource>,
    /// What was last seen of the storage behind clones that are about to be made.
    pub(super) looks: HashMap<Name, Look>,
    failing: HashMap<Name, (Failure, u32)>,
    /// By uid of the claim.
    progress: HashMap<String, Told>,
    /// When certificates were made, by uid of the claim.
    certified: HashMap<String, Timestamp>,
    pub(super) ways: Ways,
    pub(super) permits: Permits,
}

/// A certificate that no server has taken yet is made again after this time, for somebody may
/// have taken it away: nobody may read Secrets, so that is not seen.
const UNSEEN: SignedDuration = SignedDuration::from_secs(60);

/// Kinds that are kept by namespace and name.
pub(super) trait Kept: Sized {
    fn meta(&self) -> &ObjectMeta;
    fn all(world: &mut World) -> &mut HashMap<Name, Self>;
    /// What may differ after `name` changed.
    fn keys(world: &World, object: &Self, name: &Name) -> Vec<Key>;
}

impl Kept for DataVolume {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn all(world: &mut World) -> &mut HashMap<Name, Self> {
        &mut world.volumes
    }

    fn keys(world: &World, dv: &Self, name: &Name) -> Vec<Key> {
        let mut keys = vec![Key::Volume(name.clone())];
        keys.extend(cron::labelled(&dv.metadata));
        keys.extend(world.transfers.concerning(name));
        keys
    }
}

impl Kept for PersistentVolumeClaim {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn all(world: &mut World) -> &mut HashMap<Name, Self> {
        &mut world.claims
    }

    fn keys(world: &World, claim: &Self, name: &Name) -> Vec<Key> {
        let mut keys = vec![Key::Volume(name.clone())];
        keys.extend(owner(claim).map(Key::Volume));
        keys.extend(world.transfers.concerning(name));
        // Copies wait for their originals, and DataSources stand for claims.
        let copies = world.claims.iter().filter(|(_, claim)| {
            let job = Job::of(claim);
            let original = job.as_ref().and_then(|job| job.original(claim));
            original.is_some_and(|(namespace, of)| of == name.name && namespace == name.namespace)
        });
        keys.extend(copies.map(|(copy, _)| Key::Volume(copy.clone())));
        keys.extend(world.without_claim(|dv| {
            let from = dv.spec.source.as_ref();
            let from = from.and_then(|source| source.pvc.as_ref());
            dv.spec.source_ref.is_some() || from.is_some_and(|pvc| pvc.name == name.name)
        }));
        keys.extend(world.sources.keys().cloned().map(Key::Source));
        keys
    }
}

impl Kept for Pod {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn all(world: &mut World) -> &mut HashMap<Name, Self> {
        &mut world.pods
    }

    fn keys(_: &World, pod: &Self, name: &Name) -> Vec<Key> {
        let owners = pod.metadata.owner_references.iter().flatten();
        owners
            .filter(|owner| owner.kind == "PersistentVolumeClaim")
            .map(|owner| Key::Volume(Name::new(&name.namespace, &owner.name)))
            .chain(across::target(pod).map(|(of, name)| Key::Volume(Name::new(of, name))))
            .collect()
    }
}

impl Kept for DataSource {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn all(world: &mut World) -> &mut HashMap<Name, Self> {
        &mut world.sources
    }

    fn keys(world: &World, _: &Self, name: &Name) -> Vec<Key> {
        let mut keys: Vec<Key> = world.sources.keys().cloned().map(Key::Source).collect();
        keys.extend(world.crons.managing(&name.namespace, &name.name));
        keys.extend(world.without_claim(|dv| dv.spec.source_ref.is_some()));
        keys
    }
}

/// The claim in whose stead this one is filled.
fn owner(claim: &PersistentVolumeClaim) -> Option<Name> {
    let owners = claim.metadata.owner_references.iter().flatten();
    let owner = owners
        .filter(|owner| owner.controller == Some(true))
        .find(|owner| owner.kind == "PersistentVolumeClaim")?;
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    Some(Name::new(namespace, &owner.name))
}

/// Sources of populated claims: claims that refer to one may go on when it comes.
macro_rules! volume_source {
    ($ty:ident, $all:ident, $kind:expr) => {
        impl Kept for $ty {
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn all(world: &mut World) -> &mut HashMap<Name, Self> {
                &mut world.$all
            }

            fn keys(world: &World, _: &Self, name: &Name) -> Vec<Key> {
                world.referring($kind, name)
            }
        }
    };
}
volume_source!(VolumeImportSource, imports, Kind::Import);
volume_source!(VolumeUploadSource, uploads, Kind::Upload);
volume_source!(VolumeCloneSource, clones, Kind::Clone);

impl World {
    /// An object was created or changed.
    pub(super) fn put<K: Kept>(&mut self, object: K) -> Vec<Key> {
        let name = Name::of(object.meta());
        let all = K::all(self);
        if all
            .get(&name)
            .is_some_and(|old| is_older(object.meta(), old.meta()))
        {
            return Vec::new();
        }
        all.insert(name.clone(), object);
        self.keys::<K>(&name)
    }

    fn keys<K: Kept>(&mut self, name: &Name) -> Vec<Key> {
        let Some(object) = K::all(self).remove(name) else {
            return Vec::new();
        };
        // Out and in again: what depends on it is found by a look at the rest.
        let mut keys = K::keys(self, &object, name);
        K::all(self).insert(name.clone(), object);
        keys.dedup();
        keys
    }

    /// An object is gone.
    pub(super) fn remove<K: Kept>(&mut self, meta: &ObjectMeta) -> Vec<Key> {
        let name = Name::of(meta);
        let known = K::all(self)
            .get(&name)
            .map(|object| object.meta().uid.clone());
        if known.is_none_or(|uid| uid != meta.uid) {
            return Vec::new();
        }
        let keys = self.keys::<K>(&name);
        if let Some(gone) = K::all(self).remove(&name) {
            let uid = gone.meta().uid.as_deref().unwrap_or_default();
            self.progress.remove(uid);
            self.certified.remove(uid);
        }
        if !self.volumes.contains_key(&name) && !self.claims.contains_key(&name) {
            self.failing.remove(&name);
            self.looks.remove(&name);
        }
        keys
    }

    /// All objects of a kind, as of now.
    pub(super) fn reset<K: Kept>(&mut self, all: Vec<K>) -> Vec<Key> {
        let gone: Vec<ObjectMeta> = K::all(self)
            .values()
            .map(Kept::meta)
            .filter(|meta| !all.iter().any(|new| new.meta().uid == meta.uid))
            .cloned()
            .collect();
        let mut keys: Vec<Key> = gone
            .iter()
            .flat_map(|meta| self.remove::<K>(meta))
            .collect();
        for object in all {
            keys.extend(self.put(object));
        }
        keys
    }

    /// All storage classes, as of now.
    pub(super) fn set_classes(&mut self, classes: Vec<Class>) -> Vec<Key> {
        self.cluster.classes = classes
            .into_iter()
            .map(|class| (class.name.clone(), class))
            .collect();
        self.all_classes()
    }

    /// A storage class was created or changed, or is gone.
    pub(super) fn set_class(&mut self, class: Class, there: bool) -> Vec<Key> {
        if there {
            self.cluster.classes.insert(class.name.clone(), class);
        } else {
            self.cluster.classes.remove(&class.name);
        }
        self.all_classes()
    }

    /// A storage profile was created or changed, or is gone.
    pub(super) fn set_profile(&mut self, profile: StorageProfile, there: bool) -> Vec<Key> {
        let name = profile.metadata.name.clone().unwrap_or_default();
        if there {
            self.cluster.profiles.insert(name.clone(), profile);
        } else {
            self.cluster.profiles.remove(&name);
        }
        let mut keys = vec![Key::Class(name)];
        keys.extend(self.without_claim(|_| true));
        keys
    }

    /// The configuration, or none.
    pub(super) fn set_cdi(&mut self, cdi: Option<CDI>) -> Vec<Key> {
        let spec = cdi.map(|cdi| cdi.spec).unwrap_or_default();
        self.cluster.config = spec.config.unwrap_or_default();
        self.cluster.placement = spec.workload.unwrap_or_default();
        self.cluster.clone_strategy = spec.clone_strategy_override;
        self.cluster.pull_policy = spec.image_pull_policy;
        let mut keys = self.all_classes();
        keys.extend(self.claims.keys().cloned().map(Key::Volume));
        keys.extend(self.crons.keys());
        keys
    }

    fn all_classes(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self
            .cluster
            .classes
            .keys()
            .cloned()
            .map(Key::Class)
            .collect();
        keys.extend(self.without_claim(|_| true));
        keys
    }

    fn without_claim(&self, pick: impl Fn(&DataVolume) -> bool) -> Vec<Key> {
        self.volumes
            .iter()
            .filter(|(name, dv)| !self.claims.contains_key(name) && pick(dv))
            .map(|(name, _)| Key::Volume(name.clone()))
            .collect()
    }

    /// Claims that refer to a source.
    fn referring(&self, kind: Kind, source: &Name) -> Vec<Key> {
        let claims = self.claims.iter().filter(|(name, claim)| {
            name.namespace == source.namespace
                && populator::reference(claim)
                    .is_some_and(|to| to.kind == kind && to.name == source.name)
        });
        claims.map(|(name, _)| Key::Volume(name.clone())).collect()
    }

    /// How the claim is populated, if it refers to a source of ours.
    fn population(&self, claim: &PersistentVolumeClaim) -> Option<populator::View<'_>> {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        // The claim's own borrow ends before the view's.
        let claim = self.claims.get(&Name::of(&claim.metadata))?;
        let reference = populator::reference(claim)?;
        let name = Name::new(namespace, reference.name);
        let source = match reference.kind {
            Kind::Import => self.imports.get(&name).map(populator::Source::Import),
            Kind::Upload => self.uploads.get(&name).map(populator::Source::Upload),
            Kind::Clone => self.clones.get(&name).map(populator::Source::Clone),
        };
        let original = match source {
            Some(populator::Source::Clone(from)) => {
                let of = Name::new(namespace, &from.spec.source.name);
                self.claims.get(&of)
            }
            _ => None,
        };
        let prime = self
            .claims
            .get(&Name::new(namespace, &populator::prime_name(claim)));
        let uid = prime.and_then(|prime| prime.metadata.uid.as_ref());
        Some(populator::View {
            reference,
            source,
            prime,
            progress: uid.and_then(|uid| self.progress.get(uid)?.percent),
            original,
            look: self.looks.get(&Name::of(&claim.metadata)),
        })
    }

    pub(super) fn find_source(&self, namespace: &str, name: &str) -> Option<&DataSource> {
        self.sources.get(&Name::new(namespace, name))
    }

    pub(super) fn volume(&self, name: &Name) -> Option<&DataVolume> {
        self.volumes.get(name)
    }

    pub(super) fn claim(&self, name: &Name) -> Option<&PersistentVolumeClaim> {
        self.claims.get(name)
    }

    pub(super) fn source(&self, name: &Name) -> Option<&DataSource> {
        self.sources.get(name)
    }

    /// The claim's worker pod.
    pub(super) fn pod(&self, name: &Name) -> Option<&Pod> {
        let claim = self.claims.get(name)?;
        let pod = Name::new(&name.namespace, &Job::of(claim)?.pod_name(claim));
        self.pods.get(&pod).filter(|pod| {
            let labels = pod.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(CLAIM_UID_LABEL)) == claim.metadata.uid.as_ref()
        })
    }

    /// Pods that read claims of other namespaces for a clone of this name, or did.
    fn senders(&self, name: &Name) -> Vec<&Pod> {
        let to = Some((name.namespace.as_str(), name.name.as_str()));
        let pods = self.pods.values();
        pods.filter(|pod| across::target(pod) == to).collect()
    }

    /// The pod that reads for the claim, if that is a clone of a claim of another namespace.
    pub(super) fn sender(&self, name: &Name) -> Option<&Pod> {
        let claim = self.claims.get(name)?;
        let Some(Job::Receive { namespace, .. }) = Job::of(claim) else {
            return None;
        };
        let pod = Name::new(&namespace, &across::source_name(claim));
        let pod = self.pods.get(&pod)?;
        across::reads_for(pod, claim, &namespace).then_some(pod)
    }

    /// Address of a worker whose progress is worth asking for.
    pub(super) fn worker_address(&self, name: &Name) -> Option<String> {
        let job = Job::of(self.claims.get(name)?)?;
        // Of a clone across namespaces the reader knows.
        let pod = if matches!(job, Job::Receive { .. }) {
            self.sender(name)
        } else {
            self.pod(name)
        };
        let pod = pod.filter(|pod| state::phase(pod) == "Running")?;
        let wanted = self.volumes.contains_key(name) || owner(self.claims.get(name)?).is_some();
        let tells = !matches!(job, Job::Upload | Job::DriverClone { .. });
        let asked = tells && wanted;
        pod.status.as_ref()?.pod_ip.clone().filter(|_| asked)
    }

    /// A worker told how far it is.
    pub(super) fn set_progress(&mut self, name: &Name, told: Told) {
        if let Some(uid) = self
            .claims
            .get(name)
            .and_then(|claim| claim.metadata.uid.clone())
        {
            self.progress.insert(uid, told);
        }
    }

    /// A certificate was made.
    pub(super) fn certified(&mut self, name: &Name, at: Timestamp) {
        if let Some(uid) = self
            .claims
            .get(name)
            .and_then(|claim| claim.metadata.uid.clone())
        {
            self.certified.insert(uid, at);
        }
    }

    /// A pod's deletion was taken.
    pub(super) fn pod_is_leaving(&mut self, namespace: &str, name: &str, now: Timestamp) {
        if let Some(pod) = self.pods.get_mut(&Name::new(namespace, name)) {
            let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
            pod.metadata.deletion_timestamp.get_or_insert(now);
        }
    }

    /// A claim's deletion was taken.
    pub(super) fn claim_is_leaving(&mut self, name: &Name, now: Timestamp) {
        if let Some(claim) = self.claims.get_mut(name) {
            let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
            claim.metadata.deletion_timestamp.get_or_insert(now);
        }
    }

    /// A pod is not there.
    pub(super) fn forget_pod(&mut self, namespace: &str, name: &str) {
        self.pods.remove(&Name::new(namespace, name));
    }

    /// A step failed.
    pub(super) fn fail(&mut self, name: &Name, reason: &str, message: &str, now: Timestamp) {
        let count = self.failing.get(name).map_or(0, |(_, count)| *count) + 1;
        let wait = kube_kit::queue::backoff(count);
        let failure = Failure {
            reason: reason.to_owned(),
            message: message.to_owned(),
            retry_at: now.checked_add(wait).unwrap_or(now),
        };
        self.failing.insert(name.clone(), (failure, count));
    }

    /// A step that may fail did not.
    pub(super) fn succeed(&mut self, name: &Name) {
        self.failing.remove(name);
    }

    /// The claim or snapshot that a DataSource stands for.
    pub(super) fn stands_for(&self, name: &Name) -> Result<DataSourceSource, Refusal> {
        stands_for(&name.namespace, &name.name, |namespace, name| {
            self.find_source(namespace, name)
        })
    }

    /// All claims.
    pub(super) fn claims(&self) -> impl Iterator<Item = (&Name, &PersistentVolumeClaim)> {
        self.claims.iter()
    }

    /// When the certificate for a claim's upload server is to be renewed.
    fn renew_at(&self, uid: &str, pods: [Option<&Pod>; 2]) -> Option<Timestamp> {
        let mut pods = pods.into_iter().flatten();
        let starts = pods.any(|pod| state::phase(pod) == "Pending");
        let after = if starts { UNSEEN } else { VALID / 2 };
        self.certified.get(uid)?.checked_add(after).ok()
    }

    /// Decides on a volume.
    pub(super) fn decide(&self, name: &Name, now: Timestamp) -> Plan<volume::Op> {
        let dv = self.volumes.get(name);
        let claim = self.claims.get(name);
        let source = dv.map_or(Ok(None), |dv| {
            source(dv, |namespace, name| self.find_source(namespace, name))
        });
        let job = claim.and_then(Job::of);
        // What is cloned, whether it is a snapshot, and the claim that is copied.
        let (from, snapshot, original) = match (&job, claim, &source) {
            (Some(job), Some(claim), _) => (
                job.source()
                    .map(|(namespace, name)| Name::new(namespace, name)),
                matches!(job, Job::Receive { snapshot: true, .. }),
                job.original(claim)
                    .map(|(namespace, name)| Name::new(namespace, &name)),
            ),
            (None, None, Ok(Some(source))) => {
                let name = |from: &ClaimSource| Name::new(&from.namespace, &from.name);
                let claim = source.pvc.as_ref().map(name);
                let snapshot = source.snapshot.as_ref().map(name);
                (claim.clone().or(snapshot), claim.is_none(), claim)
            }
            _ => (None, false, None),
        };
        let uid = claim
            .and_then(|claim| claim.metadata.uid.as_deref())
            .unwrap_or_default();
        let pod = self.pod(name);
        // Also one that is not found: whether it is there is not everybody's to know.
        let permit = match &from {
            Some(from) if from.namespace != name.namespace => {
                self.permits.check(dv, claim, name, (from, snapshot))
            }
            _ => Ok(()),
        };
        volume::decide(
            &volume::Observed {
                dv,
                claim,
                pod,
                source,
                senders: self.senders(name),
                permit,
                original: original.and_then(|name| self.claims.get(&name)),
                look: self.looks.get(name),
                population: claim.and_then(|claim| self.population(claim)),
                progress: self.progress.get(uid).and_then(|told| told.percent),
                retrying: self
                    .progress
                    .get(uid)
                    .and_then(|told| told.retrying.as_deref()),
                renew_at: self.renew_at(uid, [pod, self.sender(name)]),
                policy: self.ways.policy(&name.namespace),
                service: claim.is_some_and(|claim| {
                    let service = Job::Upload.pod_name(claim);
                    self.ways.service(&Name::new(&name.namespace, &service))
                }),
                failure: self.failing.get(name).map(|(failure, _)| failure),
                cluster: &self.cluster,
            },
            now,
        )
    }
}

/// Whether `new` is an older state of the same object than `old`.
fn is_older(new: &ObjectMeta, old: &ObjectMeta) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.as_ref()?.parse::<u64>().ok();
    new.uid == old.uid
        && matches!((version(new), version(old)), (Some(new), Some(old)) if new < old)
}
