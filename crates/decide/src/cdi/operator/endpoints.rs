//! How the programs are reached and trusted: services, aggregated APIs and the
//! authorities' bundles.

use api::cdi::names;
use api::upload;
use serde_json::{Value, json};

use super::Config;
use super::workloads::API;
use crate::operate::reach::{SERVICE_PORT, Server};

/// Service of cdi-apiserver.
pub(super) const API_SERVICE: &str = "cdi-api";
/// Port of the programs' pods.
pub(super) const POD_PORT: u16 = 8443;

/// cdi-apiserver: aggregated API server and webhooks.
pub(super) fn server<'a>(config: &'a Config, pem: &'a str) -> Server<'a> {
    Server {
        service: API_SERVICE,
        namespace: &config.namespace,
        pem,
    }
}

/// The services in front of cdi-apiserver and cdi-uploadproxy.
pub(super) fn services(config: &Config) -> [Value; 2] {
    [
        (API_SERVICE, API),
        (names::UPLOAD_PROXY, names::UPLOAD_PROXY),
    ]
    .map(|(name, pods)| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": name, "namespace": config.namespace,
                "labels": { names::COMPONENT_LABEL: pods, names::APP_LABEL: names::APP }
            },
            "spec": {
                "type": "ClusterIP",
                "selector": { names::COMPONENT_LABEL: pods },
                "ports": [{ "port": SERVICE_PORT, "targetPort": POD_PORT, "protocol": "TCP" }]
            }
        })
    })
}

/// The authorities, for programs and clients to read.
pub(super) fn bundles(config: &Config, pem: &[String]) -> Vec<Value> {
    BUNDLES
        .iter()
        .enumerate()
        .map(|(place, name)| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": name, "namespace": config.namespace },
                "data": { names::CA_BUNDLE_KEY: pem.get(place).map_or("", String::as_str) }
            })
        })
        .collect()
}

/// ConfigMaps of the bundles, in the order of `super::authorities`.
pub(super) const BUNDLES: [&str; 4] = [
    "cdi-apiserver-signer-bundle",
    names::UPLOAD_PROXY_CA_BUNDLE,
    "cdi-uploadserver-signer-bundle",
    names::UPLOAD_CLIENT_CA_BUNDLE,
];

/// Names of the aggregated APIs, one for each version of upload tokens.
#[must_use]
pub fn api_service_names() -> Vec<String> {
    let name = |version| format!("{version}.{}", names::UPLOAD_GROUP);
    upload::VERSIONS.map(name).to_vec()
}

/// Upload tokens, in each served version.
pub(super) fn api_services(server: &Server<'_>) -> Vec<Value> {
    let mut all = server.api_services(names::UPLOAD_GROUP, &upload::VERSIONS);
    for object in &mut all {
        object["metadata"]["labels"] = json!({ names::COMPONENT_LABEL: API_SERVICE });
    }
    all
}
