//! The documents by which clients learn what is served.
//! Source of shapes: CDI pkg/apiserver/apiserver.go.

use api::cdi::names::UPLOAD_GROUP as GROUP;
use api::upload::{TOKEN_REQUESTS, VERSIONS};
use serde_json::{Value, json};

/// `GET /`: the paths of the server.
pub(super) fn root() -> Value {
    let mut paths = vec![
        "/apis".to_owned(),
        "/apis/".to_owned(),
        format!("/apis/{GROUP}"),
        "/healthz".to_owned(),
        "/openapi/v2".to_owned(),
        "/openapi/v3".to_owned(),
    ];
    paths.extend(VERSIONS.map(|version| format!("/apis/{GROUP}/{version}")));
    paths.sort();
    json!({ "paths": paths })
}

/// `GET /apis`: the groups of the server.
pub(super) fn groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group()] })
}

/// `GET /apis/upload.cdi.kubevirt.io`.
pub(super) fn group() -> Value {
    let version =
        |version: &str| json!({ "groupVersion": format!("{GROUP}/{version}"), "version": version });
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": VERSIONS.map(version),
        "preferredVersion": version(VERSIONS[0]),
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "" }],
    })
}

/// `GET /apis/upload.cdi.kubevirt.io/{version}`: its resource.
pub(super) fn resources(version: &str) -> Value {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{version}"),
        "resources": [{
            "name": TOKEN_REQUESTS,
            "singularName": "uploadtokenrequest",
            "namespaced": true,
            "group": GROUP,
            "version": version,
            "kind": "UploadTokenRequest",
            "verbs": ["create"],
            "shortNames": ["utr", "utrs"],
        }],
    })
}
