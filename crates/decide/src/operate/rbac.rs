//! Accounts, roles and bindings.

use serde_json::{Value, json};

/// Group of the rules about roles.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// A rule from its lists.
pub(crate) fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}

/// Leader election.
pub(crate) fn leases() -> Value {
    rule(
        "coordination.k8s.io",
        &["leases"],
        &["get", "create", "patch"],
    )
}

/// How the API server's front proxy proves itself.
pub(crate) fn front_proxy() -> Value {
    json!({
        "apiGroups": [""], "resources": ["configmaps"],
        "resourceNames": ["extension-apiserver-authentication"],
        "verbs": ["get", "list", "watch"]
    })
}

/// The account of a component, and what it may do in the whole cluster.
pub(crate) fn account(namespace: &str, account: &str, rules: &[Value]) -> [Value; 3] {
    [
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": account, "namespace": namespace }
        }),
        cluster_role(account, &json!({}), rules),
        cluster_binding(account, &[subject(namespace, account)]),
    ]
}

/// What an account may do in the namespace only.
pub(crate) fn role(namespace: &str, account: &str, rules: &[Value]) -> [Value; 2] {
    let metadata = json!({ "name": account, "namespace": namespace });
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": metadata, "rules": rules
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": GROUP, "kind": "Role", "name": account },
            "subjects": [subject(namespace, account)]
        }),
    ]
}

/// A role in the whole cluster.
pub(crate) fn cluster_role(name: &str, labels: &Value, rules: &[Value]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": name, "labels": labels },
        "rules": rules
    })
}

/// Gives the cluster role `name` to `subjects`.
pub(crate) fn cluster_binding(name: &str, subjects: &[Value]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": name },
        "subjects": subjects
    })
}

/// Label by which a cluster role adds to one of the cluster's own.
pub(crate) fn aggregate(to: &str) -> Value {
    json!({ format!("{GROUP}/aggregate-to-{to}"): "true" })
}

/// All users of a group.
pub(crate) fn group(name: &str) -> Value {
    json!({ "kind": "Group", "apiGroup": GROUP, "name": name })
}

fn subject(namespace: &str, account: &str) -> Value {
    json!({ "kind": "ServiceAccount", "name": account, "namespace": namespace })
}
