//! Admission webhooks, all served by cdi-apiserver. Names and paths are
//! upstream's (CDI pkg/operator/resources/cluster/apiserver.go).
//!
//! Those that look at what users make fail closed. The one for the CDI object
//! fails open: a broken cdi-apiserver must not keep anybody from repairing or
//! removing it, and the operator looks at the object again itself.

use api::cdi::names;
use serde_json::{Value, json};

use super::Config;
use super::endpoints::API_SERVICE;
use super::rbac::CONTROLLER_ACCOUNT;
use crate::operate::reach::{Server, Webhook};

/// One configuration with its one webhook.
struct Hook {
    kind: &'static str,
    configuration: &'static str,
    name: &'static str,
    path: &'static str,
    resources: &'static [&'static str],
    operations: &'static [&'static str],
    scope: &'static str,
    policy: &'static str,
}

const VALIDATING: &str = "ValidatingWebhookConfiguration";
const MUTATING: &str = "MutatingWebhookConfiguration";

const HOOKS: [Hook; 7] = [
    Hook {
        kind: MUTATING,
        configuration: "cdi-api-datavolume-mutate",
        name: "datavolume-mutate.cdi.kubevirt.io",
        path: "/datavolume-mutate",
        resources: &["datavolumes"],
        operations: &["CREATE", "UPDATE"],
        scope: "Namespaced",
        policy: "Fail",
    },
    Hook {
        kind: VALIDATING,
        configuration: "cdi-api-datavolume-validate",
        name: "datavolume-validate.cdi.kubevirt.io",
        path: "/datavolume-validate",
        resources: &["datavolumes"],
        operations: &["CREATE", "UPDATE"],
        scope: "Namespaced",
        policy: "Fail",
    },
    Hook {
        kind: VALIDATING,
        configuration: "cdi-api-populator-validate",
        name: "populator-validate.cdi.kubevirt.io",
        path: "/populator-validate",
        resources: &[
            "volumeimportsources",
            "volumeuploadsources",
            "volumeclonesources",
        ],
        operations: &["CREATE", "UPDATE"],
        scope: "Namespaced",
        policy: "Fail",
    },
    Hook {
        kind: VALIDATING,
        configuration: "cdi-api-dataimportcron-validate",
        name: "dataimportcron-validate.cdi.kubevirt.io",
        path: "/dataimportcron-validate",
        resources: &["dataimportcrons"],
        operations: &["CREATE", "UPDATE"],
        scope: "Namespaced",
        policy: "Fail",
    },
    Hook {
        kind: VALIDATING,
        configuration: "objecttransfer-api-validate",
        name: "objecttransfer-validate.cdi.kubevirt.io",
        path: "/objecttransfer-validate",
        resources: &["objecttransfers"],
        operations: &["CREATE", "UPDATE"],
        scope: "Cluster",
        policy: "Fail",
    },
    // Ours: without it a field that nothing acts on would be accepted and forgotten.
    Hook {
        kind: VALIDATING,
        configuration: "cdi-api-source-validate",
        name: "source-validate.cdi.kubevirt.io",
        path: "/source-validate",
        resources: &["datasources", "storageprofiles"],
        operations: &["CREATE", "UPDATE"],
        scope: "*",
        policy: "Fail",
    },
    Hook {
        kind: VALIDATING,
        configuration: "cdi-api-validate",
        name: "cdi-validate.cdi.kubevirt.io",
        path: "/cdi-validate",
        resources: &["cdis"],
        operations: &["CREATE", "UPDATE", "DELETE"],
        scope: "Cluster",
        policy: "Ignore",
    },
];

/// All configurations.
pub(super) fn objects(config: &Config, server: &Server<'_>) -> Vec<Value> {
    let mut objects: Vec<Value> = HOOKS
        .iter()
        .map(|hook| {
            configuration(
                hook.kind,
                hook.configuration,
                &webhook(hook, config, server),
            )
        })
        .collect();
    objects.push(configuration(
        MUTATING,
        "cdi-api-pvc-mutate",
        &claims(server),
    ));
    objects
}

fn configuration(kind: &str, name: &str, webhook: &Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": { "name": name, "labels": { names::COMPONENT_LABEL: API_SERVICE } },
        "webhooks": [webhook]
    })
}

/// The webhook for new claims. It is asked about those only that want something of ours:
/// a cdi-apiserver that is away keeps nobody else from storage.
fn claims(server: &Server<'_>) -> Value {
    let mut webhook = server.webhook(&Webhook {
        name: "pvc-mutate.cdi.kubevirt.io",
        path: "/pvc-mutate",
        policy: "Fail",
        spared: None,
        rule: json!({
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["persistentvolumeclaims"],
            "scope": "Namespaced"
        }),
    });
    let refers = |field: &str| {
        format!(
            "(has(object.spec.{field}) && has(object.spec.{field}.apiGroup) && object.spec.{field}.apiGroup == '{}')",
            names::GROUP
        )
    };
    let label = names::APPLY_STORAGE_PROFILE;
    webhook["matchConditions"] = json!([{
        "name": "asks-for-something-of-ours",
        "expression": format!(
            "(has(object.metadata.labels) && '{label}' in object.metadata.labels && object.metadata.labels['{label}'] == 'true') || {} || {}",
            refers("dataSource"), refers("dataSourceRef")
        ),
    }]);
    webhook
}

fn webhook(hook: &Hook, config: &Config, server: &Server<'_>) -> Value {
    server.webhook(&Webhook {
        name: hook.name,
        path: hook.path,
        policy: hook.policy,
        spared: spared(hook, config),
        rule: json!({
            "apiGroups": [names::GROUP],
            "apiVersions": [names::VERSION],
            "operations": hook.operations,
            "resources": hook.resources,
            "scope": hook.scope
        }),
    })
}

/// Which updates a webhook is asked about: all, but for changes that
/// cdi-deployment makes. It labels and finalizes objects that users made and
/// that were looked at then; a cdi-apiserver that is away must not stop it.
fn spared(hook: &Hook, config: &Config) -> Option<String> {
    hook.operations.contains(&"UPDATE").then(|| {
        format!(
            "request.userInfo.username != 'system:serviceaccount:{}:{CONTROLLER_ACCOUNT}'",
            config.namespace
        )
    })
}
