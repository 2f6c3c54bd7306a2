//! Writes to the API server.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use api::cdi::names::{FIELD_MANAGER, SNAPSHOT_API_VERSION};
use api::cdi::{DataSource, DataVolume, StorageProfile};
use decide::cdi::volume::Op;
use decide::cdi::{datasource, profile};
use decide::plan::{Event, Step};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use kube_kit::apply::{Applier, ApplyError, Id, Target};
use kube_kit::events::{EventType, Recorder};
use kube_kit::queue::WorkQueue;
use kube_kit::{is_conflict, is_not_found};
use serde_json::json;

use super::storage;
use super::world::{Key, Name, World};

/// How long an upload server's certificate is valid.
/// Source: CDI's default for certificates of its servers.
pub(super) const VALID: SignedDuration = SignedDuration::from_hours(24);

/// How a step, or a pass over a key, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is nothing to do.
    Settled,
    /// Something was done: decide again.
    Progress,
    /// It did not work, and the world knows why: decide again.
    Told,
    /// Somebody was faster; the watch will tell.
    Conflict,
    /// It did not work: try again later.
    Failed,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// It was taken, and the world knows.
    Seen,
    /// It was taken, and a watch will tell what follows.
    Unseen,
    /// It had been taken before.
    Nothing,
}

/// Deletes only the object of this uid.
pub(super) fn only(uid: String) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// Why a step could not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{}", kube_kit::reason(.0))]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("expected the authority of upload servers in {path}: {error}")]
    Authority {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error(transparent)]
    Certificate(#[from] kube_kit::certs::CertError),
    #[error("pod {pod} writes to claim {claim}; it is copied when nobody does")]
    InUse { pod: String, claim: String },
    #[error("the claim is gone")]
    NoClaim,
    #[error("the pod that reads the source is gone")]
    NoSender,
    #[error("expected volume {volume} to be the populated claim's, found it with {owner}")]
    Taken { volume: String, owner: String },
}

impl Problem {
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Api(error) => kube_kit::status_code(error),
            Self::Apply(error) => error.status_code(),
            _ => None,
        }
    }

    /// Reason on the object, where the step has `usual`.
    fn reason(&self, usual: &'static str) -> &'static str {
        match self {
            Self::InUse { .. } => "CloneSourceInUse",
            Self::Api(error) if error.to_string().contains("exceeded quota") => "ErrExceededQuota",
            _ => usual,
        }
    }
}

/// Writes to the API server, and keeps what it answers.
pub(super) struct Actor {
    pub(super) client: Client,
    pub(super) world: Rc<RefCell<World>>,
    pub(super) queue: WorkQueue<Key>,
    recorder: Recorder,
    pub(super) certificates: PathBuf,
}

impl Actor {
    pub(super) fn new(
        client: Client,
        world: Rc<RefCell<World>>,
        queue: WorkQueue<Key>,
        certificates: PathBuf,
    ) -> Self {
        let recorder = Recorder::new(client.clone(), "datavolume-controller");
        Self {
            client,
            world,
            queue,
            recorder,
            certificates,
        }
    }

    /// Takes one step for a volume.
    pub(super) async fn volume(&self, name: &Name, step: Step<Op>) -> Outcome {
        // A certificate is made for a pod that may fail as it did before.
        let mends = step.failed.is_some() && step.op != Op::Certify;
        match self.step(name, step.op).await {
            Ok(done) => {
                if mends {
                    self.world.borrow_mut().succeed(name);
                }
                if done != Done::Nothing
                    && let Some(event) = step.done
                {
                    self.publish(name, event);
                }
                match done {
                    Done::Seen => Outcome::Progress,
                    Done::Unseen | Done::Nothing => Outcome::Settled,
                }
            }
            Err(problem) => match (step.failed, problem.status()) {
                (None, Some(404 | 409)) => {
                    tracing::debug!(?name, "somebody was faster: {problem}");
                    Outcome::Conflict
                }
                (None, _) => {
                    tracing::warn!(?name, "a write failed: {problem}");
                    Outcome::Failed
                }
                (Some(usual), _) => {
                    let reason = problem.reason(usual);
                    let message = problem.to_string();
                    tracing::warn!(?name, reason, "{message}");
                    self.world
                        .borrow_mut()
                        .fail(name, reason, &message, Timestamp::now());
                    self.publish(
                        name,
                        Event {
                            warning: true,
                            reason,
                            message,
                        },
                    );
                    Outcome::Told
                }
            },
        }
    }

    async fn step(&self, name: &Name, op: Op) -> Result<Done, Problem> {
        let claims: Api<PersistentVolumeClaim> = self.api(name);
        let params = PatchParams::default();
        match op {
            Op::CreateClaim(claim) => {
                // One that a snapshot is restored into is beside the snapshot.
                let claims: Api<PersistentVolumeClaim> = self.api(&Name::of(&claim.metadata));
                let known = claim.metadata.name.as_deref().unwrap_or(&name.name);
                let made = match claims.create(&PostParams::default(), &claim).await {
                    // Made before, and not yet seen; or a stranger's, which the decision tells.
                    Err(error) if is_conflict(&error) => claims.get(known).await?,
                    made => made?,
                };
                self.keep(made);
            }
            Op::CreateClone { claim, unused } => {
                self.unused(name, unused).await?;
                return Box::pin(self.step(name, Op::CreateClaim(claim))).await;
            }
            Op::CreateSnapshot { object, unused } => {
                self.unused(name, unused).await?;
                self.create_snapshot(name, &object).await?;
            }
            Op::PatchVolume(patch) => {
                let volumes: Api<DataVolume> = self.api(name);
                self.keep(
                    volumes
                        .patch(&name.name, &params, &Patch::Merge(&patch))
                        .await?,
                );
            }
            Op::PatchClaim(patch) => {
                self.keep(
                    claims
                        .patch(&name.name, &params, &Patch::Merge(&patch))
                        .await?,
                );
            }
            Op::PatchStatus(patch) => {
                let volumes: Api<DataVolume> = self.api(name);
                let patch = Patch::Merge(&patch);
                self.keep(volumes.patch_status(&name.name, &params, &patch).await?);
            }
            Op::Certify => self.certify(name).await?,
            Op::Apply(object) => {
                self.applier(FIELD_MANAGER)
                    .apply_over(&object, None)
                    .await?;
                self.world.borrow_mut().ways.tried(&object);
            }
            Op::TryApply(object) => {
                // Each claim is an owner of its own, by a manager of its own.
                let uid = &object["metadata"]["ownerReferences"][0]["uid"];
                let manager = format!("{FIELD_MANAGER}-{}", uid.as_str().unwrap_or_default());
                if let Err(error) = self.applier(&manager).apply_over(&object, None).await {
                    tracing::warn!(?name, "going on without it: {error}");
                }
                self.world.borrow_mut().ways.tried(&object);
            }
            Op::CreatePod { pod, unused } => {
                // A clone's source may be in another namespace, and is read there.
                let place = pod["metadata"]["namespace"].as_str();
                let place = Name::new(place.unwrap_or(&name.namespace), &name.name);
                if let Some(claim) = unused {
                    self.unused(&place, claim).await?;
                }
                let pods: Api<Pod> = self.api(&place);
                let pod: Pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
                let made = match pods.create(&PostParams::default(), &pod).await {
                    Err(error) if is_conflict(&error) => {
                        let known = pod.metadata.name.as_deref().unwrap_or_default();
                        let there = pods.get(known).await?;
                        let same = there.metadata.labels == pod.metadata.labels
                            && there.metadata.deletion_timestamp.is_none();
                        if !same {
                            return Err(error.into());
                        }
                        there
                    }
                    made => made?,
                };
                self.keep(made);
            }
            Op::DeletePod {
                namespace,
                name: pod,
                uid,
            } => {
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
                let answer = pods.delete(&pod, &only(uid)).await;
                let mut world = self.world.borrow_mut();
                match answer {
                    Ok(_) => world.pod_is_leaving(&namespace, &pod, Timestamp::now()),
                    Err(error) if is_not_found(&error) => world.forget_pod(&namespace, &pod),
                    Err(error) => return Err(error.into()),
                }
            }
            Op::Rebind { volume, from, to } => {
                return self.rebind(name, &volume, &from, &to).await;
            }
            Op::DeleteClaim { name: claim, uid } => {
                match claims.delete(&claim, &only(uid)).await {
                    Ok(_) => {}
                    Err(error) if is_not_found(&error) => {}
                    Err(error) => return Err(error.into()),
                }
                let leaving = Name {
                    namespace: name.namespace.clone(),
                    name: claim,
                };
                let mut world = self.world.borrow_mut();
                world.claim_is_leaving(&leaving, Timestamp::now());
            }
            Op::Delete { kind, name: object } => {
                let version = match kind {
                    "VolumeSnapshot" => SNAPSHOT_API_VERSION,
                    "NetworkPolicy" => "networking.k8s.io/v1",
                    _ => "v1",
                };
                let id = Id {
                    target: Target::namespaced(version, kind, &name.namespace),
                    name: object,
                };
                self.applier(FIELD_MANAGER).delete(&id).await?;
            }
        }
        Ok(Done::Seen)
    }

    /// Gives a volume of claim `from` to claim `to`, which is the one of `name`.
    async fn rebind(
        &self,
        name: &Name,
        volume: &str,
        from: &str,
        to: &str,
    ) -> Result<Done, Problem> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let found = volumes.get(volume).await?;
        let spec = found.spec.unwrap_or_default();
        let owner = spec.claim_ref.and_then(|claim| claim.uid);
        if owner.as_deref() == Some(to) {
            return Ok(Done::Nothing);
        }
        if owner.as_deref() != Some(from) {
            return Err(Problem::Taken {
                volume: volume.to_owned(),
                owner: owner.unwrap_or_else(|| "nobody".to_owned()),
            });
        }
        // By its version: nobody else's volume is ever given away.
        let patch = json!({
            "metadata": { "resourceVersion": found.metadata.resource_version },
            "spec": { "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": name.namespace, "name": name.name, "uid": to,
                "resourceVersion": null,
            } },
        });
        let params = PatchParams::default();
        volumes
            .patch_metadata(volume, &params, &Patch::Merge(&patch))
            .await?;
        Ok(Done::Unseen)
    }

    /// Fails while a pod writes to the claim, which would tear a copy.
    async fn unused(&self, name: &Name, claim: String) -> Result<(), Problem> {
        let pods: Api<Pod> = self.api(name);
        let list = pods
            .list(&ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed"))
            .await?;
        for pod in list.items {
            let volumes = pod
                .spec
                .into_iter()
                .flat_map(|spec| spec.volumes.unwrap_or_default());
            let writes = volumes
                .filter_map(|volume| volume.persistent_volume_claim)
                .any(|volume| volume.claim_name == claim && volume.read_only != Some(true));
            if writes {
                return Err(Problem::InUse {
                    pod: pod.metadata.name.unwrap_or_default(),
                    claim,
                });
            }
        }
        Ok(())
    }

    /// Keeps the profile of a storage class.
    pub(super) async fn class(&self, name: &str) -> Outcome {
        match storage::classes(&self.client).await {
            Ok(classes) => {
                let keys = self.world.borrow_mut().set_snapshot_classes(classes);
                for key in keys
                    .into_iter()
                    .filter(|key| *key != Key::Class(name.to_owned()))
                {
                    self.queue.add(key);
                }
            }
            Err(error) => tracing::warn!("cannot list classes of snapshots: {error}"),
        }
        let (object, wanted, known) = {
            let world = self.world.borrow();
            let Some(class) = world.cluster.classes.get(name) else {
                return Outcome::Settled;
            };
            let known = world.cluster.profiles.get(name).cloned();
            (
                profile::object(class),
                profile::status(class, &world.cluster),
                known,
            )
        };
        let Some(known) = known else {
            return match self.applier(FIELD_MANAGER).apply_over(&object, None).await {
                Ok((_, applied)) => {
                    if let Ok(profile) = serde_json::from_value::<StorageProfile>(applied) {
                        self.world.borrow_mut().set_profile(profile, true);
                    }
                    Outcome::Progress
                }
                Err(error) => {
                    tracing::warn!("cannot make a storage profile: {error}");
                    Outcome::Failed
                }
            };
        };
        let old = known.status.unwrap_or_default();
        let mut new = wanted;
        new.conditions = datasource::dated(&old.conditions, new.conditions, Timestamp::now());
        if new == old {
            return Outcome::Settled;
        }
        let profiles: Api<StorageProfile> = Api::all(self.client.clone());
        let patch = json!({ "status": new });
        let params = PatchParams::default();
        match profiles
            .patch_status(name, &params, &Patch::Merge(&patch))
            .await
        {
            Ok(profile) => {
                self.world.borrow_mut().set_profile(profile, true);
                Outcome::Settled
            }
            Err(error) => failed("the status of a storage profile", &error),
        }
    }

    /// Keeps the status of a DataSource.
    pub(super) async fn source(&self, name: &Name) -> Outcome {
        let stands = self.world.borrow().stands_for(name);
        let from = stands.as_ref().ok().and_then(|to| to.snapshot.as_ref());
        let ready = match from {
            None => None,
            Some(from) => {
                let from = Name::new(&from.namespace, &from.name);
                match storage::snapshot(&self.client, &from, None).await {
                    Ok(found) => found.map(|found| found.ready),
                    Err(error) => return failed("the status of a DataSource", &error),
                }
            }
        };
        // Snapshots are not watched: one that is not ready is looked at again.
        let settled = if from.is_some() && ready != Some(true) {
            Outcome::Failed
        } else {
            Outcome::Settled
        };
        let (old, mut new) = {
            let world = self.world.borrow();
            let Some(source) = world.source(name) else {
                return Outcome::Settled;
            };
            let claim = stands.as_ref().ok().and_then(|to| to.pvc.as_ref());
            let found =
                claim.and_then(|claim| world.claim(&Name::new(&claim.namespace, &claim.name)));
            let new = datasource::data_source(stands.as_ref(), found, ready);
            (source.status.clone().unwrap_or_default(), new)
        };
        new.conditions = datasource::dated(&old.conditions, new.conditions, Timestamp::now());
        if new == old {
            return settled;
        }
        let sources: Api<DataSource> = self.api(name);
        let patch = json!({ "status": new });
        let params = PatchParams::default();
        match sources
            .patch_status(&name.name, &params, &Patch::Merge(&patch))
            .await
        {
            Ok(source) => {
                self.keep(source);
                settled
            }
            Err(error) => failed("the status of a DataSource", &error),
        }
    }

    pub(super) fn keep<K: super::world::Kept>(&self, object: K) {
        let keys = self.world.borrow_mut().put(object);
        for key in keys {
            self.queue.add(key);
        }
    }

    pub(super) fn api<K>(&self, name: &Name) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &name.namespace)
    }

    pub(super) fn applier(&self, manager: &str) -> Applier {
        Applier::new(self.client.clone(), manager)
    }

    /// Events are written beside the work, which never waits for them. They are the
    /// DataVolume's, or the claim's where there is none.
    fn publish(&self, name: &Name, event: Event) {
        let world = self.world.borrow();
        let (api_version, kind, meta) = match (world.volume(name), world.claim(name)) {
            (Some(dv), _) => (api::cdi::names::API_VERSION, "DataVolume", &dv.metadata),
            (None, Some(claim)) => ("v1", "PersistentVolumeClaim", &claim.metadata),
            (None, None) => return,
        };
        let object = ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        };
        self.write_event(object, event);
    }

    pub(super) fn write_event(&self, object: ObjectReference, event: Event) {
        let type_ = EventType::of(event.warning);
        self.recorder
            .publish_beside(object, vec![(type_, event.reason, event.message)]);
    }
}

fn failed(what: &str, error: &kube::Error) -> Outcome {
    if is_not_found(error) || is_conflict(error) {
        return Outcome::Conflict;
    }
    tracing::warn!("cannot write {what}: {}", kube_kit::reason(error));
    Outcome::Failed
}
