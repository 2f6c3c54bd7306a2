//! How components are reached and trusted: aggregated APIs, webhooks, and the
//! secrets of certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Port of services.
pub(crate) const SERVICE_PORT: u16 = 443;

/// A certificate and its key.
pub(crate) fn tls_secret(namespace: &str, name: &str, certificate: &str, key: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": name, "namespace": namespace },
        "data": { "tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key) }
    })
}

/// Where the API server finds what it asks, and whom it believes there.
pub(crate) struct Server<'a> {
    /// The service.
    pub(crate) service: &'a str,
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// PEM text of the authorities.
    pub(crate) pem: &'a str,
}

impl Server<'_> {
    fn ca_bundle(&self) -> String {
        STANDARD.encode(self.pem)
    }

    /// The aggregated API `group`, in each of `versions`; the first is preferred.
    pub(crate) fn api_services(&self, group: &str, versions: &[&str]) -> Vec<Value> {
        let one = |(place, version): (usize, &&str)| {
            json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": { "name": format!("{version}.{group}") },
                "spec": {
                    "group": group,
                    "version": version,
                    "groupPriorityMinimum": 1000,
                    // Higher is preferred.
                    "versionPriority": 15 - place,
                    "caBundle": self.ca_bundle(),
                    "service": {
                        "name": self.service, "namespace": self.namespace, "port": SERVICE_PORT
                    }
                }
            })
        };
        versions.iter().enumerate().map(one).collect()
    }

    /// A webhook, whose `rules` say what it looks at. With `spared`, an
    /// expression for some users, it is not asked about their updates.
    pub(crate) fn webhook(&self, hook: &Webhook<'_>) -> Value {
        let conditions = hook.spared.as_ref().map(|spared| {
            json!({
                "name": "not-an-update-of-our-own",
                "expression": format!("request.operation != 'UPDATE' || {spared}")
            })
        });
        json!({
            "name": hook.name,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": hook.policy,
            "timeoutSeconds": 10,
            "clientConfig": {
                "caBundle": self.ca_bundle(),
                "service": {
                    "name": self.service, "namespace": self.namespace,
                    "path": hook.path, "port": SERVICE_PORT
                }
            },
            "matchConditions": Vec::from_iter(conditions),
            "rules": [hook.rule]
        })
    }
}

/// What sets one webhook apart from another.
pub(crate) struct Webhook<'a> {
    pub(crate) name: &'a str,
    /// Path of the URL at which it is asked.
    pub(crate) path: &'a str,
    /// `Fail` or `Ignore`: what becomes of requests when it does not answer.
    pub(crate) policy: &'a str,
    /// The one rule: what it looks at.
    pub(crate) rule: Value,
    /// An expression that holds where an update is looked at all the same; all
    /// are when there is none.
    pub(crate) spared: Option<String>,
}
