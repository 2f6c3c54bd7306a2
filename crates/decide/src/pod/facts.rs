//! What the decisions look at in a launcher pod; the rest of the pod is not kept.

use api::Condition;
use api::names::{COMPUTE_CONTAINER, UNPAUSED_CONDITION};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

/// Phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Not all containers were started.
    #[default]
    Pending,
    /// At least one container runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, one of them badly.
    Failed,
    /// The node does not answer.
    Unknown,
}

/// The kubelet's words for a container that waits for more than time: its image
/// cannot be pulled (and "will be tried again"), or it cannot be made or started.
///
/// Source: Kubernetes, pkg/kubelet/images/types.go and
/// pkg/kubelet/kuberuntime/kuberuntime_container.go.
const WAITING_ERRORS: [&str; 9] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "SignatureValidationFailed",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Facts of one launcher pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Name of the VMI that controls it; empty when none does.
    pub vmi_name: String,
    /// UID of that VMI.
    pub vmi_uid: String,
    /// Node it is bound to; empty before.
    pub node: String,
    /// Phase.
    pub phase: PodPhase,
    /// It is being deleted.
    pub deleting: bool,
    /// Every container passes its readiness check.
    pub containers_ready: bool,
    /// Condition `Ready`.
    pub ready: Option<Condition>,
    /// Condition `PodScheduled` while it is `False`.
    pub unschedulable: Option<Condition>,
    /// Condition of the readiness gate: true while the guest is not paused.
    pub unpaused: Option<bool>,
    /// Reason and message of a container that the kubelet cannot start.
    pub image_error: Option<(String, String)>,
    /// When it was bound, while the kubelet has not got its volumes, sandbox
    /// and network together.
    pub unprepared_since: Option<Timestamp>,
    /// Quality-of-service class.
    pub qos_class: Option<String>,
    /// Image of `compute`.
    pub image: String,
    /// Every container has ended.
    pub all_terminated: bool,
    /// Exit code of `compute`, once it ended.
    pub exit_code: Option<i32>,
    /// When `compute` ended.
    pub finished_at: Option<Timestamp>,
    /// Why the pod or `compute` ended (`Evicted`, `StartError`, `OOMKilled`);
    /// empty while it runs and when it ended well.
    pub end_reason: String,
    /// The words that go with it.
    pub end_message: String,
    /// A container beside `compute` ended badly: a guest that has not got its
    /// disks by then never will.
    pub broken: bool,
    /// When the last such container ended.
    pub broken_at: Option<Timestamp>,
    /// The kubelet was told to end the pod (`activeDeadlineSeconds`).
    pub has_deadline: bool,
}

impl PodFacts {
    /// No guest can run in it any more. A containerDisk's container may still:
    /// one that nobody ever asked for its disk does not end by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.all_terminated || self.exit_code.is_some() || self.is_finished()
    }

    /// The kubelet is done with it, and its resources are free.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// It is over, or about to be.
    #[must_use]
    pub fn is_down_or_going_down(&self) -> bool {
        self.deleting || self.is_over()
    }
}

impl From<&Pod> for PodFacts {
    fn from(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let owner =
            meta.owner_references.iter().flatten().find(|owner| {
                owner.controller == Some(true) && owner.kind == "VirtualMachineInstance"
            });
        let compute = pod.spec.as_ref().and_then(|spec| {
            spec.containers
                .iter()
                .find(|container| container.name == COMPUTE_CONTAINER)
        });
        let mut facts = Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            vmi_name: owner.map(|owner| owner.name.clone()).unwrap_or_default(),
            vmi_uid: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
            node: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            has_deadline: pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.active_deadline_seconds.is_some()),
            image: compute.and_then(|c| c.image.clone()).unwrap_or_default(),
            ..Self::default()
        };
        let Some(status) = &pod.status else {
            return facts;
        };
        facts.phase = match status.phase.as_deref() {
            Some("Running") => PodPhase::Running,
            Some("Succeeded") => PodPhase::Succeeded,
            Some("Failed") => PodPhase::Failed,
            Some("Unknown") => PodPhase::Unknown,
            _ => PodPhase::Pending,
        };
        facts.qos_class.clone_from(&status.qos_class);
        let conditions = || status.conditions.iter().flatten();
        conditions().for_each(|condition| facts.take_condition(condition));
        let unprepared = conditions()
            .any(|one| one.type_ == "PodReadyToStartContainers" && one.status == "False");
        if unprepared && facts.phase == PodPhase::Pending {
            facts.unprepared_since = conditions()
                .find(|one| one.type_ == "PodScheduled" && one.status == "True")
                .and_then(|bound| Some(bound.last_transition_time.as_ref()?.0));
        }
        let containers: Vec<&ContainerStatus> =
            status.container_statuses.iter().flatten().collect();
        facts.all_terminated =
            !containers.is_empty() && containers.iter().all(|c| terminated(c).is_some());
        facts.image_error = status
            .init_container_statuses
            .iter()
            .flatten()
            .chain(containers.iter().copied())
            .find_map(image_error);
        for container in &containers {
            let Some(end) = terminated(container) else {
                continue;
            };
            let compute = container.name == COMPUTE_CONTAINER;
            if compute {
                facts.exit_code = Some(end.exit_code);
                facts.finished_at = end.finished_at.as_ref().map(|time| time.0);
            }
            if end.exit_code != 0 {
                if !compute {
                    facts.broken = true;
                    let ended = end.finished_at.as_ref().map(|time| time.0);
                    facts.broken_at = facts.broken_at.max(ended);
                }
                if compute || facts.end_reason.is_empty() {
                    facts.end_reason = end.reason.clone().unwrap_or_default();
                    facts.end_message = format!(
                        "container {}: {}",
                        container.name,
                        end.message.as_deref().unwrap_or_default().trim()
                    );
                }
            }
        }
        if facts.phase == PodPhase::Failed
            && let Some(reason) = &status.reason
        {
            facts.end_reason.clone_from(reason);
            facts.end_message = status.message.clone().unwrap_or_default();
        }
        facts
    }
}

impl PodFacts {
    fn take_condition(&mut self, condition: &PodCondition) {
        let yes = condition.status == "True";
        match condition.type_.as_str() {
            "ContainersReady" => self.containers_ready = yes,
            "Ready" => self.ready = Some(ours(condition)),
            "PodScheduled" if !yes => self.unschedulable = Some(ours(condition)),
            UNPAUSED_CONDITION => self.unpaused = Some(yes),
            _ => {}
        }
    }
}

fn ours(condition: &PodCondition) -> Condition {
    Condition {
        type_: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        last_probe_time: None,
        last_transition_time: condition.last_transition_time.clone(),
        ..Condition::default()
    }
}

fn terminated(
    container: &ContainerStatus,
) -> Option<&k8s_openapi::api::core::v1::ContainerStateTerminated> {
    container.state.as_ref()?.terminated.as_ref()
}

fn image_error(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    WAITING_ERRORS.contains(&reason).then(|| {
        (
            reason.to_owned(),
            waiting.message.clone().unwrap_or_default(),
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_are_read_from_a_running_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "virt-launcher-vm-abcde", "uid": "p1",
                "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
                    "name": "vm", "uid": "v1", "controller": true}]
            },
            "spec": {"nodeName": "edge1", "containers": [{"name": "compute", "image": "launcher:1"}]},
            "status": {
                "phase": "Running", "qosClass": "Burstable",
                "conditions": [
                    {"type": "ContainersReady", "status": "True"},
                    {"type": "PodScheduled", "status": "True"},
                    {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},
                    {"type": "kubevirt.io/virtual-machine-unpaused", "status": "False"}
                ],
                "containerStatuses": [
                    {"name": "compute", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                     "state": {"running": {}}}
                ]
            }
        }))
        .unwrap();
        let facts = PodFacts::from(&pod);
        assert_eq!(
            (facts.vmi_name.as_str(), facts.vmi_uid.as_str()),
            ("vm", "v1")
        );
        assert_eq!(
            (facts.node.as_str(), facts.image.as_str()),
            ("edge1", "launcher:1")
        );
        assert!(facts.containers_ready && !facts.is_down_or_going_down());
        assert_eq!(facts.unpaused, Some(false));
        assert_eq!(facts.unschedulable, None);
        assert_eq!(facts.ready.unwrap().reason, "ReadinessGatesNotReady");
    }

    #[test]
    fn a_bound_pod_without_its_volumes_is_unprepared_since_it_was_bound() {
        let pod = |prepared: &str| -> Pod {
            serde_json::from_value(json!({"status": {"phase": "Pending", "conditions": [
                {"type": "PodReadyToStartContainers", "status": prepared,
                 "lastTransitionTime": "2026-01-02T03:04:09Z"},
                {"type": "PodScheduled", "status": "True",
                 "lastTransitionTime": "2026-01-02T03:04:05Z"}
            ]}}))
            .unwrap()
        };
        let since = PodFacts::from(&pod("False")).unprepared_since.unwrap();
        assert_eq!(since.to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(PodFacts::from(&pod("True")).unprepared_since, None);
    }

    #[test]
    fn a_disk_container_that_failed_breaks_the_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"activeDeadlineSeconds": 1, "containers": []},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "compute", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                 "state": {"running": {}}},
                {"name": "volumeroot", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no file"}}}
            ]}
        }))
        .unwrap();
        let facts = PodFacts::from(&pod);
        assert!(facts.broken && facts.has_deadline && !facts.is_over());
        assert_eq!(facts.end_message, "container volumeroot: no file");
    }

    #[test]
    fn the_end_of_compute_and_image_errors_are_seen() {
        let pod: Pod = serde_json::from_value(json!({
            "status": {"phase": "Failed", "containerStatuses": [
                {"name": "compute", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"terminated": {"exitCode": 3, "reason": "Error",
                    "message": "boom", "finishedAt": "2026-01-02T03:04:05Z"}}},
                {"name": "volumeroot", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
            ]}
        }))
        .unwrap();
        let facts = PodFacts::from(&pod);
        assert!(facts.is_over() && !facts.all_terminated);
        assert_eq!(facts.exit_code, Some(3));
        assert_eq!(
            (facts.end_reason.as_str(), facts.end_message.as_str()),
            ("Error", "container compute: boom")
        );
        assert_eq!(
            facts.finished_at.unwrap().to_string(),
            "2026-01-02T03:04:05Z"
        );
        assert_eq!(
            facts.image_error,
            Some(("ErrImagePull".to_owned(), "not found".to_owned()))
        );
    }
}
