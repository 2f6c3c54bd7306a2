//! Status of the KubeVirt object: phase and conditions.
//! Source of phases, reasons and the meaning of their combinations: KubeVirt
//! (virt-operator). While it updates, Available, Progressing and Degraded are
//! all true.

use api::KubeVirt;
use api::condition::Condition;
use api::kubevirt::KubeVirtStatus;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Config;
use crate::conditions::{probe, said};

/// Phase: objects are being applied or are not ready yet.
pub const DEPLOYING: &str = "Deploying";
/// Phase: all components were ready.
pub const DEPLOYED: &str = "Deployed";
/// Phase: deletion has begun.
pub const DELETING: &str = "Deleting";
/// Phase: everything is gone.
pub const DELETED: &str = "Deleted";

/// How far a round of reconciling came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another KubeVirt object owns the deployment.
    Ignored,
    /// Not everything is applied yet.
    Applying,
    /// Everything is applied, but not everything is ready.
    Applied,
    /// Everything is applied and ready.
    Ready,
    /// Applying failed, for this reason.
    Failed(String),
    /// Deletion goes on.
    Deleting,
    /// Deletion cannot go on, for this reason.
    DeletionFailed(String),
    /// Everything is gone.
    Deleted,
}

/// The status after a round that came so far.
#[must_use]
pub fn next(
    kubevirt: &KubeVirt,
    config: &Config,
    progress: &Progress,
    now: Timestamp,
) -> KubeVirtStatus {
    let mut status = kubevirt.status.clone().unwrap_or_default();
    match progress {
        Progress::Ignored | Progress::DeletionFailed(_) => {}
        Progress::Deleting => status.phase = DELETING.into(),
        Progress::Deleted => status.phase = DELETED.into(),
        Progress::Applying | Progress::Applied | Progress::Ready | Progress::Failed(_) => {
            target(&mut status, config);
            if status.phase.is_empty() {
                status.phase = DEPLOYING.into();
            }
        }
    }
    let conditions = &mut status.conditions;
    let updating = !status.observed_deployment_id.is_empty()
        && status.observed_deployment_id != status.target_deployment_id;
    match progress {
        Progress::Ignored => set(
            conditions,
            "Synchronized",
            "False",
            "ExistingDeployment",
            "Another KubeVirt object is deployed in this cluster; delete one of them.",
            now,
        ),
        Progress::Applying | Progress::Applied if updating => {
            drop_condition(conditions, "Synchronized");
            let message = format!(
                "Moving from version {} to {}.",
                status.observed_kube_virt_version, status.target_kube_virt_version
            );
            all(
                conditions,
                ["True", "True", "True"],
                "UpdateInProgress",
                &message,
                now,
            );
            created(conditions, progress, now);
        }
        Progress::Applying | Progress::Applied => {
            drop_condition(conditions, "Synchronized");
            let message = format!("Deploying version {}.", status.target_kube_virt_version);
            all(
                conditions,
                ["False", "True", "False"],
                "DeploymentInProgress",
                &message,
                now,
            );
            created(conditions, progress, now);
        }
        Progress::Ready => {
            drop_condition(conditions, "Synchronized");
            created(conditions, progress, now);
            all(
                conditions,
                ["True", "False", "False"],
                "AllComponentsReady",
                "All components are ready.",
                now,
            );
            status.phase = DEPLOYED.into();
            status
                .observed_deployment_id
                .clone_from(&status.target_deployment_id);
            status
                .observed_kube_virt_version
                .clone_from(&status.target_kube_virt_version);
            status.observed_generation = kubevirt.metadata.generation;
        }
        Progress::Failed(reason) => {
            let message = format!("Deployment failed: {reason}");
            set(
                conditions,
                "Synchronized",
                "False",
                "DeploymentFailed",
                &message,
                now,
            );
            all(
                conditions,
                ["False", "False", "True"],
                "DeploymentFailed",
                &message,
                now,
            );
        }
        Progress::Deleting | Progress::Deleted => {
            drop_condition(conditions, "Created");
            drop_condition(conditions, "Synchronized");
            all(
                conditions,
                ["False", "False", "True"],
                "DeletionInProgress",
                "The object was deleted.",
                now,
            );
        }
        Progress::DeletionFailed(reason) => {
            let message = format!("Deletion cannot go on: {reason}");
            set(
                conditions,
                "Synchronized",
                "False",
                "DeletionFailed",
                &message,
                now,
            );
        }
    }
    status
}

/// The merge patch that makes the object's status `status`, or `None` when it
/// is so already. `registry` is what has no place in [`KubeVirtStatus`].
#[must_use]
pub fn patch(kubevirt: &KubeVirt, status: &KubeVirtStatus, registry: &str) -> Option<Value> {
    if kubevirt.status.as_ref() == Some(status) {
        return None;
    }
    let mut body = json!(status);
    if !status.target_deployment_id.is_empty() {
        body["targetKubeVirtRegistry"] = json!(registry);
        body["defaultArchitecture"] = json!("amd64");
    }
    if !status.observed_deployment_id.is_empty()
        && status.observed_deployment_id == status.target_deployment_id
    {
        body["observedKubeVirtRegistry"] = json!(registry);
    }
    Some(json!({ "status": body }))
}

fn target(status: &mut KubeVirtStatus, config: &Config) {
    status.operator_version.clone_from(&config.version);
    status.target_kube_virt_version.clone_from(&config.version);
    status.target_deployment_id = config.deployment_id();
}

/// `Created` holds once everything was applied; an update takes it away.
fn created(conditions: &mut Vec<Condition>, progress: &Progress, now: Timestamp) {
    if *progress != Progress::Applying {
        set(
            conditions,
            "Created",
            "True",
            "AllResourcesCreated",
            "All resources were created.",
            now,
        );
    }
}

fn all(
    conditions: &mut Vec<Condition>,
    [available, progressing, degraded]: [&str; 3],
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    set(conditions, "Available", available, reason, message, now);
    set(conditions, "Progressing", progressing, reason, message, now);
    set(conditions, "Degraded", degraded, reason, message, now);
}

fn drop_condition(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|condition| condition.type_ != type_);
}

fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    probe(conditions, said(type_, status, reason, message), now);
}
