//! Accounts of the components, and roles: theirs and those of users.
//!
//! A component gets the verbs that its code uses, no more; a test of the
//! manifest holds that the operator may grant all of this.

use serde_json::{Value, json};

use super::Config;
use crate::operate::rbac::{
    account, aggregate, cluster_binding, cluster_role, front_proxy, group, leases, role, rule,
};

/// Service accounts, by component. Names are upstream's.
pub(super) const API_ACCOUNT: &str = "kubevirt-apiserver";
/// See [`API_ACCOUNT`].
pub(super) const CONTROLLER_ACCOUNT: &str = "kubevirt-controller";
/// See [`API_ACCOUNT`].
pub(super) const HANDLER_ACCOUNT: &str = "kubevirt-handler";

/// All accounts, roles and bindings.
pub(super) fn objects(config: &Config) -> Vec<Value> {
    let namespace = &config.namespace;
    let mut objects = user_roles();
    for (name, rules) in [
        (API_ACCOUNT, api_rules()),
        (CONTROLLER_ACCOUNT, controller_rules()),
        (HANDLER_ACCOUNT, handler_rules()),
    ] {
        objects.extend(account(namespace, name, &rules));
    }
    objects.extend(role(namespace, CONTROLLER_ACCOUNT, &[leases()]));
    // To find a node's handler.
    let pods = rule("", &["pods"], &["get", "list"]);
    objects.extend(role(namespace, API_ACCOUNT, &[pods]));
    objects
}

fn api_rules() -> Vec<Value> {
    vec![
        // Subresources read and patch one object; limits of KubeVirt are lists.
        rule(
            "kubevirt.io",
            &["virtualmachines", "virtualmachineinstances"],
            &["get", "list", "patch"],
        ),
        rule("kubevirt.io", &["virtualmachines/status"], &["patch"]),
        rule("kubevirt.io", &["kubevirts"], &["get", "list", "watch"]),
        rule(
            "authorization.k8s.io",
            &["subjectaccessreviews"],
            &["create"],
        ),
        front_proxy(),
    ]
}

fn controller_rules() -> Vec<Value> {
    vec![
        rule(
            "kubevirt.io",
            &["virtualmachines", "virtualmachineinstances"],
            &["get", "list", "watch", "create", "patch", "delete"],
        ),
        rule("kubevirt.io", &["virtualmachines/status"], &["patch"]),
        // Owner references that block deletion need these.
        rule(
            "kubevirt.io",
            &[
                "virtualmachines/finalizers",
                "virtualmachineinstances/finalizers",
            ],
            &["update"],
        ),
        rule("kubevirt.io", &["kubevirts"], &["get", "list", "watch"]),
        rule(
            "",
            &["pods"],
            &["get", "list", "watch", "create", "patch", "delete"],
        ),
        rule("", &["pods/status"], &["patch"]),
        // A guest waits until its disks have their content.
        rule("", &["persistentvolumeclaims"], &["get", "list", "watch"]),
        rule(
            "cdi.kubevirt.io",
            &["datavolumes"],
            &["get", "list", "watch", "create"],
        ),
        json!({
            "apiGroups": ["apiextensions.k8s.io"],
            "resources": ["customresourcedefinitions"],
            // Whether there is CDI.
            "resourceNames": ["datavolumes.cdi.kubevirt.io"],
            "verbs": ["get", "list", "watch"]
        }),
        // Their heartbeat; a silent node is no place for a guest.
        rule("", &["nodes"], &["get", "list", "watch", "patch"]),
        rule("", &["events"], &["create", "patch"]),
    ]
}

fn handler_rules() -> Vec<Value> {
    vec![
        rule(
            "kubevirt.io",
            &["virtualmachineinstances"],
            &["get", "list", "watch", "patch"],
        ),
        rule("", &["pods"], &["get", "list", "watch"]),
        rule("", &["nodes"], &["get", "patch"]),
        rule("", &["events"], &["create", "patch"]),
    ]
}

/// Roles for people: `default` for everybody who is known, the others are
/// added to the cluster's own admin, edit and view.
fn user_roles() -> Vec<Value> {
    let read = ["get", "list", "watch"];
    let write = [
        "get", "delete", "create", "update", "patch", "list", "watch",
    ];
    let all = [
        "get",
        "delete",
        "create",
        "update",
        "patch",
        "list",
        "watch",
        "deletecollection",
    ];
    let kinds = ["virtualmachines", "virtualmachineinstances"];
    let used = [
        rule(
            "subresources.kubevirt.io",
            &[
                "virtualmachineinstances/console",
                "virtualmachineinstances/vnc",
                "virtualmachineinstances/portforward",
                "virtualmachines/expand-spec",
                "virtualmachines/portforward",
            ],
            &["get"],
        ),
        rule(
            "subresources.kubevirt.io",
            &[
                "virtualmachineinstances/pause",
                "virtualmachineinstances/unpause",
                "virtualmachines/start",
                "virtualmachines/stop",
                "virtualmachines/restart",
                "expand-vm-spec",
            ],
            &["update"],
        ),
    ];
    let with = |rules: Vec<Value>| [used.to_vec(), rules].concat();
    let mut default = cluster_role(
        "kubevirt.io:default",
        &json!({ "kubernetes.io/bootstrapping": "rbac-defaults" }),
        &[
            rule("kubevirt.io", &["kubevirts"], &["get", "list"]),
            rule(
                "subresources.kubevirt.io",
                &["version", "guestfs"],
                &["get", "list"],
            ),
        ],
    );
    let mut binding = cluster_binding("kubevirt.io:default", &[group("system:authenticated")]);
    for object in [&mut default, &mut binding] {
        object["metadata"]["annotations"] =
            json!({ "rbac.authorization.kubernetes.io/autoupdate": "true" });
    }
    vec![
        default,
        binding,
        cluster_role(
            "kubevirt.io:admin",
            &aggregate("admin"),
            &with(vec![rule("kubevirt.io", &kinds, &all)]),
        ),
        cluster_role(
            "kubevirt.io:edit",
            &aggregate("edit"),
            &with(vec![
                rule("kubevirt.io", &kinds, &write),
                rule("kubevirt.io", &["kubevirts"], &["get", "list"]),
            ]),
        ),
        cluster_role(
            "kubevirt.io:view",
            &aggregate("view"),
            &[
                rule("kubevirt.io", &["kubevirts"], &["get", "list"]),
                rule("kubevirt.io", &kinds, &read),
                rule(
                    "subresources.kubevirt.io",
                    &["virtualmachines/expand-spec"],
                    &["get"],
                ),
                rule("subresources.kubevirt.io", &["expand-vm-spec"], &["update"]),
            ],
        ),
    ]
}
