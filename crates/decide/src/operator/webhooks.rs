//! Admission webhooks, all served by virt-api. Names and paths are upstream's.
//!
//! Those for virtual machines fail closed: what virt-api cannot look at is not
//! let in. Those for the KubeVirt object fail open, for a broken virt-api must
//! not keep anybody from repairing or removing the deployment; the operator
//! looks at the object again itself.

use api::names;
use serde_json::{Value, json};

use super::Config;
use super::endpoints::ca_bundle;
use super::rbac::{API_ACCOUNT, CONTROLLER_ACCOUNT, HANDLER_ACCOUNT};
use super::workloads::API;

/// One webhook.
struct Hook {
    name: &'static str,
    path: &'static str,
    resource: &'static str,
    operations: &'static [&'static str],
    policy: &'static str,
}

const MUTATING: [Hook; 2] = [
    Hook {
        name: "virtualmachines-mutator.kubevirt.io",
        path: "/virtualmachines-mutate",
        resource: "virtualmachines",
        operations: &["CREATE", "UPDATE"],
        policy: "Fail",
    },
    Hook {
        name: "virtualmachineinstances-mutator.kubevirt.io",
        path: "/virtualmachineinstances-mutate",
        resource: "virtualmachineinstances",
        operations: &["CREATE", "UPDATE"],
        policy: "Fail",
    },
];

const VALIDATING: [Hook; 5] = [
    Hook {
        name: "virtualmachineinstances-create-validator.kubevirt.io",
        path: "/virtualmachineinstances-validate-create",
        resource: "virtualmachineinstances",
        operations: &["CREATE"],
        policy: "Fail",
    },
    Hook {
        name: "virtualmachineinstances-update-validator.kubevirt.io",
        path: "/virtualmachineinstances-validate-update",
        resource: "virtualmachineinstances",
        operations: &["UPDATE"],
        policy: "Fail",
    },
    Hook {
        name: "virtualmachine-validator.kubevirt.io",
        path: "/virtualmachines-validate",
        resource: "virtualmachines",
        operations: &["CREATE", "UPDATE"],
        policy: "Fail",
    },
    Hook {
        name: "kubevirt-create-validator.kubevirt.io",
        path: "/kubevirt-validate-create",
        resource: "kubevirts",
        operations: &["CREATE"],
        policy: "Ignore",
    },
    Hook {
        name: "kubevirt-update-validator.kubevirt.io",
        path: "/kubevirt-validate-update",
        resource: "kubevirts",
        operations: &["UPDATE"],
        policy: "Ignore",
    },
];

/// Deletion of the KubeVirt object, apart for its own path.
const DELETION: Hook = Hook {
    name: "kubevirt-validator.kubevirt.io",
    path: "/kubevirt-validate-delete",
    resource: "kubevirts",
    operations: &["DELETE"],
    policy: "Ignore",
};

/// Which requests a webhook is asked about: all, but for changes that our own
/// components make to virtual machines. Those are status for the most part (an
/// instance has no status subresource); asking about each would cost two calls
/// for every step of a start, and would stop the handlers from telling what
/// runs while no virt-api is there to answer.
fn conditions(hook: &Hook, config: &Config) -> Value {
    if !hook.operations.contains(&"UPDATE") || hook.resource == "kubevirts" {
        return json!([]);
    }
    let own: Vec<String> = [API_ACCOUNT, CONTROLLER_ACCOUNT, HANDLER_ACCOUNT]
        .iter()
        .map(|account| format!("'system:serviceaccount:{}:{account}'", config.namespace))
        .collect();
    json!([{
        "name": "not-an-update-of-our-own",
        "expression": format!(
            "request.operation != 'UPDATE' || !(request.userInfo.username in [{}])",
            own.join(", ")
        )
    }])
}

/// Both configurations.
pub(super) fn objects(config: &Config, pem: &str) -> [Value; 2] {
    let mutating: Vec<Value> = MUTATING
        .iter()
        .map(|hook| webhook(hook, config, pem))
        .collect();
    let validating: Vec<Value> = VALIDATING
        .iter()
        .chain([&DELETION])
        .map(|hook| webhook(hook, config, pem))
        .collect();
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": "virt-api-mutator" },
            "webhooks": mutating
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": "virt-api-validator" },
            "webhooks": validating
        }),
    ]
}

fn webhook(hook: &Hook, config: &Config, pem: &str) -> Value {
    json!({
        "name": hook.name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": hook.policy,
        "timeoutSeconds": 10,
        "clientConfig": {
            "caBundle": ca_bundle(pem),
            "service": { "name": API, "namespace": config.namespace, "path": hook.path, "port": 443 }
        },
        "matchConditions": conditions(hook, config),
        "rules": [{
            "apiGroups": [names::GROUP],
            // Objects are sent as they were written, so that a message names
            // the field that its author knows.
            "apiVersions": [names::VERSION, "v1alpha3"],
            "operations": hook.operations,
            "resources": [hook.resource],
            "scope": "Namespaced"
        }]
    })
}
