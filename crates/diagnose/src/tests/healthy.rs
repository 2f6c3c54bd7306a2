//! A healthy cluster, and pieces of one that is not.

use serde_json::{Value, json};

use super::super::*;

/// 2027-01-15T08:00:00Z.
pub(super) const NOW: i64 = 1_800_000_000;
pub(super) const LONG_AGO: &str = "2027-01-15T05:00:00Z";
pub(super) const JUST_NOW: &str = "2027-01-15T07:59:50Z";

pub(super) fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(super) fn door(way: Way, url: &str, name: Read<()>) -> Door {
    Door {
        way,
        url: url.to_owned(),
        greeting: Ok(Greeting {
            status: 200,
            certificate: Some(Certificate {
                issuer: "signer".to_owned(),
                names: vec!["cdi-uploadproxy.cdi.svc".to_owned()],
                not_before: NOW - 43_200,
                not_after: NOW + 43_200,
                chain: Ok(()),
                name,
            }),
        }),
    }
}

/// As the embedded cluster is, with an address set and a certificate for it.
pub(super) fn healthy() -> Facts {
    let deployment = |name: &str| {
        of(
            json!({"metadata": {"name": name}, "spec": {"replicas": 1, "selector": {},
            "template": {}}, "status": {"readyReplicas": 1}}),
        )
    };
    Facts {
        now: NOW,
        namespace: None,
        cdi: Ok(Some(of(json!({"metadata": {"name": "cdi"}, "status": {
            "phase": "Deployed", "observedVersion": "v1", "conditions": [
                {"type": "Available", "status": "True", "message": "fine"},
                {"type": "Degraded", "status": "False"}]}})))),
        config: Ok(Some(of(json!({"status": {
            "uploadProxyURL": "https://up.example", "uploadProxyCA": "PEM\n"}})))),
        deployments: Ok([
            "cdi-operator",
            "cdi-apiserver",
            "cdi-deployment",
            "cdi-uploadproxy",
        ]
        .map(deployment)
        .to_vec()),
        pods: Ok(Vec::new()),
        upload_api: Ok(()),
        services: Ok(vec![of(json!({
            "metadata": {"name": "cdi-uploadproxy"},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 443}]}}))]),
        endpoints: Ok(1),
        ingresses: Ok(Vec::new()),
        bundle: Ok(Some("PEM".to_owned())),
        doors: vec![door(Way::Configured, "https://up.example", Ok(()))],
        policies: Ok(Vec::new()),
        own_policies: Ok(()),
        namespaces: Ok([("cdi".to_owned(), labels("cdi"))].into()),
        token: Token {
            namespace: "default".to_owned(),
            attempt: Attempt::Answer {
                status: 503,
                text: "PVC x is not an upload target".to_owned(),
            },
        },
        classes: Ok(vec![class("local", "rancher.io/local-path", true)]),
        profiles: Ok(vec![of(json!({"metadata": {"name": "local"},
            "status": {"claimPropertySets": [
                {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}]}}))]),
        drivers: Ok([("rbd.csi".to_owned(), 2), ("dead.csi".to_owned(), 0)].into()),
        provisioners: Ok(vec![of(json!({
            "metadata": {"name": "local-path-provisioner", "namespace": "storage"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))]),
        rooms: Ok(vec![room(50 << 30)]),
        capacities: Ok(Vec::new()),
        data_volumes: Ok(Vec::new()),
        claims: Ok(Vec::new()),
        warnings: Ok(Vec::new()),
    }
}

pub(super) fn labels(namespace: &str) -> std::collections::BTreeMap<String, String> {
    [(
        "kubernetes.io/metadata.name".to_owned(),
        namespace.to_owned(),
    )]
    .into()
}

pub(super) fn class(
    name: &str,
    provisioner: &str,
    default: bool,
) -> k8s_openapi::api::storage::v1::StorageClass {
    of(json!({"metadata": {"name": name, "annotations": {
        "storageclass.kubernetes.io/is-default-class": default.to_string()}},
        "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"}))
}

pub(super) fn room(free: u64) -> Room {
    Room {
        class: "local".to_owned(),
        place: "edge1".to_owned(),
        source: "/data".to_owned(),
        free,
        total: Some(100 << 30),
        pressure: false,
    }
}

pub(super) fn upload_claim(namespace: &str) -> k8s_openapi::api::core::v1::PersistentVolumeClaim {
    of(
        json!({"metadata": {"name": "disk", "namespace": namespace, "creationTimestamp": JUST_NOW,
        "annotations": {"cdi.kubevirt.io/storage.upload.target": ""}},
        "spec": {"storageClassName": "local"}, "status": {"phase": "Bound"}}),
    )
}

pub(super) fn upload_pod(namespace: &str) -> k8s_openapi::api::core::v1::Pod {
    of(
        json!({"metadata": {"name": "cdi-upload-disk", "namespace": namespace,
        "creationTimestamp": JUST_NOW,
        "labels": {"app": "containerized-data-importer", "cdi.kubevirt.io": "cdi-upload-server"}},
        "status": {"phase": "Running"}}),
    )
}

pub(super) fn policy(name: &str, spec: &Value) -> k8s_openapi::api::networking::v1::NetworkPolicy {
    of(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec}))
}

/// What CDI's controller makes.
pub(super) fn proxy_policy() -> k8s_openapi::api::networking::v1::NetworkPolicy {
    policy(
        "cdi-upload-proxy-policy",
        &json!({
        "podSelector": {"matchLabels": {"cdi.kubevirt.io": "cdi-upload-server"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "cdi"}},
            "podSelector": {"matchLabels": {"cdi.kubevirt.io": "cdi-uploadproxy"}}}],
            "ports": [{"protocol": "TCP", "port": 8443}]}]}),
    )
}

pub(super) fn deny_all() -> k8s_openapi::api::networking::v1::NetworkPolicy {
    policy(
        "block-all-ingress",
        &json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
    )
}
