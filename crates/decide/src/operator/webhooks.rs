//! Admission webhooks, all served by virt-api. Names and paths are upstream's.
//!
//! Those for virtual machines fail closed: what virt-api cannot look at is not
//! let in. Those for the KubeVirt object fail open, for a broken virt-api must
//! not keep anybody from repairing or removing the deployment; the operator
//! looks at the object again itself.

use api::names;
use serde_json::{Value, json};

use super::Config;
use super::rbac::{API_ACCOUNT, CONTROLLER_ACCOUNT, HANDLER_ACCOUNT};
use crate::operate::reach::{Server, Webhook};

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

/// Which updates a webhook is asked about: all, but for changes that our own
/// components make to virtual machines. Those are status for the most part (an
/// instance has no status subresource); asking about each would cost two calls
/// for every step of a start, and would stop the handlers from telling what
/// runs while no virt-api is there to answer.
fn spared(hook: &Hook, config: &Config) -> Option<String> {
    if !hook.operations.contains(&"UPDATE") || hook.resource == "kubevirts" {
        return None;
    }
    let own: Vec<String> = [API_ACCOUNT, CONTROLLER_ACCOUNT, HANDLER_ACCOUNT]
        .iter()
        .map(|account| format!("'system:serviceaccount:{}:{account}'", config.namespace))
        .collect();
    Some(format!(
        "!(request.userInfo.username in [{}])",
        own.join(", ")
    ))
}

/// Both configurations.
pub(super) fn objects(config: &Config, server: &Server<'_>) -> [Value; 2] {
    let all = |hooks: &[&[Hook]]| -> Vec<Value> {
        let hooks = hooks.iter().copied().flatten();
        hooks.map(|hook| webhook(hook, config, server)).collect()
    };
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": "virt-api-mutator" },
            "webhooks": all(&[&MUTATING])
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": "virt-api-validator" },
            "webhooks": all(&[&VALIDATING, &[DELETION]])
        }),
    ]
}

fn webhook(hook: &Hook, config: &Config, server: &Server<'_>) -> Value {
    server.webhook(&Webhook {
        name: hook.name,
        path: hook.path,
        policy: hook.policy,
        spared: spared(hook, config),
        rule: json!({
            "apiGroups": [names::GROUP],
            // Objects are sent as they were written, so that a message names
            // the field that its author knows.
            "apiVersions": [names::VERSION, "v1alpha3"],
            "operations": hook.operations,
            "resources": [hook.resource],
            "scope": "Namespaced"
        }),
    })
}
