//! The pod that fills a claim, read from the claim's annotations, and what an
//! upload server needs around it.
//!
//! Source of names and mounts: CDI pkg/controller (import, upload, clone) and
//! pkg/common, where clients and people see them; the workers' command line is ours.

#[cfg(test)]
mod tests;

use api::cdi::names::{
    APP, APP_LABEL, BLOCK_DEVICE, CA_BUNDLE_KEY, CLAIM_UID_LABEL, CLONE_TARGET, CLONER,
    COMPONENT_LABEL, DATA_DIR, DATA_VOLUME, DISK_IMAGE, IMPORTER, METRICS_PORT, PREPARER,
    SERVICE_LABEL, SOURCE_DEVICE, SOURCE_IMAGE, UPLOAD_CLIENT_NAME, UPLOAD_PORT, UPLOAD_PROXY,
    UPLOAD_PROXY_POLICY, UPLOAD_SERVER, annotations as note,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::across;
use super::claim::overhead;
use super::cluster::Cluster;
use super::pod::{container, spec};
use super::size::{is_block, requested};
use super::smart;

/// Longest name of a pod.
const POD_NAME: usize = 253;

/// What a claim waits to be filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// `http`, `s3`, `registry` or `blank`.
    Import(String),
    /// A client's upload.
    Upload,
    /// The storage's driver clones; what it leaves to a worker is to bring about the volume,
    /// or to let the image grow.
    DriverClone {
        /// Namespace and name of the original, for people.
        from: String,
    },
    /// A copy of the claim of this name in this namespace, the clone's own.
    Clone {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// A copy of a claim or snapshot of another namespace, which a pod there sends.
    Receive {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// It is a snapshot's.
        snapshot: bool,
    },
}

/// An annotation of a claim.
#[must_use]
pub fn note<'a>(claim: &'a PersistentVolumeClaim, name: &str) -> Option<&'a str> {
    let annotations = claim.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// Whether the claim is one that a driver fills from another claim or a snapshot.
fn by_driver(claim: &PersistentVolumeClaim) -> bool {
    let source = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.data_source.as_ref());
    let from = source.map(|source| source.kind.as_str());
    matches!(
        (note(claim, note::CLONE_TYPE), from),
        (Some("csi-clone"), Some("PersistentVolumeClaim"))
            | (Some("snapshot"), Some("VolumeSnapshot"))
    )
}

impl Job {
    /// The job that a claim's annotations ask for.
    #[must_use]
    pub fn of(claim: &PersistentVolumeClaim) -> Option<Self> {
        if note(claim, note::UPLOAD_TARGET).is_some() {
            return Some(Self::Upload);
        }
        if by_driver(claim) {
            let from = note(claim, note::CLONE_REQUEST).unwrap_or_default();
            return Some(Self::DriverClone {
                from: from.to_owned(),
            });
        }
        if let Some(request) = note(claim, note::CLONE_REQUEST) {
            let own = claim.metadata.namespace.as_deref().unwrap_or_default();
            let (namespace, name) = request.split_once('/').unwrap_or((own, request));
            let (across, namespace, name) =
                (namespace != own, namespace.to_owned(), name.to_owned());
            return Some(if across {
                Self::Receive {
                    namespace,
                    name,
                    snapshot: note(claim, note::FROM_SNAPSHOT) == Some("true"),
                }
            } else {
                Self::Clone { namespace, name }
            });
        }
        let endpoint = note(claim, note::ENDPOINT);
        match note(claim, note::SOURCE) {
            Some("none") => Some(Self::Import("blank".to_owned())),
            Some(source) => Some(Self::Import(source.to_owned())),
            // Without a source an endpoint is a web server's, as upstream has it.
            None => endpoint.map(|_| Self::Import("http".to_owned())),
        }
    }

    /// Namespace and name of what is copied: a claim, or a snapshot.
    #[must_use]
    pub fn source(&self) -> Option<(&str, &str)> {
        match self {
            Self::Clone { namespace, name }
            | Self::Receive {
                namespace, name, ..
            } => Some((namespace, name)),
            _ => None,
        }
    }

    /// Namespace and name of the claim that is copied into `claim`: of a snapshot of another
    /// namespace the one that it is restored into.
    #[must_use]
    pub fn original(&self, claim: &PersistentVolumeClaim) -> Option<(&str, String)> {
        match self {
            Self::Receive {
                namespace,
                snapshot: true,
                ..
            } => {
                let uid = claim.metadata.uid.as_deref().unwrap_or_default();
                Some((namespace, smart::source_name(uid)))
            }
            Self::Clone { namespace, name }
            | Self::Receive {
                namespace, name, ..
            } => Some((namespace, name.clone())),
            _ => None,
        }
    }

    /// Why no worker of ours can do the job, if none can.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Import(source)
                if !["http", "s3", "registry", "blank"].contains(&source.as_str()) =>
            {
                Some(format!(
                    "expected source http, s3, registry or none in annotation {}, found {source}",
                    note::SOURCE
                ))
            }
            _ => None,
        }
    }

    /// Whether its worker is a server that others send to.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self, Self::Upload | Self::Receive { .. })
    }

    /// Name of the annotation that tells the pod's name.
    #[must_use]
    pub fn pod_note(&self) -> &'static str {
        match self {
            Self::Import(_) => note::IMPORT_POD,
            Self::Upload | Self::Receive { .. } => note::UPLOAD_POD,
            Self::Clone { .. } | Self::DriverClone { .. } => note::CLONE_POD,
        }
    }

    /// Name of the pod.
    #[must_use]
    pub fn pod_name(&self, claim: &PersistentVolumeClaim) -> String {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        match self {
            Self::Import(_) => fit(format!("importer-{name}"), claim),
            Self::Upload | Self::Receive { .. } => api::upload::server_name(name),
            Self::DriverClone { .. } => {
                format!("prep-{}", claim.metadata.uid.as_deref().unwrap_or_default())
            }
            Self::Clone { .. } => {
                format!(
                    "{}-source-pod",
                    claim.metadata.uid.as_deref().unwrap_or_default()
                )
            }
        }
    }
}

/// Cuts a name that is too long and ends it with the claim's uid instead.
fn fit(name: String, claim: &PersistentVolumeClaim) -> String {
    if name.len() <= POD_NAME {
        return name;
    }
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    let kept: String = name.chars().take(POD_NAME - 1 - uid.len()).collect();
    format!("{}-{uid}", kept.trim_end_matches(['-', '.']))
}

/// The worker pod of a claim; `original` is the claim that a clone copies.
#[must_use]
pub fn pod(
    job: &Job,
    claim: &PersistentVolumeClaim,
    original: Option<&PersistentVolumeClaim>,
    cluster: &Cluster,
) -> Value {
    let name = job.pod_name(claim);
    let mut worker = Worker::new(claim, cluster);
    match job {
        Job::Import(source) => worker.import(source, claim, cluster),
        Job::Upload => worker.upload(&name, UPLOAD_CLIENT_NAME),
        Job::Receive { .. } => {
            worker.upload(&name, &across::client_name(claim));
            worker.args.push("--clone".to_owned());
        }
        Job::Clone { name, .. } => worker.clone_of(name, original, claim),
        Job::DriverClone { .. } => worker.prepare(),
    }
    let component = match job {
        Job::Import(_) => IMPORTER,
        Job::Upload => UPLOAD_SERVER,
        Job::Clone { .. } => CLONER,
        Job::Receive { .. } => CLONE_TARGET,
        Job::DriverClone { .. } => PREPARER,
    };
    let mut annotations = json!({ "cdi.kubevirt.io/storage.createdByController": "yes" });
    for name in [
        "k8s.v1.cni.cncf.io/networks",
        "v1.multus-cni.io/default-network",
        "sidecar.istio.io/inject",
        "linkerd.io/inject",
    ] {
        if let Some(value) = note(claim, name) {
            annotations[name] = json!(value);
        }
    }
    for (name, value) in worker.annotations {
        annotations[name] = json!(value);
    }
    let resources = json!({
        "requests": { "cpu": "100m", "memory": "60M" },
        "limits": { "cpu": "2", "memory": "600M" },
    });
    let called = worker.program.trim_start_matches("cdi-");
    let mut container = container(called, worker.program, &worker.args, &resources, cluster);
    container["ports"] = json!(worker.ports);
    container["volumeMounts"] = json!(worker.mounts);
    container["volumeDevices"] = json!(worker.devices);
    if job.serves() {
        container["readinessProbe"] = json!({
            "tcpSocket": { "port": UPLOAD_PORT }, "periodSeconds": 1, "failureThreshold": 3,
        });
    }
    let mut spec = spec(
        &container,
        &worker.volumes,
        note(claim, note::PRIORITY_CLASS),
        note(claim, note::SERVICE_ACCOUNT),
        cluster,
    );
    spec["restartPolicy"] = json!("OnFailure");
    spec["securityContext"]["fsGroupChangePolicy"] = json!("OnRootMismatch");
    let mut labels = labels(component, claim);
    if job.serves() {
        labels[SERVICE_LABEL] = json!(name);
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": claim.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner(claim)],
        },
        "spec": spec,
    })
}

/// Service of an upload server.
#[must_use]
pub fn service(claim: &PersistentVolumeClaim) -> Value {
    let name = Job::Upload.pod_name(claim);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(&name, claim),
        "spec": {
            "ports": [{ "name": "https", "protocol": "TCP", "port": UPLOAD_PORT, "targetPort": UPLOAD_PORT }],
            "selector": { SERVICE_LABEL: name },
        },
    })
}

/// Host names under which its clients reach a claim's upload server.
#[must_use]
pub fn server_names(claim: &PersistentVolumeClaim) -> Vec<String> {
    let name = Job::Upload.pod_name(claim);
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    vec![
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}"),
        name,
    ]
}

/// Secret with the certificate of an upload server, and the authority of its clients.
#[must_use]
pub fn certificate(
    claim: &PersistentVolumeClaim,
    certificate: &str,
    key: &str,
    client_ca: &str,
) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": metadata(&Job::Upload.pod_name(claim), claim),
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": certificate, "tls.key": key, CA_BUNDLE_KEY: client_ca },
    })
}

/// The policy that lets the upload proxy, and nobody else, reach the upload servers of
/// the claim's namespace. It lives as long as one of the claims that want it.
#[must_use]
pub fn policy(claim: &PersistentVolumeClaim, namespace: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": metadata(UPLOAD_PROXY_POLICY, claim),
        "spec": {
            "podSelector": { "matchLabels": { COMPONENT_LABEL: UPLOAD_SERVER } },
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{
                    "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                    "podSelector": { "matchLabels": { COMPONENT_LABEL: UPLOAD_PROXY } },
                }],
                "ports": [{ "protocol": "TCP", "port": UPLOAD_PORT }],
            }],
        },
    })
}

fn metadata(name: &str, claim: &PersistentVolumeClaim) -> Value {
    json!({
        "name": name,
        "namespace": claim.metadata.namespace,
        "labels": { APP_LABEL: APP, COMPONENT_LABEL: UPLOAD_SERVER },
        "ownerReferences": [owner(claim)],
    })
}

pub(super) fn labels(component: &str, claim: &PersistentVolumeClaim) -> Value {
    json!({
        APP_LABEL: APP,
        COMPONENT_LABEL: component,
        CLAIM_UID_LABEL: claim.metadata.uid,
    })
}

pub(super) fn owner(claim: &PersistentVolumeClaim) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "name": claim.metadata.name, "uid": claim.metadata.uid,
    })
}

/// A worker's container in the making.
struct Worker {
    program: &'static str,
    args: Vec<String>,
    mounts: Vec<Value>,
    devices: Vec<Value>,
    volumes: Vec<Value>,
    ports: Vec<Value>,
    annotations: Vec<(String, String)>,
}

impl Worker {
    /// What all workers have: the claim, how it is written and how much fits.
    fn new(claim: &PersistentVolumeClaim, cluster: &Cluster) -> Self {
        let spec = claim.spec.clone().unwrap_or_default();
        let size = overhead(&spec, cluster).disk_in(requested(&spec).unwrap_or_default());
        let content = note(claim, note::CONTENT_TYPE).unwrap_or("kubevirt");
        let mut worker = Self {
            program: "",
            args: Vec::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            volumes: vec![json!({
                "name": DATA_VOLUME,
                "persistentVolumeClaim": { "claimName": claim.metadata.name },
            })],
            ports: Vec::new(),
            annotations: Vec::new(),
        };
        let target = if is_block(&spec) {
            worker
                .devices
                .push(json!({ "name": DATA_VOLUME, "devicePath": BLOCK_DEVICE }));
            worker.scratch(size);
            BLOCK_DEVICE
        } else {
            worker
                .mounts
                .push(json!({ "name": DATA_VOLUME, "mountPath": DATA_DIR }));
            if content == "archive" {
                DATA_DIR
            } else {
                DISK_IMAGE
            }
        };
        worker.arg("--target", target);
        worker.arg("--size", &size.to_string());
        if content == "archive" {
            worker.arg("--content-type", content);
        }
        if note(claim, note::PREALLOCATION_REQUESTED) == Some("true") {
            worker.args.push("--preallocate".to_owned());
        }
        worker
    }

    fn arg(&mut self, name: &str, value: &str) {
        self.args.push(name.to_owned());
        self.args.push(value.to_owned());
    }

    /// A device has no room for an image that must be whole before it can be converted.
    fn scratch(&mut self, size: u64) {
        self.volumes
            .push(json!({ "name": "scratch", "emptyDir": { "sizeLimit": size.to_string() } }));
        self.mounts
            .push(json!({ "name": "scratch", "mountPath": "/scratch" }));
        self.arg("--scratch", "/scratch");
    }

    fn mount(&mut self, name: &str, path: &str, volume: Value) {
        let mut named = json!({ "name": name });
        if let (Some(named), Value::Object(volume)) = (named.as_object_mut(), volume) {
            named.extend(volume);
        }
        self.volumes.push(named);
        self.mounts
            .push(json!({ "name": name, "mountPath": path, "readOnly": true }));
    }

    /// How far the worker is, for the controller that asks.
    fn metrics(&mut self, claim: &PersistentVolumeClaim) {
        self.arg(
            "--owner-uid",
            claim.metadata.uid.as_deref().unwrap_or_default(),
        );
        self.arg("--metrics", &format!("0.0.0.0:{METRICS_PORT}"));
        self.ports
            .push(json!({ "name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP" }));
    }

    fn import(&mut self, source: &str, claim: &PersistentVolumeClaim, cluster: &Cluster) {
        self.program = "cdi-importer";
        self.arg("--source", source);
        let endpoint = note(claim, note::ENDPOINT).unwrap_or_default();
        if !endpoint.is_empty() {
            self.arg("--endpoint", endpoint);
        }
        if let Some(secret) = note(claim, note::SECRET) {
            self.mount(
                "secret",
                "/secret",
                json!({ "secret": { "secretName": secret } }),
            );
            self.arg("--secret-dir", "/secret");
        }
        if let Some(map) = note(claim, note::CERT_CONFIG_MAP) {
            self.mount("certs", "/certs", json!({ "configMap": { "name": map } }));
            self.arg("--ca-dir", "/certs");
        }
        if let Some(checksum) = note(claim, note::CHECKSUM) {
            self.arg("--checksum", checksum);
        }
        if source == "registry" && insecure(endpoint, cluster) {
            self.args.push("--insecure".to_owned());
        }
        self.headers(claim);
        self.metrics(claim);
    }

    /// Headers come as files, plain ones too: an argument shows in the node's process list.
    fn headers(&mut self, claim: &PersistentVolumeClaim) {
        let all = |prefix: &str| {
            let annotations = claim.metadata.annotations.iter().flatten();
            let mut found: Vec<(usize, &str)> = annotations
                .filter_map(|(name, value)| {
                    let at = name.strip_prefix(prefix)?.strip_prefix('.')?;
                    Some((at.parse().ok()?, value.as_str()))
                })
                .collect();
            found.sort_unstable();
            found
        };
        let plain = all(note::EXTRA_HEADERS);
        let mut items = Vec::new();
        for (at, header) in &plain {
            let name = format!("edgevirt.local/header-{at}");
            items.push(json!({
                "path": at.to_string(),
                "fieldRef": { "fieldPath": format!("metadata.annotations['{name}']") },
            }));
            self.annotations.push((name, (*header).to_owned()));
            self.arg("--header-file", &format!("/headers/{at}"));
        }
        if !items.is_empty() {
            self.mount(
                "headers",
                "/headers",
                json!({ "downwardAPI": { "items": items } }),
            );
        }
        for (at, secret) in all(note::SECRET_EXTRA_HEADERS) {
            let path = format!("/secret-headers/{at}");
            let volume = json!({ "secret": { "secretName": secret } });
            self.mount(&format!("secret-headers-{at}"), &path, volume);
            self.arg("--header-file", &path);
        }
    }

    fn upload(&mut self, secret: &str, client: &str) {
        self.program = "cdi-uploadserver";
        self.mount("tls", "/tls", json!({ "secret": { "secretName": secret } }));
        self.arg("--listen", &format!("0.0.0.0:{UPLOAD_PORT}"));
        self.arg("--tls-dir", "/tls");
        self.arg("--client-ca", &format!("/client-ca/{CA_BUNDLE_KEY}"));
        self.arg("--client-name", client);
        self.ports
            .push(json!({ "name": "https", "containerPort": UPLOAD_PORT, "protocol": "TCP" }));
        // The Secret carries the authority too: the namespace has no ConfigMap of ours.
        let ca = json!({ "secret": {
            "secretName": secret, "items": [{ "key": CA_BUNDLE_KEY, "path": CA_BUNDLE_KEY }],
        } });
        self.mount("client-ca", "/client-ca", ca);
    }

    /// The image is there already.
    fn prepare(&mut self) {
        self.program = "cdi-cloner";
        self.args.push("--prepare".to_owned());
    }

    fn clone_of(
        &mut self,
        name: &str,
        original: Option<&PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
    ) {
        self.program = "cdi-cloner";
        let block = original
            .and_then(|claim| claim.spec.as_ref())
            .is_some_and(is_block);
        self.volumes.push(json!({
            "name": "source",
            "persistentVolumeClaim": { "claimName": name, "readOnly": true },
        }));
        if block {
            self.devices
                .push(json!({ "name": "source", "devicePath": SOURCE_DEVICE }));
            self.arg("--from", SOURCE_DEVICE);
        } else {
            self.mounts
                .push(json!({ "name": "source", "mountPath": "/source", "readOnly": true }));
            self.arg("--from", SOURCE_IMAGE);
        }
        self.metrics(claim);
    }
}

/// Whether the registry of a `docker://` URL is one to ask without TLS.
pub(super) fn insecure(endpoint: &str, cluster: &Cluster) -> bool {
    let host = endpoint
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next())
        .unwrap_or_default();
    cluster
        .config
        .insecure_registries
        .iter()
        .any(|known| known == host)
}
