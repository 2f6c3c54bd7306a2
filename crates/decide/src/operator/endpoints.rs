//! How components are reached and trusted: the service, what the API server
//! knows of it, and the authorities' bundle.

use api::names;
use serde_json::{Value, json};

use super::Config;
use super::workloads::API;
use crate::operate::reach::{SERVICE_PORT, Server};

/// ConfigMap with the authorities' bundle.
pub(super) const CA_CONFIG_MAP: &str = "kubevirt-ca";
/// Port of virt-api's pods.
pub(super) const API_PORT: u16 = 8443;

/// virt-api: aggregated API server and webhooks.
pub(super) fn server<'a>(config: &'a Config, pem: &'a str) -> Server<'a> {
    Server {
        service: API,
        namespace: &config.namespace,
        pem,
    }
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
