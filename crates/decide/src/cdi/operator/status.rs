//! Status of the CDI object: phase and conditions, and that of the CDIConfig.
//! Source of phases, reasons and the meaning of their combinations: the
//! operators' SDK of KubeVirt (controller-lifecycle-operator-sdk, cr-status.go).

use api::Condition;
use api::cdi::{CDI, CdiConfigStatus, CdiStatus, FilesystemOverhead};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Config;
use crate::conditions::{beat, said};

/// Phase: objects are being applied or are not ready yet.
pub const DEPLOYING: &str = "Deploying";
/// Phase: all programs were ready.
pub const DEPLOYED: &str = "Deployed";
/// Phase: another version is being rolled out.
pub const UPGRADING: &str = "Upgrading";
/// Phase: deletion has begun.
pub const DELETING: &str = "Deleting";
/// Phase: everything is gone.
pub const DELETED: &str = "Deleted";
/// Phase: the object cannot be acted on.
pub const ERROR: &str = "Error";

/// Share of a claim that its file system needs, unless settings say another.
const OVERHEAD: &str = "0.06";

/// How far a round of reconciling came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another CDI object owns the deployment.
    Ignored,
    /// Not everything is applied, or not everything is ready.
    Applied,
    /// Everything is applied and ready.
    Ready,
    /// The object's settings cannot be acted on, for this reason.
    Invalid(String),
    /// Applying failed, for this reason; it will be tried again.
    Failed(String),
    /// Deletion goes on.
    Deleting,
    /// Deletion cannot go on, for this reason.
    DeletionBlocked(String),
    /// Everything is gone.
    Deleted,
}

/// The status after a round that came so far.
#[must_use]
pub fn next(cdi: &CDI, config: &Config, progress: &Progress, now: Timestamp) -> CdiStatus {
    let mut status = cdi.status.clone().unwrap_or_default();
    if matches!(
        progress,
        Progress::Applied | Progress::Ready | Progress::Failed(_)
    ) {
        status.operator_version.clone_from(&config.version);
        status.target_version.clone_from(&config.version);
    }
    let updating =
        !status.observed_version.is_empty() && status.observed_version != status.target_version;
    let conditions = &mut status.conditions;
    match progress {
        Progress::Applied if updating => {
            status.phase = UPGRADING.into();
            let message = format!("Started upgrade to version {}", status.target_version);
            let of = ("UpgradeStarted", message.as_str());
            all(conditions, ["True", "True", "True"], of, now);
        }
        // It has been ready: what is not now is degraded, and is still said to
        // be available, as one that does not wait for it would find.
        Progress::Applied if status.phase == DEPLOYED => {
            let of = ("NotReady", "Not all programs are ready");
            set(conditions, "Degraded", "True", of, now);
        }
        Progress::Applied => {
            status.phase = DEPLOYING.into();
            let of = ("DeployStarted", "Started Deployment");
            all(conditions, ["False", "True", "False"], of, now);
        }
        Progress::Ready => {
            status.phase = DEPLOYED.into();
            status.observed_version.clone_from(&status.target_version);
            let of = ("DeployCompleted", "Deployment Completed");
            all(conditions, ["True", "False", "False"], of, now);
        }
        Progress::Ignored => {
            status.phase = ERROR.into();
            let of = (
                "ConfigError",
                "Another CDI object is deployed in this cluster; delete one of them",
            );
            all(conditions, ["False", "False", "True"], of, now);
        }
        Progress::Invalid(reason) => {
            status.phase = ERROR.into();
            let of = ("ConfigError", reason.as_str());
            all(conditions, ["False", "False", "True"], of, now);
        }
        Progress::Failed(reason) => {
            if status.phase != DEPLOYED && status.phase != UPGRADING {
                status.phase = DEPLOYING.into();
                set(
                    conditions,
                    "Available",
                    "False",
                    ("DeployFailed", reason),
                    now,
                );
            }
            set(
                conditions,
                "Progressing",
                "True",
                ("DeployFailed", reason),
                now,
            );
            set(
                conditions,
                "Degraded",
                "True",
                ("DeployFailed", reason),
                now,
            );
        }
        Progress::Deleting => {
            status.phase = DELETING.into();
            let of = ("Deleting", "The object was deleted");
            all(conditions, ["False", "True", "True"], of, now);
        }
        Progress::DeletionBlocked(reason) => {
            set(
                conditions,
                "Progressing",
                "False",
                ("DeletionBlocked", reason),
                now,
            );
        }
        Progress::Deleted => {
            status.phase = DELETED.into();
            let of = ("Deleted", "Everything is removed");
            all(conditions, ["False", "False", "True"], of, now);
        }
    }
    status
}

/// The merge patch that makes the object's status `status`, or `None` when it
/// is so already.
#[must_use]
pub fn patch(cdi: &CDI, status: &CdiStatus) -> Option<Value> {
    (cdi.status.as_ref() != Some(status)).then(|| json!({ "status": status }))
}

/// The CDIConfig's status: what holds, after the CDI object's say. `bundle` is
/// the PEM text of the upload proxy's authorities. Where the proxy is reached
/// from outside is known only if somebody says so.
#[must_use]
pub fn of_config(cdi: &CDI, bundle: &str) -> CdiConfigStatus {
    let spec = cdi.spec.config.clone().unwrap_or_default();
    let overhead = spec.filesystem_overhead.unwrap_or_default();
    CdiConfigStatus {
        upload_proxy_url: spec.upload_proxy_url_override,
        upload_proxy_ca: Some(bundle.to_owned()).filter(|bundle| !bundle.is_empty()),
        default_pod_resource_requirements: spec.pod_resource_requirements,
        filesystem_overhead: Some(FilesystemOverhead {
            global: overhead.global.or_else(|| Some(OVERHEAD.to_owned())),
            storage_class: overhead.storage_class,
        }),
        preallocation: spec.preallocation.unwrap_or(false),
        image_pull_secrets: spec.image_pull_secrets,
    }
}

fn all(
    conditions: &mut Vec<Condition>,
    [available, progressing, degraded]: [&str; 3],
    of: (&str, &str),
    now: Timestamp,
) {
    set(conditions, "Available", available, of, now);
    set(conditions, "Progressing", progressing, of, now);
    set(conditions, "Degraded", degraded, of, now);
}

fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: &str,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    beat(conditions, said(type_, status, reason, message), now);
}
