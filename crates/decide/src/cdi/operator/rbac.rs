//! Accounts of the programs, and roles: theirs and those of users.
//!
//! A program gets the verbs that its code uses, no more; a test of the
//! manifest holds that the operator may grant all of this. Names are
//! upstream's (CDI pkg/operator/resources/cluster/rbac.go).

use api::cdi::names::{GROUP, UPLOAD_GROUP};
use api::upload;
use serde_json::{Value, json};

use super::Config;

/// Service account of cdi-apiserver.
pub(super) const API_ACCOUNT: &str = "cdi-apiserver";
/// Service account of cdi-deployment.
pub(super) const CONTROLLER_ACCOUNT: &str = "cdi-sa";
/// Service account of cdi-uploadproxy.
pub(super) const PROXY_ACCOUNT: &str = "cdi-uploadproxy";

/// Group of the rules about roles.
const RBAC: &str = "rbac.authorization.k8s.io";
/// Read.
const READ: [&str; 3] = ["get", "list", "watch"];

/// All accounts, roles and bindings.
pub(super) fn objects(config: &Config) -> Vec<Value> {
    let mut objects = user_roles();
    for (account, rules) in [
        (API_ACCOUNT, api_rules()),
        (CONTROLLER_ACCOUNT, controller_rules()),
        (PROXY_ACCOUNT, proxy_rules()),
    ] {
        objects.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": account, "namespace": config.namespace }
        }));
        objects.push(cluster_role(account, &json!({}), &rules));
        objects.push(cluster_binding(
            account,
            &[account_subject(config, account)],
        ));
    }
    // The key that signs tokens: made once, and read again by every replica.
    objects.extend(role(
        config,
        API_ACCOUNT,
        &[
            json!({
                "apiGroups": [""], "resources": ["secrets"],
                "resourceNames": ["cdi-api-signing-key"], "verbs": ["get"]
            }),
            rule("", &["secrets"], &["create"]),
        ],
    ));
    objects.extend(role(
        config,
        CONTROLLER_ACCOUNT,
        &[
            // Leader election.
            rule(
                "coordination.k8s.io",
                &["leases"],
                &["get", "create", "patch"],
            ),
        ],
    ));
    objects
}

/// A rule from its lists.
fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}

fn api_rules() -> Vec<Value> {
    vec![
        rule("", &["persistentvolumeclaims", "namespaces"], &["get"]),
        rule("storage.k8s.io", &["storageclasses"], &["get", "list"]),
        rule(GROUP, &["datavolumes", "cdis"], &["get", "list"]),
        rule(GROUP, &["datasources", "volumeclonesources"], &["get"]),
        rule(
            "authorization.k8s.io",
            &["subjectaccessreviews"],
            &["create"],
        ),
        json!({
            "apiGroups": [""], "resources": ["configmaps"],
            // How the API server's front proxy proves itself.
            "resourceNames": ["extension-apiserver-authentication"],
            "verbs": READ
        }),
    ]
}

fn controller_rules() -> Vec<Value> {
    let all = ["get", "list", "watch", "create", "patch", "delete"];
    vec![
        rule("", &["persistentvolumeclaims", "pods", "services"], &all),
        rule("", &["persistentvolumeclaims/status"], &["patch"]),
        // Owner references that block deletion need these.
        rule(
            "",
            &["persistentvolumeclaims/finalizers", "pods/finalizers"],
            &["update"],
        ),
        rule(
            "",
            &["persistentvolumes"],
            &["get", "list", "watch", "patch"],
        ),
        rule("", &["namespaces"], &READ),
        // Certificates of upload servers; made and replaced, never read.
        rule("", &["secrets"], &["create", "patch", "delete"]),
        // Authorities that upload servers trust, beside them.
        rule("", &["configmaps"], &["get", "create", "patch", "delete"]),
        rule(
            "",
            &["events"],
            &["create", "patch", "get", "list", "watch"],
        ),
        rule("networking.k8s.io", &["networkpolicies"], &all),
        rule("storage.k8s.io", &["storageclasses", "csidrivers"], &READ),
        rule("snapshot.storage.k8s.io", &["volumesnapshots"], &all),
        rule("snapshot.storage.k8s.io", &["volumesnapshotclasses"], &READ),
        rule(
            GROUP,
            &[
                "datavolumes",
                "datasources",
                "dataimportcrons",
                "storageprofiles",
                "objecttransfers",
                "volumeimportsources",
                "volumeuploadsources",
                "volumeclonesources",
            ],
            &all,
        ),
        rule(
            GROUP,
            &[
                "datavolumes/status",
                "datasources/status",
                "dataimportcrons/status",
                "storageprofiles/status",
                "objecttransfers/status",
                "cdiconfigs/status",
            ],
            &["patch"],
        ),
        rule(
            GROUP,
            &[
                "datavolumes/finalizers",
                "datasources/finalizers",
                "dataimportcrons/finalizers",
                "objecttransfers/finalizers",
                "storageprofiles/finalizers",
            ],
            &["update"],
        ),
        rule(GROUP, &["cdis", "cdiconfigs"], &READ),
        rule(
            "authorization.k8s.io",
            &["subjectaccessreviews"],
            &["create"],
        ),
    ]
}

fn proxy_rules() -> Vec<Value> {
    // Whether the claim's upload server is ready.
    vec![rule("", &["persistentvolumeclaims"], &READ)]
}

/// Roles for people: `config-reader` for everybody who is known, the others
/// are added to the cluster's own admin, edit and view.
fn user_roles() -> Vec<Value> {
    let kinds = [
        "datavolumes",
        "dataimportcrons",
        "datasources",
        "volumeimportsources",
        "volumeuploadsources",
        "volumeclonesources",
    ];
    let all = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
    ];
    let source = rule(GROUP, &["datavolumes/source"], &["create"]);
    let use_all = [
        rule(GROUP, &kinds, &all),
        source.clone(),
        rule(UPLOAD_GROUP, &[upload::TOKEN_REQUESTS], &["create"]),
    ];
    let seen = [
        &kinds[..],
        &["cdiconfigs", "objecttransfers", "storageprofiles"],
    ]
    .concat();
    let aggregate = |to: &str| json!({ format!("{RBAC}/aggregate-to-{to}"): "true" });
    let group = |name: &str| json!({ "kind": "Group", "apiGroup": RBAC, "name": name });
    vec![
        cluster_role("cdi.kubevirt.io:admin", &aggregate("admin"), &use_all),
        cluster_role("cdi.kubevirt.io:edit", &aggregate("edit"), &use_all),
        cluster_role(
            "cdi.kubevirt.io:view",
            &aggregate("view"),
            &[rule(GROUP, &seen, &READ)],
        ),
        cluster_role("cdi.kubevirt.io:clone-sourcer", &json!({}), &[source]),
        cluster_role(
            "cdi.kubevirt.io:config-reader",
            &json!({}),
            &[rule(GROUP, &["cdiconfigs", "storageprofiles"], &READ)],
        ),
        cluster_binding(
            "cdi.kubevirt.io:config-reader",
            &[
                group("system:authenticated"),
                group("system:serviceaccount"),
            ],
        ),
    ]
}

fn cluster_role(name: &str, labels: &Value, rules: &[Value]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": name, "labels": labels },
        "rules": rules
    })
}

fn cluster_binding(name: &str, subjects: &[Value]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": name },
        "subjects": subjects
    })
}

fn account_subject(config: &Config, account: &str) -> Value {
    json!({ "kind": "ServiceAccount", "name": account, "namespace": config.namespace })
}

/// What an account may do in the namespace only.
fn role(config: &Config, account: &str, rules: &[Value]) -> [Value; 2] {
    let metadata = json!({ "name": account, "namespace": config.namespace });
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": metadata, "rules": rules
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": account },
            "subjects": [account_subject(config, account)]
        }),
    ]
}
