//! What the handler keeps of a launcher pod.

use api::names::{
    COMPUTE_CONTAINER, CREATED_BY_LABEL, DOMAIN_ANNOTATION, KVM_RESOURCE, VHOST_NET_RESOURCE,
};
use decide::handler::{PodEnd, PodView};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

/// A launcher pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodInfo {
    /// Namespace of pod and VMI.
    pub(crate) namespace: String,
    /// Name of the pod.
    pub(crate) name: String,
    /// UID of the pod.
    pub(crate) uid: String,
    /// UID of the VMI.
    pub(crate) vmi_uid: String,
    /// Name of the VMI.
    pub(crate) vmi_name: String,
    /// It was given /dev/kvm.
    pub(crate) kvm: bool,
    /// It was given /dev/vhost-net.
    pub(crate) vhost_net: bool,
    /// All its containers were started, whatever became of them.
    pub(crate) started: bool,
    /// What decisions look at.
    pub(crate) view: PodView,
}

impl PodInfo {
    /// From a pod; `None` when it is no launcher of ours.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let spec = pod.spec.as_ref()?;
        let compute = spec
            .containers
            .iter()
            .find(|container| container.name == COMPUTE_CONTAINER)?;
        let limits = compute
            .resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref());
        let has = |resource: &str| limits.is_some_and(|limits| limits.contains_key(resource));
        Some(Self {
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            vmi_uid: meta.labels.as_ref()?.get(CREATED_BY_LABEL)?.clone(),
            vmi_name: meta.annotations.as_ref()?.get(DOMAIN_ANNOTATION)?.clone(),
            kvm: has(KVM_RESOURCE),
            vhost_net: has(VHOST_NET_RESOURCE),
            started: pod
                .status
                .as_ref()
                .is_some_and(|status| started(status, spec.containers.len())),
            view: PodView {
                uid: meta.uid.clone()?,
                node: spec.node_name.clone().unwrap_or_default(),
                leaving: meta.deletion_timestamp.is_some(),
                ..pod.status.as_ref().map(view).unwrap_or_default()
            },
        })
    }
}

fn view(status: &PodStatus) -> PodView {
    let mut ips: Vec<String> = status.pod_ip.iter().cloned().collect();
    for ip in status.pod_ips.iter().flatten().map(|ip| &ip.ip) {
        if !ips.contains(ip) {
            ips.push(ip.clone());
        }
    }
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let end = match status.phase.as_deref() {
        Some("Succeeded") => Some(PodEnd::Succeeded),
        Some("Failed") => Some(PodEnd::Failed),
        // The pod lives until its disk containers ended too; the guest does not.
        _ => compute_exit(status).map(|code| {
            if code == 0 {
                PodEnd::Succeeded
            } else {
                PodEnd::Failed
            }
        }),
    };
    PodView {
        qos_class: status.qos_class.clone(),
        ips,
        ready,
        end,
        ..PodView::default()
    }
}

fn started(status: &PodStatus, containers: usize) -> bool {
    let of = status.container_statuses.iter().flatten();
    of.filter_map(|container| container.state.as_ref())
        .filter(|state| state.running.is_some() || state.terminated.is_some())
        .count()
        == containers
}

fn compute_exit(status: &PodStatus) -> Option<i32> {
    let compute = status
        .container_statuses
        .iter()
        .flatten()
        .find(|status| status.name == COMPUTE_CONTAINER)?;
    Some(compute.state.as_ref()?.terminated.as_ref()?.exit_code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_launcher_pod_is_read() {
        let pod: Pod = from_value(json!({
            "metadata": {
                "namespace": "n", "name": "virt-launcher-a", "uid": "p",
                "deletionTimestamp": "2026-01-02T03:04:05Z",
                "labels": {"kubevirt.io/created-by": "v"},
                "annotations": {"kubevirt.io/domain": "a"}
            },
            "spec": {"containers": [
                {"name": "compute", "resources": {"limits": {"devices.kubevirt.io/kvm": "1"}}}
            ]},
            "status": {
                "phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}, {"ip": "fd00::1"}],
                "containerStatuses": [{"name": "compute", "image": "i", "imageID": "", "ready": false,
                    "restartCount": 0, "state": {"terminated": {"exitCode": 3}}}]
            }
        }))
        .unwrap();
        let info = PodInfo::of(&pod).unwrap();
        assert_eq!((info.vmi_uid.as_str(), info.vmi_name.as_str()), ("v", "a"));
        assert!(info.kvm && !info.vhost_net && info.view.leaving);
        assert!(info.started);
        assert_eq!(info.view.ips, ["10.1.1.1", "fd00::1"]);
        assert_eq!(info.view.end, Some(PodEnd::Failed));
        assert!(PodInfo::of(&Pod::default()).is_none());
    }
}
