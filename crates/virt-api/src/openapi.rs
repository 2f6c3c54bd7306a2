//! OpenAPI documents (v2 and v3) of the subresources: paths, methods and
//! parameters. The aggregator merges them into the cluster's own.

use api::names::{SUBRESOURCE_GROUP, SUBRESOURCE_VERSIONS};
use http::HeaderMap;
use kube_kit::answer::{self, Answer, fingerprint, tagged};
use serde_json::{Map, Value, json};

use crate::catalog::{ENTRIES, Entry};

/// `GET /openapi/v2`.
pub(crate) fn v2(headers: &HeaderMap) -> Answer {
    let mut paths = Map::new();
    for version in SUBRESOURCE_VERSIONS {
        paths.extend(operations(version, false));
    }
    let document = json!({ "swagger": "2.0", "info": info(), "paths": paths, "definitions": {} });
    tagged(&document, headers)
}

/// `GET /openapi/v3`: where the documents are.
pub(crate) fn v3() -> Answer {
    let mut paths = Map::new();
    for version in SUBRESOURCE_VERSIONS {
        let path = format!("apis/{SUBRESOURCE_GROUP}/{version}");
        let url = format!(
            "/openapi/v3/{path}?hash={}",
            fingerprint(&v3_document(version))
        );
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    answer::json(200, &json!({ "paths": paths }))
}

/// `GET /openapi/v3/apis/subresources.kubevirt.io/{version}`.
pub(crate) fn v3_group(version: &str, headers: &HeaderMap) -> Answer {
    tagged(&v3_document(version), headers)
}

fn v3_document(version: &str) -> Value {
    json!({ "openapi": "3.0.0", "info": info(), "paths": operations(version, true), "components": {} })
}

fn info() -> Value {
    json!({ "title": "KubeVirt API", "description": "Subresources of virtual machines.", "version": concat!("v", env!("CARGO_PKG_VERSION")) })
}

fn operations(version: &str, v3: bool) -> Map<String, Value> {
    let mut paths = Map::new();
    for entry in &ENTRIES {
        let base = format!(
            "/apis/{SUBRESOURCE_GROUP}/{version}/namespaces/{{namespace}}/{}/{{name}}/{}",
            entry.resource.plural(),
            entry.name
        );
        let mut parameters = vec!["namespace", "name"];
        if entry.name == "portforward" {
            parameters.push("port");
            add(
                &mut paths,
                format!("{base}/{{port}}"),
                entry,
                version,
                &parameters,
                v3,
            );
            parameters.push("protocol");
            add(
                &mut paths,
                format!("{base}/{{port}}/{{protocol}}"),
                entry,
                version,
                &parameters,
                v3,
            );
        } else {
            add(&mut paths, base, entry, version, &parameters, v3);
        }
    }
    paths
}

fn add(
    paths: &mut Map<String, Value>,
    path: String,
    entry: &Entry,
    version: &str,
    parameters: &[&str],
    v3: bool,
) {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| {
            let mut parameter = json!({ "name": name, "in": "path", "required": true });
            if v3 {
                parameter["schema"] = json!({ "type": "string" });
            } else {
                parameter["type"] = json!("string");
            }
            parameter
        })
        .collect();
    let name = entry.name.replace('/', "-");
    let protocol = if parameters.len() > 3 {
        "WithProtocol"
    } else {
        ""
    };
    let operation = json!({
        "operationId": format!("{version}{}-{name}{protocol}", entry.resource.plural()),
        "parameters": parameters,
        "responses": {
            "200": { "description": "OK" },
            "401": { "description": "Unauthorized" },
            "404": { "description": "Not Found" },
        },
    });
    let method = entry.method.as_str().to_ascii_lowercase();
    paths.insert(path, json!({ method: operation }));
}
