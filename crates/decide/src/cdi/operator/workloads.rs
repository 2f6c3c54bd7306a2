//! The pods: cdi-apiserver, cdi-deployment and cdi-uploadproxy.

use api::cdi::{CDI, CdiNodePlacement, names};
use serde_json::{Value, json};

use super::Config;
use super::endpoints::POD_PORT;
use super::rbac::{API_ACCOUNT, CONTROLLER_ACCOUNT, PROXY_ACCOUNT};
use crate::operate::pods::{PRIORITY, Pod, USER, args, place, unprivileged};

/// Tokens and admission.
pub(super) const API: &str = "cdi-apiserver";
/// The deployments, in the order of their names.
pub const DEPLOYMENTS: [&str; 3] = [API, names::CONTROLLER, names::UPLOAD_PROXY];

/// Where certificates and bundles are mounted, each in a directory of its name.
const CERTS_DIR: &str = "/var/run/certs";
/// Plain HTTP port for probes and metrics of cdi-deployment.
const HEALTH_PORT: u16 = 8080;
/// What one program is expected to use.
const CPU_REQUEST: &str = "5m";

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
            secrets: &[
                (names::UPLOAD_SERVER_SIGNER, None),
                // By it tokens of clones are known.
                ("cdi-api-signing-key", Some("id_rsa.pub")),
            ],
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

fn deployment(config: &Config, cdi: &CDI, program: &Program) -> Value {
    let labels = json!({
        names::COMPONENT_LABEL: program.name,
        names::APP_LABEL: names::APP,
        "app.kubernetes.io/component": "storage",
    });
    let mut pod = pod(config, cdi, program);
    unprivileged(&mut pod);
    // What the kubelet mounts is the program's to read.
    pod["securityContext"]["fsGroup"] = json!(USER);
    if let Some(infra) = &cdi.spec.infra {
        let CdiNodePlacement {
            node_selector,
            affinity,
            tolerations,
        } = &infra.placement;
        place(&mut pod, node_selector, affinity.as_ref(), tolerations);
    }
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
    let pod = Pod {
        name: program.name,
        account: program.account,
        priority: cdi.spec.priority_class.as_deref().unwrap_or(PRIORITY),
        image: &config.image,
        pull_policy: cdi.spec.image_pull_policy.as_deref(),
        command: program.command,
        args: &program.args,
        fields: &[
            ("POD_NAME", "metadata.name"),
            ("POD_NAMESPACE", "metadata.namespace"),
        ],
        health: program.health,
        cpu: CPU_REQUEST,
        mounts,
        volumes,
    };
    pod.spec()
}
