//! How components are reached and trusted: the service, the aggregated APIs,
//! the authorities' bundle and the certificates' secrets.

use api::names;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Config;
use super::workloads::API;

/// ConfigMap with the authorities' bundle.
pub(super) const CA_CONFIG_MAP: &str = "kubevirt-ca";

/// Port of the service, and of virt-api's pods.
const SERVICE_PORT: u16 = 443;
/// See [`SERVICE_PORT`].
pub(super) const API_PORT: u16 = 8443;

/// PEM text as the API server wants it in `caBundle`.
pub(super) fn ca_bundle(pem: &str) -> String {
    STANDARD.encode(pem)
}

/// The service in front of virt-api.
pub(super) fn service(config: &Config) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": API, "namespace": config.namespace, "labels": { names::APP_LABEL: API } },
        "spec": {
            "type": "ClusterIP",
            "selector": { names::APP_LABEL: API },
            "ports": [{ "port": SERVICE_PORT, "targetPort": API_PORT, "protocol": "TCP" }]
        }
    })
}

/// The authorities, for components to mount.
pub(super) fn ca_config_map(config: &Config, pem: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": CA_CONFIG_MAP, "namespace": config.namespace },
        "data": { "ca-bundle": pem }
    })
}

/// A certificate and its key.
pub(super) fn tls_secret(config: &Config, name: &str, certificate: &str, key: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": name, "namespace": config.namespace },
        "data": { "tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key) }
    })
}

/// start, stop, console and the other subresources, in each served version.
pub(super) fn api_services(config: &Config, pem: &str) -> Vec<Value> {
    names::SUBRESOURCE_VERSIONS
        .iter()
        .enumerate()
        .map(|(place, version)| {
            json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": { "name": format!("{version}.{}", names::SUBRESOURCE_GROUP) },
                "spec": {
                    "group": names::SUBRESOURCE_GROUP,
                    "version": version,
                    "groupPriorityMinimum": 1000,
                    // Higher is preferred: the first version is.
                    "versionPriority": 15 - place,
                    "caBundle": ca_bundle(pem),
                    "service": { "name": API, "namespace": config.namespace, "port": SERVICE_PORT }
                }
            })
        })
        .collect()
}
