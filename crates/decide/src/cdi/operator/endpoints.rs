//! How the programs are reached and trusted: services, aggregated APIs, the
//! authorities' bundles and the certificates' secrets.

use api::cdi::names;
use api::upload;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Config;
use super::workloads::API;

/// Service of cdi-apiserver.
pub(super) const API_SERVICE: &str = "cdi-api";
/// Port of the services.
pub(super) const SERVICE_PORT: u16 = 443;
/// Port of the programs' pods.
pub(super) const POD_PORT: u16 = 8443;

/// PEM text as the API server wants it in `caBundle`.
pub(super) fn ca_bundle(pem: &str) -> String {
    STANDARD.encode(pem)
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

/// A certificate and its key.
pub(super) fn tls_secret(config: &Config, name: &str, certificate: &str, key: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": name, "namespace": config.namespace },
        "data": { "tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key) }
    })
}

/// Names of the aggregated APIs, one for each version of upload tokens.
#[must_use]
pub fn api_service_names() -> Vec<String> {
    let name = |version| format!("{version}.{}", names::UPLOAD_GROUP);
    upload::VERSIONS.map(name).to_vec()
}

/// Upload tokens, in each served version.
pub(super) fn api_services(config: &Config, pem: &str) -> Vec<Value> {
    let all = api_service_names().into_iter().zip(upload::VERSIONS);
    all.enumerate()
        .map(|(place, (name, version))| {
            json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": { "name": name, "labels": { names::COMPONENT_LABEL: API_SERVICE } },
                "spec": {
                    "group": names::UPLOAD_GROUP,
                    "version": version,
                    "groupPriorityMinimum": 1000,
                    // Higher is preferred: the first version is.
                    "versionPriority": 15 - place,
                    "caBundle": ca_bundle(pem),
                    "service": {
                        "name": API_SERVICE, "namespace": config.namespace, "port": SERVICE_PORT
                    }
                }
            })
        })
        .collect()
}
