//! The pods: cdi-apiserver, cdi-deployment and cdi-uploadproxy.
//!
//! A startup probe looks every second, so that a pod counts as soon as it
//! works; readiness and liveness are then looked at rarely, because a probe of
//! an idle program is most of what it does.

use api::cdi::{CDI, CdiNodePlacement, names};
use serde_json::{Value, json};

use super::Config;
use super::endpoints::POD_PORT;
use super::rbac::{API_ACCOUNT, CONTROLLER_ACCOUNT, PROXY_ACCOUNT};

/// Tokens and admission.
pub(super) const API: &str = "cdi-apiserver";
/// The deployments, in the order of their names.
pub const DEPLOYMENTS: [&str; 3] = [API, names::CONTROLLER, names::UPLOAD_PROXY];

/// Where certificates and bundles are mounted, each in a directory of its name.
const CERTS_DIR: &str = "/var/run/certs";
/// Plain HTTP port for probes and metrics of cdi-deployment.
const HEALTH_PORT: u16 = 8080;
/// User of programs that need no privilege.
const USER: u32 = 1001;
/// Priority class that the operator's manifest makes.
const PRIORITY: &str = "kubevirt-cluster-critical";
/// What one program is expected to use, with room to spare.
const MEMORY_REQUEST: &str = "16Mi";

/// What sets one program apart from another.
struct Program {
    name: &'static str,
    /// The executable.
    command: &'static str,
    account: &'static str,
    replicas: Option<i32>,
    args: Vec<String>,
    /// Port and scheme for probes.
    health: (u16, &'static str),
    /// Secrets that are mounted, and the key if it is only one of them.
    secrets: &'static [(&'static str, Option<&'static str>)],
    /// ConfigMaps that are mounted.
    bundles: &'static [&'static str],
}

/// All deployments.
pub(super) fn objects(config: &Config, cdi: &CDI) -> Vec<Value> {
    let infra = cdi.spec.infra.clone().unwrap_or_default();
    [
        Program {
            name: API,
            command: API,
            account: API_ACCOUNT,
            replicas: infra.api_server_replicas,
            args: args(&[
                ("--port", &POD_PORT.to_string()),
                ("--namespace", &config.namespace),
            ]),
            health: (POD_PORT, "HTTPS"),
            secrets: &[("cdi-apiserver-server-cert", None)],
            bundles: &[],
        },
        Program {
            name: names::CONTROLLER,
            command: "cdi-controller",
            account: CONTROLLER_ACCOUNT,
            replicas: infra.deployment_replicas,
            args: args(&[
                ("--worker-image", &config.image),
                ("--namespace", &config.namespace),
                ("--health-port", &HEALTH_PORT.to_string()),
            ]),
            health: (HEALTH_PORT, "HTTP"),
            secrets: &[(names::UPLOAD_SERVER_SIGNER, None)],
            bundles: &[names::UPLOAD_CLIENT_CA_BUNDLE],
        },
        Program {
            name: names::UPLOAD_PROXY,
            command: names::UPLOAD_PROXY,
            account: PROXY_ACCOUNT,
            replicas: infra.upload_proxy_replicas,
            args: args(&[("--port", &POD_PORT.to_string())]),
            health: (POD_PORT, "HTTPS"),
            secrets: &[
                ("cdi-uploadproxy-server-cert", None),
                ("cdi-uploadserver-client-cert", None),
                // Only the public half goes where clients' bytes go.
                ("cdi-api-signing-key", Some("id_rsa.pub")),
            ],
            bundles: &["cdi-uploadserver-signer-bundle"],
        },
    ]
    .iter()
    .map(|program| deployment(config, cdi, program))
    .collect()
}

fn args(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()])
        .collect()
}

fn deployment(config: &Config, cdi: &CDI, program: &Program) -> Value {
    let labels = json!({
        names::COMPONENT_LABEL: program.name,
        names::APP_LABEL: names::APP,
        "app.kubernetes.io/component": "storage",
    });
    let placement = cdi.spec.infra.as_ref().map(|infra| &infra.placement);
    let mut pod = pod(config, cdi, program);
    place(&mut pod, placement);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": program.name, "namespace": config.namespace, "labels": labels },
        "spec": {
            "replicas": program.replicas.unwrap_or(1).max(1),
            "revisionHistoryLimit": 2,
            "selector": { "matchLabels": { names::COMPONENT_LABEL: program.name } },
            "template": { "metadata": { "labels": labels }, "spec": pod }
        }
    })
}

fn pod(config: &Config, cdi: &CDI, program: &Program) -> Value {
    let (port, scheme) = program.health;
    let probe = |path: &str, period: u32, timeout: u32, failures: u32| {
        json!({
            "httpGet": { "path": path, "port": port, "scheme": scheme },
            "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures
        })
    };
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mount = |name: &str| json!({ "name": name, "mountPath": format!("{CERTS_DIR}/{name}"), "readOnly": true });
    let mut mounts = Vec::new();
    let mut volumes = Vec::new();
    for (secret, key) in program.secrets {
        let mut source = json!({ "secretName": secret });
        if let Some(key) = key {
            source["items"] = json!([{ "key": key, "path": key }]);
        }
        mounts.push(mount(secret));
        volumes.push(json!({ "name": secret, "secret": source }));
    }
    for bundle in program.bundles {
        mounts.push(mount(bundle));
        volumes.push(json!({ "name": bundle, "configMap": { "name": bundle } }));
    }
    json!({
        "serviceAccountName": program.account,
        "enableServiceLinks": false,
        "priorityClassName": cdi.spec.priority_class.as_deref().unwrap_or(PRIORITY),
        "terminationGracePeriodSeconds": 10,
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "tolerations": [
            { "key": "CriticalAddonsOnly", "operator": "Exists" },
            { "key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule" }
        ],
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "fsGroup": USER,
            "seccompProfile": { "type": "RuntimeDefault" }
        },
        "containers": [{
            "name": program.name,
            "image": config.image,
            "imagePullPolicy": cdi.spec.image_pull_policy.as_deref().unwrap_or("IfNotPresent"),
            "command": [format!("/usr/bin/{}", program.command)],
            "args": program.args,
            "env": [
                field("POD_NAME", "metadata.name"),
                field("POD_NAMESPACE", "metadata.namespace"),
                // One allocator arena and early trimming: these programs have
                // one thread and are idle most of the time.
                { "name": "MALLOC_ARENA_MAX", "value": "1" },
                { "name": "MALLOC_TRIM_THRESHOLD_", "value": "65536" },
            ],
            "ports": [{ "name": "metrics", "containerPort": port, "protocol": "TCP" }],
            "startupProbe": probe("/readyz", 1, 5, 120),
            "readinessProbe": probe("/readyz", 30, 5, 2),
            "livenessProbe": probe("/healthz", 60, 10, 3),
            "resources": { "requests": { "cpu": "5m", "memory": MEMORY_REQUEST } },
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] }
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    })
}

/// The user's placement: labels and tolerations are added, affinity is his.
fn place(pod: &mut Value, placement: Option<&CdiNodePlacement>) {
    let Some(placement) = placement else {
        return;
    };
    for (label, value) in &placement.node_selector {
        pod["nodeSelector"][label] = json!(value);
    }
    if let Some(affinity) = &placement.affinity {
        pod["affinity"] = json!(affinity);
    }
    if let Value::Array(tolerations) = &mut pod["tolerations"] {
        tolerations.extend(placement.tolerations.iter().map(|one| json!(one)));
    }
}
