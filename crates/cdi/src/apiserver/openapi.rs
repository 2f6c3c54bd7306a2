//! OpenAPI documents (v2 and v3) of the token requests: what `kubectl explain` and a
//! client's check of fields read. The aggregator merges them into the cluster's own.

use api::cdi::names::UPLOAD_GROUP as GROUP;
use api::upload::{TOKEN_REQUESTS, VERSIONS};
use http::HeaderMap;
use kube_kit::answer::{self, Answer, fingerprint, tagged};
use serde_json::{Map, Value, json};

/// `GET /openapi/v2`.
pub(super) fn v2(headers: &HeaderMap) -> Answer {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for version in VERSIONS {
        let reference = json!({ "$ref": format!("#/definitions/{}", name(version)) });
        let body = json!({ "name": "body", "in": "body", "required": true, "schema": &reference });
        let namespace =
            json!({ "name": "namespace", "in": "path", "required": true, "type": "string" });
        let ok = json!({ "200": { "description": "OK", "schema": reference } });
        paths.insert(
            path(version),
            operation(version, &ok, |post| {
                post["parameters"] = json!([namespace, body]);
            }),
        );
        definitions.insert(name(version), schema(version));
    }
    let document =
        json!({ "swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions });
    tagged(&document, headers)
}

/// `GET /openapi/v3`: where the documents are.
pub(super) fn v3() -> Answer {
    let mut paths = Map::new();
    for version in VERSIONS {
        let path = format!("apis/{GROUP}/{version}");
        let url = format!(
            "/openapi/v3/{path}?hash={}",
            fingerprint(&v3_document(version))
        );
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    answer::json(200, &json!({ "paths": paths }))
}

/// `GET /openapi/v3/apis/upload.cdi.kubevirt.io/{version}`.
pub(super) fn v3_group(version: &str, headers: &HeaderMap) -> Answer {
    tagged(&v3_document(version), headers)
}

fn v3_document(version: &str) -> Value {
    let reference = json!({ "$ref": format!("#/components/schemas/{}", name(version)) });
    let content = json!({ "application/json": { "schema": reference } });
    let namespace = json!({
        "name": "namespace", "in": "path", "required": true, "schema": { "type": "string" },
    });
    let ok = json!({ "200": { "description": "OK", "content": &content } });
    let post = operation(version, &ok, |post| {
        post["parameters"] = json!([namespace]);
        post["requestBody"] = json!({ "required": true, "content": content });
    });
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": { (path(version)): post },
        "components": { "schemas": { (name(version)): schema(version) } },
    })
}

fn operation(version: &str, responses: &Value, more: impl FnOnce(&mut Value)) -> Value {
    let mut post = json!({
        "description": "Create an UploadTokenRequest: a token for an upload to one claim.",
        "operationId": format!("createNamespacedUploadTokenRequest-{version}"),
        "responses": responses,
        "x-kubernetes-action": "post",
        "x-kubernetes-group-version-kind": kind(version),
    });
    more(&mut post);
    json!({ "post": post })
}

fn schema(version: &str) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "description": "Asks for a token for an upload to one claim. Made, never stored.",
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": text("Version of the group."),
            "kind": text("UploadTokenRequest."),
            "metadata": { "type": "object", "description": "Name or generateName." },
            "spec": {
                "type": "object",
                "description": "What is asked.",
                "required": ["pvcName"],
                "properties": { "pvcName": text("Name of the claim to upload to.") },
            },
            "status": {
                "type": "object",
                "description": "The answer.",
                "properties": { "token": text("Bearer token for the upload proxy.") },
            },
        },
        "x-kubernetes-group-version-kind": [kind(version)],
    })
}

fn kind(version: &str) -> Value {
    json!({ "group": GROUP, "version": version, "kind": "UploadTokenRequest" })
}

fn name(version: &str) -> String {
    format!("io.kubevirt.cdi.upload.{version}.UploadTokenRequest")
}

fn path(version: &str) -> String {
    format!("/apis/{GROUP}/{version}/namespaces/{{namespace}}/{TOKEN_REQUESTS}")
}

fn info() -> Value {
    json!({ "title": "CDI upload API", "description": "Tokens for uploads.", "version": concat!("v", env!("CARGO_PKG_VERSION")) })
}
