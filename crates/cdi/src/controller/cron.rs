//! DataImportCrons: what of the cluster they depend on, and the writes for them.

use std::collections::HashMap;

use api::cdi::names::{
    API_VERSION, CRON_UID_LABEL, DATA_IMPORT_CRON_LABEL, FIELD_MANAGER, annotations,
};
use api::cdi::{DataImportCron, DataSource, DataVolume};
use decide::cdi::cron::{self, Import, Look, Op, objects};
use decide::plan::{Event as Told, Plan};
use futures::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kube_kit::watch::{Event, Selector, watch};
use kube_kit::{is_conflict, is_not_found};
use serde_json::Value;

use super::act::{Actor, Outcome, Problem, only};
use super::world::{Kept, Key, Name, World};

/// A CronJob of a DataImportCron: only what is asked of it.
pub(super) struct Schedule(ObjectMeta);

/// A pod that looks at a source: only what is asked of it.
pub(super) struct Looking {
    meta: ObjectMeta,
    look: Option<Look>,
}

/// Crons, and what they alone need, by name.
#[derive(Default)]
pub(super) struct Crons {
    crons: HashMap<Name, DataImportCron>,
    schedules: HashMap<Name, Schedule>,
    looking: HashMap<Name, Looking>,
}

impl Crons {
    /// Keys of all crons.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.crons.keys().cloned().map(Key::Cron)
    }

    /// Keys of the crons that manage a DataSource.
    pub(super) fn managing(&self, namespace: &str, source: &str) -> Vec<Key> {
        let all = self.crons.iter().filter(|(name, cron)| {
            name.namespace == namespace && cron.spec.managed_data_source == source
        });
        all.map(|(name, _)| Key::Cron(name.clone())).collect()
    }
}

/// Key of the cron that an object's label names.
pub(super) fn labelled(meta: &ObjectMeta) -> Option<Key> {
    let cron = label(meta)?;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    Some(Key::Cron(Name::new(namespace, cron)))
}

fn label(meta: &ObjectMeta) -> Option<&str> {
    let labels = meta.labels.as_ref()?;
    labels.get(DATA_IMPORT_CRON_LABEL).map(String::as_str)
}

/// What is kept of an object's metadata.
fn identity(meta: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        labels: meta.labels,
        owner_references: meta.owner_references,
        annotations: meta.annotations.map(|mut notes| {
            notes.retain(|name, _| name == annotations::RENDERED);
            notes
        }),
        ..ObjectMeta::default()
    }
}

impl From<CronJob> for Schedule {
    fn from(job: CronJob) -> Self {
        Self(identity(job.metadata))
    }
}

impl From<Pod> for Looking {
    fn from(pod: Pod) -> Self {
        let look = Look::read(&pod);
        Self {
            look,
            meta: identity(pod.metadata),
        }
    }
}

/// Watches CronJobs of DataImportCrons.
pub(super) fn schedules(client: Client) -> BoxStream<'static, Event<Schedule>> {
    let own = Selector::all().labels(DATA_IMPORT_CRON_LABEL);
    watch::<CronJob>(client, &own).map(slim).boxed()
}

/// Watches pods that look at sources.
pub(super) fn looking(client: Client) -> BoxStream<'static, Event<Looking>> {
    let own = Selector::all().labels(CRON_UID_LABEL);
    watch::<Pod>(client, &own).map(slim).boxed()
}

fn slim<K, S: From<K>>(event: Event<K>) -> Event<S> {
    match event {
        Event::Restarted(all) => Event::Restarted(all.into_iter().map(S::from).collect()),
        Event::Applied(object) => Event::Applied(object.into()),
        Event::Deleted(object) => Event::Deleted(object.into()),
    }
}

impl Kept for DataImportCron {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn all(world: &mut World) -> &mut HashMap<Name, Self> {
        &mut world.crons.crons
    }

    fn keys(world: &World, cron: &Self, name: &Name) -> Vec<Key> {
        let managed = &cron.spec.managed_data_source;
        let mut keys = world.crons.managing(&name.namespace, managed);
        keys.push(Key::Cron(name.clone()));
        keys
    }
}

impl Kept for Schedule {
    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    fn all(world: &mut World) -> &mut HashMap<Name, Self> {
        &mut world.crons.schedules
    }

    fn keys(_: &World, schedule: &Self, _: &Name) -> Vec<Key> {
        labelled(&schedule.0).into_iter().collect()
    }
}

impl Kept for Looking {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn all(world: &mut World) -> &mut HashMap<Name, Self> {
        &mut world.crons.looking
    }

    fn keys(_: &World, looking: &Self, _: &Name) -> Vec<Key> {
        labelled(&looking.meta).into_iter().collect()
    }
}

impl World {
    /// Decides on a cron.
    fn decide_cron(&self, name: &Name, now: Timestamp) -> Plan<Op> {
        let Some(cron) = self.crons.crons.get(name) else {
            return Plan::default();
        };
        let uid = cron.metadata.uid.as_deref();
        let beside = |other: &str| Name::new(&name.namespace, other);
        let managed = &cron.spec.managed_data_source;
        let source = self.source(&beside(managed));
        let rival = source
            .and_then(|source| label(&source.metadata))
            .filter(|other| *other != name.name)
            .and_then(|other| self.crons.crons.get(&beside(other)))
            .is_some_and(|other| other.spec.managed_data_source == *managed);
        let schedule = self
            .crons
            .schedules
            .get(&beside(&objects::cron_job_name(cron)))
            .filter(|schedule| {
                let mut owners = schedule.0.owner_references.iter().flatten();
                owners.any(|owner| Some(owner.uid.as_str()) == uid)
            });
        let job = schedule.map(|schedule| {
            let notes = schedule.0.annotations.as_ref();
            let rendered = notes.and_then(|notes| notes.get(annotations::RENDERED));
            rendered.map(String::as_str).unwrap_or_default()
        });
        let look = self
            .crons
            .looking
            .iter()
            .filter(|(pod, looking)| {
                let labels = looking.meta.labels.as_ref();
                pod.namespace == name.namespace
                    && labels
                        .and_then(|labels| labels.get(CRON_UID_LABEL))
                        .map(String::as_str)
                        == uid
            })
            .filter_map(|(_, looking)| looking.look.as_ref())
            .max_by_key(|look| look.ended);
        let find = |import: &str| {
            let import = beside(import);
            Import {
                volume: self.volume(&import),
                claim: self.claim(&import),
            }
        };
        let imports = self
            .volumes
            .iter()
            .filter(|(volume, dv)| {
                volume.namespace == name.namespace
                    && label(&dv.metadata) == Some(name.name.as_str())
            })
            .map(|(volume, _)| find(&volume.name))
            .collect();
        cron::decide(
            &cron::Observed {
                cron,
                source,
                rival,
                job,
                look,
                imports,
                find: &find,
                cluster: &self.cluster,
            },
            now,
        )
    }
}

impl Actor {
    /// Decides on a cron and acts, once.
    pub(super) async fn cron(&self, name: &Name) -> Outcome {
        let plan = self.world.borrow().decide_cron(name, Timestamp::now());
        let mut outcome = Outcome::Settled;
        for step in plan.steps {
            match self.cron_step(name, step.op).await {
                Ok(seen) => {
                    if seen {
                        outcome = Outcome::Progress;
                    }
                    if let Some(event) = step.done {
                        self.tell_cron(name, event);
                    }
                }
                Err(problem) => {
                    tracing::warn!(?name, "a step of a DataImportCron failed: {problem}");
                    if matches!(problem.status(), Some(404 | 409)) {
                        return Outcome::Conflict;
                    }
                    if let Some(reason) = step.failed {
                        let event = Told {
                            warning: true,
                            reason,
                            message: problem.to_string(),
                        };
                        self.tell_cron(name, event);
                    }
                    return Outcome::Failed;
                }
            }
        }
        outcome
    }

    /// Takes a step; whether the world knows what came of it.
    async fn cron_step(&self, name: &Name, op: Op) -> Result<bool, Problem> {
        let crons: Api<DataImportCron> = self.api(name);
        let params = PatchParams::default();
        match op {
            Op::Create(object) => match object["kind"].as_str() {
                Some("Job") => {
                    let jobs: Api<Job> = self.api(name);
                    match jobs.create(&PostParams::default(), &read(object)?).await {
                        Err(error) if !is_conflict(&error) => return Err(error.into()),
                        _ => {}
                    }
                }
                Some("DataVolume") => {
                    let volumes: Api<DataVolume> = self.api(name);
                    let object = read(object)?;
                    self.keep(volumes.create(&PostParams::default(), &object).await?);
                }
                _ => {
                    let sources: Api<DataSource> = self.api(name);
                    let object = read(object)?;
                    self.keep(sources.create(&PostParams::default(), &object).await?);
                }
            },
            Op::Apply(object) => {
                let applier = self.applier(FIELD_MANAGER);
                let (_, applied) = applier.apply_over(&object, None).await?;
                if object["kind"] == "CronJob" {
                    let job: CronJob = read(applied)?;
                    self.keep(Schedule::from(job));
                } else {
                    self.keep(read::<DataSource>(applied)?);
                }
            }
            Op::Patch(patch) => {
                let patch = Patch::Merge(&patch);
                self.keep(crons.patch(&name.name, &params, &patch).await?);
            }
            Op::PatchStatus(patch) => {
                let patch = Patch::Merge(&patch);
                self.keep(crons.patch_status(&name.name, &params, &patch).await?);
            }
            Op::PatchClaim { name: claim, patch } => {
                let claims: Api<PersistentVolumeClaim> = self.api(name);
                self.keep(claims.patch(&claim, &params, &Patch::Merge(&patch)).await?);
            }
            Op::DeleteVolume { name: volume, uid } => {
                let volumes: Api<DataVolume> = self.api(name);
                match volumes.delete(&volume, &only(uid)).await {
                    Err(error) if !is_not_found(&error) => return Err(error.into()),
                    // The watch tells when it is gone.
                    _ => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    fn tell_cron(&self, name: &Name, event: Told) {
        let world = self.world.borrow();
        let Some(cron) = world.crons.crons.get(name) else {
            return;
        };
        let object = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some("DataImportCron".to_owned()),
            namespace: cron.metadata.namespace.clone(),
            name: cron.metadata.name.clone(),
            uid: cron.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.write_event(object, event);
    }
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> Result<K, kube::Error> {
    serde_json::from_value(object).map_err(kube::Error::SerdeError)
}
