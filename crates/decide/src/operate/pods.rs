//! Pods of components.
//!
//! A startup probe looks every second, so that a pod counts as soon as it
//! works; readiness and liveness are then looked at rarely, because a probe of
//! an idle component is most of what it does.

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use serde_json::{Value, json};

/// User of components that need no privilege.
pub(crate) const USER: u32 = 1001;
/// Priority class that the operators' manifests make.
pub(crate) const PRIORITY: &str = "kubevirt-cluster-critical";
/// What one component is expected to use, with room to spare.
const MEMORY_REQUEST: &str = "16Mi";

/// Flags and their values.
pub(crate) fn args(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()])
        .collect()
}

/// What sets one component's pods apart from another's.
pub(crate) struct Pod<'a> {
    /// Name of the container.
    pub(crate) name: &'a str,
    pub(crate) account: &'a str,
    pub(crate) priority: &'a str,
    pub(crate) image: &'a str,
    /// `IfNotPresent` when there is none.
    pub(crate) pull_policy: Option<&'a str>,
    /// The executable, in /usr/bin.
    pub(crate) command: &'a str,
    pub(crate) args: &'a [String],
    /// Variables, and the fields of the pod that they are.
    pub(crate) fields: &'a [(&'a str, &'a str)],
    /// Port and scheme for probes and metrics.
    pub(crate) health: (u16, &'a str),
    /// CPU request: the component's weight against guests.
    pub(crate) cpu: &'a str,
    /// Where volumes are mounted.
    pub(crate) mounts: Vec<Value>,
    pub(crate) volumes: Vec<Value>,
}

impl Pod<'_> {
    /// The pod's spec, without what says where it may run and what it may do.
    pub(crate) fn spec(&self) -> Value {
        json!({
            "serviceAccountName": self.account,
            "enableServiceLinks": false,
            "priorityClassName": self.priority,
            "terminationGracePeriodSeconds": 10,
            "nodeSelector": { "kubernetes.io/os": "linux" },
            "containers": [self.container()],
            "volumes": self.volumes,
        })
    }

    fn container(&self) -> Value {
        let (port, scheme) = self.health;
        let probe = |path: &str, period: u32, timeout: u32, failures: u32| {
            json!({
                "httpGet": { "path": path, "port": port, "scheme": scheme },
                "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures
            })
        };
        let field = |(name, path): &(&str, &str)| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
        let mut variables: Vec<Value> = self.fields.iter().map(field).collect();
        // glibc keeps an arena for each thread and gives nothing back below
        // 128 KiB; one arena and early trimming suit components of one thread
        // that are idle most of the time.
        variables.extend([
            json!({ "name": "MALLOC_ARENA_MAX", "value": "1" }),
            json!({ "name": "MALLOC_TRIM_THRESHOLD_", "value": "65536" }),
        ]);
        json!({
            "name": self.name,
            "image": self.image,
            "imagePullPolicy": self.pull_policy.unwrap_or("IfNotPresent"),
            "command": [format!("/usr/bin/{}", self.command)],
            "args": self.args,
            "env": variables,
            "ports": [{ "name": "metrics", "containerPort": port, "protocol": "TCP" }],
            "startupProbe": probe("/readyz", 1, 5, 120),
            "readinessProbe": probe("/readyz", 30, 5, 2),
            "livenessProbe": probe("/healthz", 60, 10, 3),
            "resources": { "requests": { "cpu": self.cpu, "memory": MEMORY_REQUEST } },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": self.mounts,
        })
    }
}

/// Takes from a pod what a component without privilege does not need, and lets
/// it run beside a control plane.
pub(crate) fn unprivileged(pod: &mut Value) {
    pod["securityContext"] = json!({
        "runAsNonRoot": true, "runAsUser": USER, "seccompProfile": { "type": "RuntimeDefault" }
    });
    pod["containers"][0]["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] }
    });
    pod["tolerations"] = json!([
        { "key": "CriticalAddonsOnly", "operator": "Exists" },
        { "key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule" }
    ]);
}

/// The user's placement: labels and tolerations are added, affinity replaces.
pub(crate) fn place<'a>(
    pod: &mut Value,
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
    affinity: Option<&Affinity>,
    tolerations: &[Toleration],
) {
    for (label, value) in labels {
        pod["nodeSelector"][label] = json!(value);
    }
    if let Some(affinity) = affinity {
        pod["affinity"] = json!(affinity);
    }
    if let Value::Array(all) = &mut pod["tolerations"] {
        all.extend(tolerations.iter().map(|one| json!(one)));
    }
}
