//! What all pods of CDI's work share: the image, least privilege, limits and placement.

use api::names::NONROOT_UID;
use serde_json::{Value, json};

use super::cluster::Cluster;

/// The only container of a pod: `/usr/bin/PROGRAM ARGS`, bounded by `resources` unless the
/// configuration has its own.
pub(super) fn container(
    name: &str,
    program: &str,
    args: &[impl AsRef<str>],
    resources: &Value,
    cluster: &Cluster,
) -> Value {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let configured = cluster.config.pod_resource_requirements.as_ref();
    json!({
        "name": name,
        "image": cluster.worker_image,
        "imagePullPolicy": cluster.pull_policy.as_deref().unwrap_or("IfNotPresent"),
        "command": [format!("/usr/bin/{program}")],
        "args": args,
        "resources": configured.map_or(resources.clone(), |own| json!(own)),
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    })
}

/// The pod of `container`; an empty priority class or account is none.
pub(super) fn spec(
    container: &Value,
    volumes: &[Value],
    priority_class: Option<&str>,
    account: Option<&str>,
    cluster: &Cluster,
) -> Value {
    let placement = &cluster.placement;
    let mut spec = json!({
        "containers": [container],
        "volumes": volumes,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        // What an interrupted worker did is done again.
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": NONROOT_UID, "runAsGroup": NONROOT_UID,
            "fsGroup": NONROOT_UID,
        },
        "nodeSelector": placement.node_selector,
        "tolerations": placement.tolerations,
        "imagePullSecrets": cluster.config.image_pull_secrets,
    });
    if let Some(affinity) = &placement.affinity {
        spec["affinity"] = json!(affinity);
    }
    for (field, value) in [
        ("priorityClassName", priority_class),
        ("serviceAccountName", account),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            spec[field] = json!(value);
        }
    }
    spec
}
