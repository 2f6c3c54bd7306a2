//! What a DataVolume, its claim and its worker need next.
//!
//! ```text
//!   no claim ──► claim ──► (upload: certificate, service) ──► pod ──► done: all but the claim goes
//!                  │                                           │
//!                  └──────────── annotations ◄─────────────────┘
//! ```
//! A claim without a DataVolume goes the same way from the second step on.

mod make;
#[cfg(test)]
mod tests;

use api::cdi::names::annotations as note;
use api::cdi::{DataVolume, DataVolumeSource};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::across;
use super::claim::{self, Refusal};
use super::cluster::{Cluster, HONOR_GATE};
use super::populator::{self, Standing};
use super::smart::{self, Look};
use super::state;
use super::status::{Cause, Seen, status};
use super::worker::{self, Job, note as of};
use crate::plan::{Event, Failure, Plan, Step};
use make::make_claim;
pub(super) use make::{create, follow, look_again};

/// Between two looks at a worker's progress.
const PROGRESS_EVERY: SignedDuration = SignedDuration::from_secs(2);
/// First wait before a pod that failed as a whole (evicted, lost) is replaced; it doubles.
const REPLACE_AFTER: i64 = 10;
/// How often that wait doubles at most.
const DOUBLINGS: u32 = 5;

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Make the claim.
    CreateClaim(Box<PersistentVolumeClaim>),
    /// Make the claim, if no pod writes to the claim `unused`.
    CreateClone {
        /// The claim.
        claim: Box<PersistentVolumeClaim>,
        /// A claim of the namespace.
        unused: String,
    },
    /// Take a snapshot, if no pod writes to the claim `unused`.
    CreateSnapshot {
        /// The snapshot.
        object: Value,
        /// A claim of the namespace.
        unused: String,
    },
    /// Merge patch of the DataVolume's metadata.
    PatchVolume(Value),
    /// Merge patch of the claim.
    PatchClaim(Value),
    /// Make a certificate for the claim's upload server and apply its Secret.
    Certify,
    /// Apply an object.
    Apply(Value),
    /// Apply an object that the work can do without.
    TryApply(Value),
    /// Make a worker pod in its namespace, if no pod writes to the claim `unused`.
    CreatePod {
        /// The pod.
        pod: Value,
        /// A claim of the pod's namespace.
        unused: Option<String>,
    },
    /// Delete a pod.
    DeletePod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Delete an object of the claim's namespace.
    Delete {
        /// `Service`, `Secret`, `NetworkPolicy`, or what a clone needs no more: `VolumeSnapshot` or
        /// `PersistentVolumeClaim`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Merge patch of the DataVolume's status.
    PatchStatus(Value),
    /// Give a volume that is one claim's to another, unless it is that one's already.
    Rebind {
        /// Name of the volume.
        volume: String,
        /// Uid of the claim that has it.
        from: String,
        /// Uid of the claim that gets it: the one that was decided on.
        to: String,
    },
    /// Delete a claim.
    DeleteClaim {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
}

/// What is known of one name in one namespace.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The DataVolume of the name.
    pub dv: Option<&'a DataVolume>,
    /// The claim of the name.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The claim's worker pod.
    pub pod: Option<&'a Pod>,
    /// Where the DataVolume's data comes from; see [`claim::source`].
    pub source: Result<Option<DataVolumeSource>, Refusal>,
    /// Pods of other namespaces that read for a clone of this name.
    pub senders: Vec<&'a Pod>,
    /// Whether a source of another namespace may be read, and why not.
    pub permit: Result<(), String>,
    /// The claim that is to be copied.
    pub original: Option<&'a PersistentVolumeClaim>,
    /// What is known of the storage behind a clone.
    pub look: Option<&'a Look>,
    /// How the claim is populated, if it refers to a source of ours.
    pub population: Option<populator::View<'a>>,
    /// Percent that the worker told.
    pub progress: Option<f64>,
    /// Why the worker stands still for now, as it told.
    pub retrying: Option<&'a str>,
    /// When the upload server's certificate is to be renewed; `None` when we made none.
    pub renew_at: Option<Timestamp>,
    /// The namespace has the policy that lets the upload proxy in.
    pub policy: bool,
    /// The upload server's service is there.
    pub service: bool,
    /// The last step that failed.
    pub failure: Option<&'a Failure>,
    /// The rest of the world.
    pub cluster: &'a Cluster,
}

/// Decides what to do next.
#[must_use]
pub fn decide(seen: &Observed<'_>, now: Timestamp) -> Plan<Op> {
    let mut plan = Plan::default();
    let held = seen.failure.filter(|failure| failure.holds(now));
    if let Some(failure) = held {
        plan.look_again(now, failure.retry_at);
    }
    let mut story = Story {
        cause: seen.failure.map(|failure| Cause {
            reason: failure.reason.clone(),
            message: failure.message.clone(),
        }),
        ..Story::default()
    };
    let leaving = seen
        .dv
        .is_some_and(|dv| dv.metadata.deletion_timestamp.is_some());
    match (seen.dv, seen.claim) {
        (Some(dv), None) if !leaving => {
            make_claim(seen, dv, held.is_some(), now, &mut story, &mut plan);
        }
        (dv, Some(claim)) => {
            if let Some(dv) = dv.filter(|_| !leaving) {
                belong(dv, claim, &mut story, &mut plan);
            }
            if let Some(view) = &seen.population {
                populate(
                    seen,
                    view,
                    claim,
                    held.is_some(),
                    now,
                    &mut story,
                    &mut plan,
                );
            } else if !story.foreign {
                fill(seen, claim, held.is_some(), now, &mut story, &mut plan);
            }
        }
        _ => {}
    }
    across::tidy(seen, &mut plan);
    if let Some(dv) = seen.dv.filter(|_| plan.steps.is_empty() && !leaving) {
        tell(seen, dv, story, now, &mut plan);
    }
    plan
}

/// What is found on the way, for the status.
#[derive(Default)]
pub(super) struct Story {
    cause: Option<Cause>,
    event: Option<Event>,
    adopted: bool,
    foreign: bool,
    waits: bool,
    stage: Option<(&'static str, Event)>,
}

impl Story {
    pub(super) fn refuse(&mut self, reason: &'static str, message: String) {
        self.cause = Some(Cause {
            reason: reason.to_owned(),
            message: message.clone(),
        });
        self.event = Some(Event {
            warning: true,
            reason,
            message,
        });
    }

    pub(super) fn wait_for(&mut self, reason: &str, message: String) {
        self.cause = Some(Cause {
            reason: reason.to_owned(),
            message,
        });
    }
}

/// Whose claim it is.
fn belong(dv: &DataVolume, claim: &PersistentVolumeClaim, story: &mut Story, plan: &mut Plan<Op>) {
    let owners = claim.metadata.owner_references.clone().unwrap_or_default();
    let uid = dv.metadata.uid.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| owner.uid == uid) {
        story.adopted = Job::of(claim).is_none();
        return;
    }
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let yes = |meta: &ObjectMeta| {
        let annotations = meta.annotations.as_ref();
        annotations
            .and_then(|all| all.get(note::ALLOW_ADOPTION))
            .map(String::as_str)
            == Some("true")
    };
    let controlled = owners.iter().any(|owner| owner.controller == Some(true));
    if of(claim, note::POPULATED_FOR) == dv.metadata.name.as_deref() {
        story.adopted = true;
    } else if (yes(&dv.metadata) || yes(&claim.metadata)) && !controlled {
        story.adopted = true;
        let mut owners: Vec<Value> = owners.iter().map(|owner| json!(owner)).collect();
        owners.push(json!(claim::owner(dv)));
        plan.push(Op::PatchClaim(json!({ "metadata": {
            "resourceVersion": claim.metadata.resource_version,
            "ownerReferences": owners,
        } })));
    } else {
        story.foreign = true;
        story.refuse(
            "ErrResourceExists",
            format!("Resource \"{name}\" already exists and is not managed by DataVolume"),
        );
    }
}

/// Brings the data into a claim that refers to a source of ours.
fn populate(
    seen: &Observed<'_>,
    view: &populator::View<'_>,
    claim: &PersistentVolumeClaim,
    held: bool,
    now: Timestamp,
    story: &mut Story,
    plan: &mut Plan<Op>,
) {
    let standing = populator::decide(view, claim, seen.cluster, held, now, plan);
    story.adopted = standing == Standing::Done;
    story.waits = standing == Standing::Waits;
    // The claim has its own event already.
    if let Standing::Stuck(reason, message) = standing
        && !story.foreign
    {
        story.wait_for(reason, message);
    }
}

/// Brings the data into the claim.
fn fill(
    seen: &Observed<'_>,
    claim: &PersistentVolumeClaim,
    held: bool,
    now: Timestamp,
    story: &mut Story,
    plan: &mut Plan<Op>,
) {
    let Some(job) = Job::of(claim) else {
        return;
    };
    if claim.metadata.deletion_timestamp.is_some() {
        // The claim cannot go while a pod uses it.
        if let Some(pod) = seen
            .pod
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        {
            plan.push(delete(pod));
        }
        return;
    }
    if let Some(message) = job.refusal() {
        story.refuse("CloneValidationFailed", message);
        return;
    }
    if let Some((kind, name)) = smart::leftover(claim) {
        plan.push(Op::Delete { kind, name });
        plan.push(Op::PatchClaim(json!({ "metadata": { "annotations": {
            (note::TEMPORARY_SOURCE): null,
        } } })));
        return;
    }
    match seen.pod {
        Some(pod) => attend(seen, claim, pod, &job, (held, now), story, plan),
        None => {
            let over = of(claim, note::POD_PHASE) == Some("Succeeded")
                || of(claim, note::FATAL_ERROR) == Some("true");
            story.waits = !over && waits(claim, seen.cluster);
            if !over && !story.waits && !held {
                begin(seen, claim, &job, now, story, plan);
            }
        }
    }
}

/// Whether the claim's first consumer is to be waited for.
fn waits(claim: &PersistentVolumeClaim, cluster: &Cluster) -> bool {
    let class = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_deref());
    let pending = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .is_none_or(|phase| phase == "Pending");
    cluster.gate(HONOR_GATE)
        && pending
        && cluster.class(class, true).is_some_and(|class| class.waits)
        && of(claim, note::SELECTED_NODE).is_none()
        && of(claim, note::IMMEDIATE_BINDING).is_none()
}

/// Starts the worker.
fn begin(
    seen: &Observed<'_>,
    claim: &PersistentVolumeClaim,
    job: &Job,
    now: Timestamp,
    story: &mut Story,
    plan: &mut Plan<Op>,
) {
    let mut unused = None;
    if matches!(job, Job::DriverClone { .. }) && !prepares(claim, seen.cluster, plan) {
        return;
    }
    if let Job::Clone { name, .. } = job {
        // One that is restored for this copy alone may wait for the copying pod.
        if !original(seen, name, smart::copies_temporary(claim), story) {
            return;
        }
        unused = Some(name.clone());
    }
    if let Some(from) = across::Source::of(job)
        && !across::begin(seen, claim, from, now, story, plan)
    {
        return;
    }
    if *job == Job::Upload {
        plan.push(Op::TryApply(worker::policy(claim, &seen.cluster.namespace)));
        plan.steps.push(Step {
            op: Op::Certify,
            done: None,
            failed: Some("ErrStartingPod"),
        });
        plan.push(Op::Apply(worker::service(claim)));
    }
    plan.steps.push(Step {
        op: Op::CreatePod {
            pod: worker::pod(job, claim, seen.original, seen.cluster),
            unused,
        },
        done: None,
        failed: Some("ErrStartingPod"),
    });
}

/// Whether the original is there and has its data, or `lazy`: will have it when it is used.
pub(super) fn original(seen: &Observed<'_>, name: &str, lazy: bool, story: &mut Story) -> bool {
    let (reason, message) = match seen.original {
        None => (
            "CloneWithoutSource",
            format!("The source pvc {name} doesn't exist"),
        ),
        Some(original) if !smart::is_full(original) && !lazy => (
            "ImportPVCNotReady",
            "The source PVC is not fully imported".to_owned(),
        ),
        Some(_) => return true,
    };
    story.wait_for(reason, message);
    false
}

/// Whether a claim that its driver fills needs a pod: the first consumer of a volume that is
/// made for one, or one that lets the image grow. One that needs none is done when it is bound.
fn prepares(claim: &PersistentVolumeClaim, cluster: &Cluster, plan: &mut Plan<Op>) -> bool {
    let spec = claim.spec.as_ref();
    let status = claim.status.as_ref();
    let bound = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    if !bound {
        let class = spec.and_then(|spec| spec.storage_class_name.as_deref());
        return cluster.class(class, true).is_some_and(|class| class.waits);
    }
    if of(claim, note::GROWS) == Some("true") {
        return true;
    }
    plan.push(Op::PatchClaim(json!({ "metadata": { "annotations": {
        (note::POD_PHASE): "Succeeded",
        (note::RUNNING): "false",
        (note::RUNNING_REASON): "Completed",
        (note::RUNNING_MESSAGE): "Clone Complete",
    } } })));
    false
}

/// Tells what the worker does, and tidies up behind it.
fn attend(
    seen: &Observed<'_>,
    claim: &PersistentVolumeClaim,
    pod: &Pod,
    job: &Job,
    (held, now): (bool, Timestamp),
    story: &mut Story,
    plan: &mut Plan<Op>,
) {
    let over = of(claim, note::POD_PHASE) == Some("Succeeded")
        || of(claim, note::FATAL_ERROR) == Some("true");
    let patch = if over {
        Map::new()
    } else {
        changes(claim, pod, job, seen.retrying)
    };
    if !patch.is_empty() {
        plan.push(Op::PatchClaim(
            json!({ "metadata": { "annotations": patch } }),
        ));
        return;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return;
    }
    let phase = state::phase(pod);
    if over || phase == "Succeeded" {
        if of(claim, note::POD_RETAIN) != Some("true") {
            if job.serves() {
                let name = job.pod_name(claim);
                let mut around = vec![("Service", name.clone()), ("Secret", name)];
                if *job != Job::Upload {
                    around.push(("NetworkPolicy", across::policy_name(claim)));
                }
                for (kind, name) in around {
                    plan.push(Op::Delete { kind, name });
                }
            }
            plan.push(delete(pod));
        }
        return;
    }
    if phase == "Failed" {
        let restarts: u32 = of(claim, note::POD_RESTARTS)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let wait = SignedDuration::from_secs(REPLACE_AFTER << restarts.min(DOUBLINGS));
        let began = pod
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(now, |at| at.0);
        let then = began.checked_add(wait).unwrap_or(now);
        if now < then {
            plan.look_again(now, then);
        } else {
            plan.push(delete(pod));
            plan.push(Op::PatchClaim(json!({ "metadata": { "annotations": {
                (note::POD_RESTARTS): (restarts + 1).to_string(),
            } } })));
        }
        return;
    }
    if let Some(from) = across::Source::of(job)
        && !across::attend(seen, claim, from, (held, now), story, plan)
    {
        return;
    }
    if job.serves() {
        if *job == Job::Upload && !seen.policy {
            plan.push(Op::TryApply(worker::policy(claim, &seen.cluster.namespace)));
        }
        if !seen.service {
            plan.push(Op::Apply(worker::service(claim)));
        }
        match seen.renew_at {
            Some(at) if now < at => plan.look_again(now, at),
            _ => plan.push(Op::Certify),
        }
    }
    if *job != Job::Upload && of(claim, note::RUNNING) == Some("true") {
        plan.look_again(now, now.checked_add(PROGRESS_EVERY).unwrap_or(now));
    }
}

/// Annotations of the claim that differ from what the pod does.
fn changes(
    claim: &PersistentVolumeClaim,
    pod: &Pod,
    job: &Job,
    retrying: Option<&str>,
) -> Map<String, Value> {
    state::annotations(claim, pod, job, retrying)
        .into_iter()
        .filter(|(name, value)| of(claim, name) != Some(value))
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect()
}

pub(super) fn delete(pod: &Pod) -> Op {
    Op::DeletePod {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    }
}

/// How the claim is cloned, and why not faster.
fn how(claim: &PersistentVolumeClaim) -> impl Iterator<Item = (&'static str, &str)> {
    [note::CLONE_TYPE, note::CLONE_FALLBACK]
        .into_iter()
        .filter_map(|name| Some((name, of(claim, name)?)))
}

/// Writes the status, if it changed.
fn tell(seen: &Observed<'_>, dv: &DataVolume, story: Story, now: Timestamp, plan: &mut Plan<Op>) {
    let told = seen.claim.filter(|_| !story.foreign).map(how);
    let known = |name: &str| dv.metadata.annotations.as_ref()?.get(name);
    let news: Map<String, Value> = told
        .into_iter()
        .flatten()
        .filter(|(name, value)| known(name).map(String::as_str) != Some(*value))
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    if !news.is_empty() {
        plan.push(Op::PatchVolume(
            json!({ "metadata": { "annotations": news } }),
        ));
        return;
    }
    let (new, event) = status(
        &Seen {
            dv,
            claim: seen.claim.filter(|_| !story.foreign),
            adopted: story.adopted,
            waits: story.waits,
            progress: seen.progress,
            stage: story.stage,
            cause: story.cause,
        },
        now,
    );
    if dv.status.as_ref() != Some(&new) {
        plan.steps.push(Step {
            op: Op::PatchStatus(json!({ "status": new })),
            done: event.or(story.event),
            failed: None,
        });
    }
}
