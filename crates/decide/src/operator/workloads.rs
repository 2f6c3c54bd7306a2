//! The pods: virt-api, virt-controller and virt-handler, and their disruption
//! budgets.

use api::KubeVirt;
use api::kubevirt::{ComponentConfig, NodePlacement};
use api::names;
use serde_json::{Value, json};

use super::Config;
use super::endpoints::{API_PORT, CA_CONFIG_MAP};
use super::rbac::{API_ACCOUNT, CONTROLLER_ACCOUNT, HANDLER_ACCOUNT};
use crate::operate::pods::{PRIORITY, Pod, args, place, unprivileged};

/// The aggregated API server and admission webhooks.
pub const API: &str = "virt-api";
/// The controller of VMs and instances.
pub const CONTROLLER: &str = "virt-controller";
/// The node's agent.
pub const HANDLER: &str = "virt-handler";

/// Replicas unless `spec.infra.replicas` says another number.
const REPLICAS: i32 = 2;
/// Plain HTTP port for probes and metrics of virt-controller.
const CONTROLLER_HEALTH_PORT: u16 = 8080;
/// Plain HTTP port for probes and metrics of virt-handler.
const HANDLER_HEALTH_PORT: u16 = 8187;
/// Where the authorities' bundle is mounted.
const CA_DIR: &str = "/etc/kubevirt/ca";
/// The weight of a component against guests, each of which asks for 100m: with 5m, which is what
/// one uses, twenty guests that boot on two processors keep it from its turn for seconds.
const CPU_REQUEST: &str = "25m";

/// What sets one component apart from another.
struct Component {
    name: &'static str,
    account: &'static str,
    args: Vec<String>,
    /// Port, scheme and name of the port for probes.
    health: (u16, &'static str),
    /// Secrets with certificates, and where they are mounted.
    certificates: &'static [(&'static str, &'static str)],
    /// Whether the authorities' bundle is mounted.
    trusts: bool,
}

/// Deployments, the daemon set and disruption budgets.
pub(super) fn objects(config: &Config, kubevirt: &KubeVirt) -> Vec<Value> {
    let replicas = kubevirt
        .spec
        .infra
        .as_ref()
        .and_then(|infra| infra.replicas)
        .unwrap_or(REPLICAS)
        .max(1);
    let mut objects = Vec::new();
    for component in [api(), controller(config)] {
        objects.push(deployment(config, kubevirt, &component, replicas));
        // One of one could never be evicted: upstream makes no budget then.
        if replicas > 1 {
            objects.push(budget(config, component.name, replicas - 1));
        }
    }
    objects.push(daemon_set(config, kubevirt));
    objects
}

fn api() -> Component {
    Component {
        name: API,
        account: API_ACCOUNT,
        args: args(&[
            ("--port", &API_PORT.to_string()),
            ("--cert-dir", "/etc/virt-api/certificates"),
            ("--client-cert-dir", "/etc/virt-api/clientcertificates"),
            ("--ca-dir", CA_DIR),
        ]),
        health: (API_PORT, "HTTPS"),
        certificates: &[
            ("kubevirt-virt-api-certs", "/etc/virt-api/certificates"),
            (
                "kubevirt-virt-handler-certs",
                "/etc/virt-api/clientcertificates",
            ),
        ],
        trusts: true,
    }
}

fn controller(config: &Config) -> Component {
    Component {
        name: CONTROLLER,
        account: CONTROLLER_ACCOUNT,
        args: args(&[
            ("--launcher-image", &config.launcher_image),
            ("--namespace", &config.namespace),
            ("--health-port", &CONTROLLER_HEALTH_PORT.to_string()),
        ]),
        health: (CONTROLLER_HEALTH_PORT, "HTTP"),
        certificates: &[],
        trusts: false,
    }
}

fn handler(kubevirt: &KubeVirt) -> Component {
    let mut handler_args = args(&[
        ("--node-name", "$(NODE_NAME)"),
        ("--port", &names::HANDLER_PORT.to_string()),
        ("--cert-dir", "/etc/virt-handler/servercertificates"),
        ("--ca-dir", CA_DIR),
        ("--health-port", &HANDLER_HEALTH_PORT.to_string()),
    ]);
    if let Some(guests) = kubevirt
        .spec
        .configuration
        .virtual_machine_instances_per_node
    {
        handler_args.extend(args(&[("--max-devices", &guests.to_string())]));
    }
    Component {
        name: HANDLER,
        account: HANDLER_ACCOUNT,
        args: handler_args,
        health: (HANDLER_HEALTH_PORT, "HTTP"),
        certificates: &[(
            "kubevirt-virt-handler-server-certs",
            "/etc/virt-handler/servercertificates",
        )],
        trusts: true,
    }
}

fn deployment(config: &Config, kubevirt: &KubeVirt, component: &Component, replicas: i32) -> Value {
    let mut pod = pod(config, kubevirt, component);
    unprivileged(&mut pod);
    // Upstream requires a control-plane node and so stays Pending on clusters
    // that show none; preferring one works on both.
    pod["affinity"] = json!({
        "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "preference": { "matchExpressions": [
                { "key": "node-role.kubernetes.io/control-plane", "operator": "Exists" }
            ] }
        }] },
        "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 1,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": { "matchLabels": { names::APP_LABEL: component.name } }
            }
        }] }
    });
    placed(&mut pod, kubevirt.spec.infra.as_ref());
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": metadata(config, component.name),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 2,
            "selector": { "matchLabels": { names::APP_LABEL: component.name } },
            "template": { "metadata": template_metadata(config, component.name), "spec": pod }
        }
    })
}

fn daemon_set(config: &Config, kubevirt: &KubeVirt) -> Value {
    let component = handler(kubevirt);
    let mut pod = pod(config, kubevirt, &component);
    pod["hostPID"] = json!(true);
    // A node with virtual machines keeps its handler, whatever its taints.
    pod["tolerations"] = json!([
        { "key": "CriticalAddonsOnly", "operator": "Exists" },
        { "operator": "Exists", "effect": "NoSchedule" }
    ]);
    let container = &mut pod["containers"][0];
    container["securityContext"] =
        json!({ "privileged": true, "runAsUser": 0, "readOnlyRootFilesystem": true });
    // The node's /dev is mounted over the container's, where the default file
    // would then be made.
    container["terminationMessagePath"] = json!("/run/termination-log");
    for (name, path) in [
        ("kubelet-pods", "/var/lib/kubelet/pods"),
        ("device-plugins", "/var/lib/kubelet/device-plugins"),
        ("dev", "/dev"),
        ("kubevirt", "/var/lib/kubevirt"),
    ] {
        push(
            &mut pod["containers"][0]["volumeMounts"],
            json!({ "name": name, "mountPath": path }),
        );
        push(
            &mut pod["volumes"],
            json!({ "name": name, "hostPath": { "path": path, "type": if name == "kubevirt" { "DirectoryOrCreate" } else { "Directory" } } }),
        );
    }
    placed(&mut pod, kubevirt.spec.workloads.as_ref());
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": metadata(config, component.name),
        "spec": {
            "revisionHistoryLimit": 2,
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
            "selector": { "matchLabels": { names::APP_LABEL: component.name } },
            "template": { "metadata": template_metadata(config, component.name), "spec": pod }
        }
    })
}

/// What all pods share.
fn pod(config: &Config, kubevirt: &KubeVirt, component: &Component) -> Value {
    let mut mounts = Vec::new();
    let mut volumes = Vec::new();
    for (secret, path) in component.certificates {
        mounts.push(json!({ "name": secret, "mountPath": path, "readOnly": true }));
        volumes.push(json!({ "name": secret, "secret": { "secretName": secret } }));
    }
    if component.trusts {
        mounts.push(json!({ "name": "ca", "mountPath": CA_DIR, "readOnly": true }));
        volumes.push(json!({ "name": "ca", "configMap": { "name": CA_CONFIG_MAP } }));
    }
    let pod = Pod {
        name: component.name,
        account: component.account,
        priority: PRIORITY,
        image: &config.image,
        pull_policy: kubevirt.spec.image_pull_policy.as_deref(),
        command: component.name,
        args: &component.args,
        fields: &[
            ("NODE_NAME", "spec.nodeName"),
            ("POD_NAME", "metadata.name"),
            ("POD_NAMESPACE", "metadata.namespace"),
            ("POD_IP", "status.podIP"),
        ],
        health: component.health,
        cpu: CPU_REQUEST,
        mounts,
        volumes,
    };
    pod.spec()
}

fn budget(config: &Config, name: &str, available: i32) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": format!("{name}-pdb"), "namespace": config.namespace, "labels": { names::APP_LABEL: name } },
        "spec": { "minAvailable": available, "selector": { "matchLabels": { names::APP_LABEL: name } } }
    })
}

fn metadata(config: &Config, name: &str) -> Value {
    json!({
        "name": name, "namespace": config.namespace,
        "labels": { names::APP_LABEL: name, "app.kubernetes.io/name": name }
    })
}

fn template_metadata(config: &Config, name: &str) -> Value {
    json!({
        "labels": { names::APP_LABEL: name, "app.kubernetes.io/name": name, "app.kubernetes.io/component": "kubevirt" },
        "annotations": { "kubevirt.io/install-strategy-version": config.version }
    })
}

/// Places a pod as the user wants those of `component`.
fn placed(pod: &mut Value, component: Option<&ComponentConfig>) {
    let Some(NodePlacement {
        node_selector,
        affinity,
        tolerations,
    }) = component.and_then(|component| component.node_placement.as_ref())
    else {
        return;
    };
    place(
        pod,
        node_selector.iter().flatten(),
        affinity.as_ref(),
        tolerations.as_deref().unwrap_or_default(),
    );
}

fn push(list: &mut Value, item: Value) {
    if let Value::Array(items) = list {
        items.push(item);
    }
}
