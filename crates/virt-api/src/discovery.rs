//! The documents by which clients learn what is served.
//!
//! Quirk kept: the APIGroup's name is `subresource.kubevirt.io`, without the s
//! (pkg/virt-api/api.go, `subresourceAPIGroup`).

use api::names::{SUBRESOURCE_GROUP, SUBRESOURCE_VERSIONS};
use serde_json::{Value, json};

use crate::catalog::ENTRIES;

/// `GET /`: the paths of the server.
pub(crate) fn root() -> Value {
    let mut paths = vec!["/apis".to_owned(), "/openapi/v2".to_owned()];
    for version in SUBRESOURCE_VERSIONS {
        paths.push(format!("/apis/{SUBRESOURCE_GROUP}"));
        paths.push(format!("/apis/{SUBRESOURCE_GROUP}/{version}"));
    }
    json!({ "paths": paths })
}

/// `GET /apis`: the groups of the server.
pub(crate) fn groups() -> Value {
    json!({ "kind": "APIGroupList", "groups": [group()] })
}

/// `GET /apis/subresources.kubevirt.io`.
pub(crate) fn group() -> Value {
    let version = |version: &str| json!({ "groupVersion": format!("{SUBRESOURCE_GROUP}/{version}"), "version": version });
    let versions: Vec<Value> = SUBRESOURCE_VERSIONS.into_iter().map(version).collect();
    json!({
        "kind": "APIGroup",
        "name": "subresource.kubevirt.io",
        "versions": versions,
        "preferredVersion": version(SUBRESOURCE_VERSIONS[0]),
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "" }],
    })
}

/// `GET /apis/subresources.kubevirt.io/{version}`: its resources.
pub(crate) fn resources(version: &str) -> Value {
    let resource = |name: String| json!({ "name": name, "singularName": "", "namespaced": true, "kind": "", "verbs": null });
    let listed = ENTRIES.iter().filter(|entry| entry.listed);
    let names = listed.map(|entry| format!("{}/{}", entry.resource.plural(), entry.name));
    let resources: Vec<Value> = ["expand-vm-spec".to_owned()]
        .into_iter()
        .chain(names)
        .map(resource)
        .collect();
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{SUBRESOURCE_GROUP}/{version}"),
        "resources": resources,
    })
}
