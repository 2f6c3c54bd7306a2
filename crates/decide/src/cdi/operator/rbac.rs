//! Accounts of the programs, and roles: theirs and those of users.
//!
//! A program gets the verbs that its code uses, no more; a test of the
//! manifest holds that the operator may grant all of this. Names are
//! upstream's (CDI pkg/operator/resources/cluster/rbac.go).

use api::cdi::names::{GROUP, UPLOAD_GROUP};
use api::upload;
use serde_json::{Value, json};

use super::Config;
use crate::operate::rbac::{
    account, aggregate, cluster_binding, cluster_role, front_proxy, group, leases, role, rule,
};

/// Service account of cdi-apiserver.
pub(super) const API_ACCOUNT: &str = "cdi-apiserver";
/// Service account of cdi-deployment.
pub(super) const CONTROLLER_ACCOUNT: &str = "cdi-sa";
/// Service account of cdi-uploadproxy.
pub(super) const PROXY_ACCOUNT: &str = "cdi-uploadproxy";

/// Read.
const READ: [&str; 3] = ["get", "list", "watch"];

/// All accounts, roles and bindings.
pub(super) fn objects(config: &Config) -> Vec<Value> {
    let namespace = &config.namespace;
    let mut objects = user_roles();
    for (name, rules) in [
        (API_ACCOUNT, api_rules()),
        (CONTROLLER_ACCOUNT, controller_rules()),
        (PROXY_ACCOUNT, proxy_rules()),
    ] {
        objects.extend(account(namespace, name, &rules));
    }
    // The key that signs tokens: made once, and read again by every replica.
    let key = [
        json!({
            "apiGroups": [""], "resources": ["secrets"],
            "resourceNames": ["cdi-api-signing-key"], "verbs": ["get"]
        }),
        rule("", &["secrets"], &["create"]),
    ];
    objects.extend(role(namespace, API_ACCOUNT, &key));
    objects.extend(role(namespace, CONTROLLER_ACCOUNT, &[leases()]));
    objects
}

fn api_rules() -> Vec<Value> {
    vec![
        rule("", &["persistentvolumeclaims", "namespaces"], &["get"]),
        rule("storage.k8s.io", &["storageclasses"], &["get", "list"]),
        rule("storage.k8s.io", &["csidrivers"], &["get"]),
        rule(
            GROUP,
            &["datavolumes", "cdis", "storageprofiles"],
            &["get", "list"],
        ),
        rule(GROUP, &["datasources", "volumeclonesources"], &["get"]),
        rule(
            "authorization.k8s.io",
            &["subjectaccessreviews"],
            &["create"],
        ),
        front_proxy(),
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
        // Looks at the sources of DataImportCrons; the first is never seen again.
        rule(
            "batch",
            &["cronjobs"],
            &["get", "list", "watch", "create", "patch"],
        ),
        rule("batch", &["jobs"], &["create"]),
        rule("storage.k8s.io", &["storageclasses", "csidrivers"], &READ),
        // Clones through snapshots: looked at when one is made, never watched.
        rule(
            "snapshot.storage.k8s.io",
            &["volumesnapshots"],
            &["get", "create", "delete"],
        ),
        rule(
            "snapshot.storage.k8s.io",
            &["volumesnapshotclasses"],
            &["list"],
        ),
        rule(
            "snapshot.storage.k8s.io",
            &["volumesnapshotcontents"],
            &["get"],
        ),
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
