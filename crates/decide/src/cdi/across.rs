//! Clones of claims and snapshots of another namespace.
//!
//! ```text
//!   namespace of the source                            namespace of the clone
//!               claim ──► <uid>-source-pod ── mTLS ──► cdi-upload-<name> ──► claim
//!   snapshot ──►┘ temporary, the pod's own
//! ```
//! A pod has one namespace, so there are two: an upload server that takes this one clone, and
//! a pod beside the source that reads it and sends what is not zero. They know each other by
//! certificates that are made for this clone and good for no other: not even the upload proxy
//! may send here. Nothing is owned across namespaces; the source pod carries the uid and the name
//! of the clone's claim, and the controller, which watches all worker pods, removes it when the
//! clone is whole, has failed, or is gone. What the source pod needs is owned by that pod: its
//! certificate, and the claim that a snapshot is restored into, which is made after it.
//!
//! Who may clone was asked when the DataVolume was made, and a signed token says so.
//!
//! Source of the pods' names and of the annotation: CDI pkg/controller/clone-controller.go.

#[cfg(test)]
mod tests;

use api::cdi::ClaimSource;
use api::cdi::names::{
    APP, APP_LABEL, CA_BUNDLE_KEY, CLAIM_UID_LABEL, CLONE_TARGET, CLONER, COMPONENT_LABEL,
    METRICS_PORT, SOURCE_DEVICE, SOURCE_IMAGE, UPLOAD_PORT, annotations as note,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};

use super::cluster::Cluster;
use super::pod::{container, spec};
use super::populator::say;
use super::size::is_block;
use super::smart;
use super::state::{self, last_word, phase};
use super::volume::{Observed, Op, Story, create, delete, look_again, original};
use super::worker::{Job, labels, note as of, owner, server_names, service};
use crate::plan::{Plan, Step};

/// Reason of a clone that nobody was allowed to make.
pub(super) const REFUSED: &str = "CloneValidationFailed";
/// A source pod that ended, though the server has not all it needs, is given this time before
/// another one is made: the server's end is usually just not seen yet.
const PATIENCE: SignedDuration = SignedDuration::from_secs(15);
/// Where the source pod has its certificate.
const TLS_DIR: &str = "/tls";

/// What is cloned, in another namespace.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    namespace: &'a str,
    name: &'a str,
    snapshot: bool,
}

impl<'a> Source<'a> {
    /// That of a job, if it has one.
    pub(super) fn of(job: &'a Job) -> Option<Self> {
        match job {
            Job::Receive {
                namespace,
                name,
                snapshot,
            } => Some(Self {
                namespace,
                name,
                snapshot: *snapshot,
            }),
            _ => None,
        }
    }

    /// Name of the claim that is read.
    fn claim(self, clone: &PersistentVolumeClaim) -> String {
        if self.snapshot {
            smart::source_name(uid(clone))
        } else {
            self.name.to_owned()
        }
    }

    /// A claim that could hold what the snapshot holds; waits when there is none yet.
    fn stand_in(
        self,
        seen: &Observed<'_>,
        clone: &PersistentVolumeClaim,
        now: Timestamp,
        story: &mut Story,
        plan: &mut Plan<Op>,
    ) -> Option<PersistentVolumeClaim> {
        let from = ClaimSource {
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
        };
        match smart::stand_in(&from, seen.look, seen.cluster) {
            Ok(claim) => Some(claim),
            Err(refusal) => {
                plan.look_again(now, look_again(&clone.metadata, now));
                story.wait_for(refusal.reason, refusal.message);
                None
            }
        }
    }
}

fn uid(claim: &PersistentVolumeClaim) -> &str {
    claim.metadata.uid.as_deref().unwrap_or_default()
}

/// Common name by which the clone's source pod is known, and nobody else.
#[must_use]
pub fn client_name(claim: &PersistentVolumeClaim) -> String {
    format!("clone-{}", uid(claim))
}

/// Name of the source pod, and of the Secret with its certificate.
#[must_use]
pub fn source_name(claim: &PersistentVolumeClaim) -> String {
    format!("{}-source-pod", uid(claim))
}

/// Name of the policy that lets the source pod in.
pub(super) fn policy_name(claim: &PersistentVolumeClaim) -> String {
    format!("cdi-clone-{}", uid(claim))
}

/// Namespace and name of the claim that a source pod reads for, if it is in another namespace.
#[must_use]
pub fn target(pod: &Pod) -> Option<(&str, &str)> {
    let labels = pod.metadata.labels.as_ref()?;
    (labels.get(COMPONENT_LABEL).map(String::as_str) == Some(CLONER)).then_some(())?;
    let notes = pod.metadata.annotations.as_ref()?;
    let (namespace, name) = notes.get(note::CLONE_OWNER)?.split_once('/')?;
    (pod.metadata.namespace.as_deref() != Some(namespace)).then_some((namespace, name))
}

/// Whether the pod is the one that reads for this claim in the namespace `from`.
#[must_use]
pub fn reads_for(pod: &Pod, claim: &PersistentVolumeClaim, from: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    pod.metadata.namespace.as_deref() == Some(from)
        && pod.metadata.name.as_deref() == Some(&source_name(claim))
        && labels.and_then(|labels| labels.get(CLAIM_UID_LABEL)) == claim.metadata.uid.as_ref()
}

/// The pod that reads what is cloned, which is or will be as `original`, and sends it.
fn source_pod(
    claim: &PersistentVolumeClaim,
    from: Source<'_>,
    original: Option<&PersistentVolumeClaim>,
    cluster: &Cluster,
) -> Value {
    let host = server_names(claim).into_iter().next().unwrap_or_default();
    let mut args = vec![
        "send".to_owned(),
        "--to".to_owned(),
        format!("{host}:{UPLOAD_PORT}"),
        "--tls-dir".to_owned(),
        TLS_DIR.to_owned(),
        "--owner-uid".to_owned(),
        uid(claim).to_owned(),
        "--metrics".to_owned(),
        format!("0.0.0.0:{METRICS_PORT}"),
    ];
    let block = original
        .and_then(|claim| claim.spec.as_ref())
        .is_some_and(is_block);
    let mount =
        |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": true });
    let mut mounts = vec![mount("tls", TLS_DIR)];
    let mut devices = Vec::new();
    let path = if of(claim, note::CONTENT_TYPE) == Some("archive") {
        args.extend(["--content-type", "archive"].map(str::to_owned));
        "/source"
    } else if block {
        SOURCE_DEVICE
    } else {
        SOURCE_IMAGE
    };
    if block {
        devices.push(json!({ "name": "source", "devicePath": SOURCE_DEVICE }));
    } else {
        mounts.push(mount("source", "/source"));
    }
    args.extend(["--from", path].map(str::to_owned));
    let resources = json!({
        "requests": { "cpu": "100m", "memory": "60M" },
        "limits": { "cpu": "2", "memory": "600M" },
    });
    let mut container = container("cloner", "cdi-cloner", &args, &resources, cluster);
    container["volumeMounts"] = json!(mounts);
    container["volumeDevices"] = json!(devices);
    container["ports"] =
        json!([{ "name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP" }]);
    let volumes = [
        json!({ "name": "tls", "secret": { "secretName": source_name(claim) } }),
        json!({ "name": "source", "persistentVolumeClaim": { "claimName": from.claim(claim), "readOnly": true } }),
    ];
    let priority = of(claim, note::PRIORITY_CLASS);
    let mut spec = spec(&container, &volumes, priority, None, cluster);
    spec["restartPolicy"] = json!("OnFailure");
    spec["securityContext"]["fsGroupChangePolicy"] = json!("OnRootMismatch");
    let own = claim.metadata.namespace.as_deref().unwrap_or_default();
    let called = claim.metadata.name.as_deref().unwrap_or_default();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": source_name(claim),
            "namespace": from.namespace,
            "labels": labels(CLONER, claim),
            "annotations": {
                "cdi.kubevirt.io/storage.createdByController": "yes",
                (note::CLONE_OWNER): format!("{own}/{called}"),
            },
        },
        "spec": spec,
    })
}

/// Secret with the certificate of the source pod `pod`, which owns it, and the authority of the
/// server.
#[must_use]
pub fn certificate(pod: &Pod, certificate: &str, key: &str, server_ca: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": pod.metadata.name,
            "namespace": pod.metadata.namespace,
            "labels": { APP_LABEL: APP, COMPONENT_LABEL: CLONER },
            "ownerReferences": [belongs_to(pod)],
        },
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": certificate, "tls.key": key, CA_BUNDLE_KEY: server_ca },
    })
}

/// The source pod as owner of what it needs.
fn belongs_to(pod: &Pod) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// The policy that lets the clone's source pod, and nobody else, reach its server.
fn policy(claim: &PersistentVolumeClaim, from: &str) -> Value {
    let of_clone =
        |component: &str| json!({ COMPONENT_LABEL: component, CLAIM_UID_LABEL: uid(claim) });
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {
            "name": policy_name(claim),
            "namespace": claim.metadata.namespace,
            "labels": { APP_LABEL: APP, COMPONENT_LABEL: CLONE_TARGET },
            "ownerReferences": [owner(claim)],
        },
        "spec": {
            "podSelector": { "matchLabels": of_clone(CLONE_TARGET) },
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{
                    "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": from } },
                    "podSelector": { "matchLabels": of_clone(CLONER) },
                }],
                "ports": [{ "protocol": "TCP", "port": UPLOAD_PORT }],
            }],
        },
    })
}

/// Whether the clone is whole, or never will be.
#[must_use]
pub fn over(claim: &PersistentVolumeClaim) -> bool {
    of(claim, note::POD_PHASE) == Some("Succeeded") || of(claim, note::FATAL_ERROR) == Some("true")
}

/// Removes source pods that serve nobody any more.
pub(super) fn tidy(seen: &Observed<'_>, plan: &mut Plan<Op>) {
    let serves = |pod: &Pod| {
        seen.claim.is_some_and(|claim| {
            let stays = !over(claim) || of(claim, note::POD_RETAIN) == Some("true");
            claim.metadata.deletion_timestamp.is_none()
                && stays
                && matches!(Job::of(claim), Some(Job::Receive { namespace, .. })
                    if reads_for(pod, claim, &namespace))
        })
    };
    for pod in &seen.senders {
        if pod.metadata.deletion_timestamp.is_none() && !serves(pod) {
            plan.push(delete(pod));
        }
    }
}

/// The clone's source pod, also one that leaves.
fn sender<'a>(seen: &Observed<'a>, claim: &PersistentVolumeClaim, from: &str) -> Option<&'a Pod> {
    let mut senders = seen.senders.iter();
    senders
        .find(|pod| reads_for(pod, claim, from))
        .map(|pod| &**pod)
}

/// Plans the source pod, if there is none, and its claim, if that is to be one of its own; the
/// server can be started or go on if that says so.
fn send(
    seen: &Observed<'_>,
    claim: &PersistentVolumeClaim,
    from: Source<'_>,
    now: Timestamp,
    story: &mut Story,
    plan: &mut Plan<Op>,
) -> bool {
    if let Some(pod) = sender(seen, claim, from.namespace) {
        // Another one of its name can be made when it is gone; that is heard of.
        return pod.metadata.deletion_timestamp.is_none()
            && restore(seen, claim, from, pod, now, story, plan);
    }
    if let Err(message) = &seen.permit {
        if seen.dv.is_some() {
            story.refuse(REFUSED, message.clone());
        } else {
            let _ = say(claim, REFUSED, message.clone(), plan);
        }
        return false;
    }
    let restored = if from.snapshot {
        let Some(stand_in) = from.stand_in(seen, claim, now, story, plan) else {
            return false;
        };
        Some(stand_in)
    } else if original(seen, from.name, false, story) {
        None
    } else {
        return false;
    };
    plan.push(Op::TryApply(policy(claim, from.namespace)));
    // Before the pod: a name that was asked for too early is not known for a while.
    plan.push(Op::Apply(service(claim)));
    plan.steps.push(Step {
        op: Op::CreatePod {
            pod: source_pod(
                claim,
                from,
                restored.as_ref().or(seen.original),
                seen.cluster,
            ),
            unused: (!from.snapshot).then(|| from.name.to_owned()),
        },
        done: None,
        failed: Some("ErrStartingPod"),
    });
    true
}

/// Plans the claim of its own that the source pod of a snapshot waits for; false if that cannot
/// be made yet.
fn restore(
    seen: &Observed<'_>,
    claim: &PersistentVolumeClaim,
    from: Source<'_>,
    pod: &Pod,
    now: Timestamp,
    story: &mut Story,
    plan: &mut Plan<Op>,
) -> bool {
    if !from.snapshot || seen.original.is_some() {
        return true;
    }
    let Some(stand_in) = from.stand_in(seen, claim, now, story, plan) else {
        return false;
    };
    let own = smart::restored(&belongs_to(pod), uid(claim), from.name, &stand_in, claim);
    plan.steps.push(create(own));
    true
}

/// Plans what a clone's server needs before it; false if it cannot be started now.
pub(super) fn begin(
    seen: &Observed<'_>,
    claim: &PersistentVolumeClaim,
    from: Source<'_>,
    now: Timestamp,
    story: &mut Story,
    plan: &mut Plan<Op>,
) -> bool {
    if !send(seen, claim, from, now, story, plan) {
        return false;
    }
    plan.steps.push(certify());
    true
}

fn certify() -> Step<Op> {
    Step {
        op: Op::Certify,
        done: None,
        failed: Some("ErrStartingPod"),
    }
}

/// Looks after the source pod of a clone whose server is there; false if there is something to
/// be done or waited for before the server is looked after.
pub(super) fn attend(
    seen: &Observed<'_>,
    claim: &PersistentVolumeClaim,
    from: Source<'_>,
    (held, now): (bool, Timestamp),
    story: &mut Story,
    plan: &mut Plan<Op>,
) -> bool {
    let Some(pod) = sender(seen, claim, from.namespace) else {
        if !held && send(seen, claim, from, now, story, plan) {
            plan.steps.push(certify());
        }
        return false;
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    if !matches!(phase(pod), "Succeeded" | "Failed") && !held {
        restore(seen, claim, from, pod, now, story, plan);
    }
    if state::is_hopeless(pod) {
        let why = last_word(pod).and_then(|word| word.error);
        let patch: Map<String, Value> = [
            (note::POD_PHASE, "Failed"),
            (note::FATAL_ERROR, "true"),
            (note::RUNNING, "false"),
            (note::RUNNING_REASON, "Error"),
            (note::RUNNING_MESSAGE, why.as_deref().unwrap_or_default()),
        ]
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .into_iter()
        .collect();
        plan.push(Op::PatchClaim(
            json!({ "metadata": { "annotations": patch } }),
        ));
        return false;
    }
    if matches!(phase(pod), "Succeeded" | "Failed") {
        let then = ended(pod).unwrap_or(now);
        let then = then.checked_add(PATIENCE).unwrap_or(now);
        if now < then {
            plan.look_again(now, then);
        } else {
            // The server was killed with what it had, or lost it: all is sent again.
            plan.push(delete(pod));
        }
        return false;
    }
    true
}

/// When a pod that ended did so, or began if nobody knows.
fn ended(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref();
    let told = statuses.into_iter().flatten().find_map(|status| {
        let terminated = status.state.as_ref()?.terminated.as_ref()?;
        terminated.finished_at.as_ref().map(|at| at.0)
    });
    told.or(pod.metadata.creation_timestamp.as_ref().map(|at| at.0))
}
