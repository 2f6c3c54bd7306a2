//! An API server for tests: objects by path, and what was asked.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use kube_kit::certs::{self, Leaf, Pair, Usage};
pub(crate) use kube_kit::testing::client;
use kube_kit::testing::{Answer, refusal};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the API server holds and was asked.
#[derive(Default)]
pub(crate) struct Cluster {
    /// Objects by URL path.
    pub(crate) objects: BTreeMap<String, Value>,
    /// `METHOD path` and body of every request.
    pub(crate) asked: Vec<(String, Value)>,
    /// SubjectAccessReviews are denied with this reason.
    pub(crate) denied: Option<String>,
}

pub(crate) type Shared = Arc<Mutex<Cluster>>;

impl Answer for Cluster {
    fn answer(&mut self, request: &http::request::Parts, body: Value) -> (u16, Value) {
        let path = request.uri.path().to_owned();
        self.asked
            .push((format!("{} {path}", request.method), body.clone()));
        if path.ends_with("/subjectaccessreviews") {
            let reason = self.denied.clone();
            let status = json!({"allowed": reason.is_none(), "reason": reason});
            return (201, json!({"status": status}));
        }
        if request.method == http::Method::POST {
            let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
            self.objects.insert(path, body.clone());
            return (201, body);
        }
        match self.objects.get(&path) {
            Some(object) => (200, object.clone()),
            None => refusal(404, "not found"),
        }
    }
}

/// Path of claim `name` in namespace ns.
pub(crate) fn claim_path(name: &str) -> String {
    format!("/api/v1/namespaces/ns/persistentvolumeclaims/{name}")
}

/// A claim with uid u1 and these annotations.
pub(crate) fn claim(annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk", "namespace": "ns", "uid": "u1", "annotations": annotations},
    })
}

/// A new authority.
pub(crate) fn authority() -> Pair {
    certs::authority("test", Timestamp::now(), SignedDuration::from_hours(1)).unwrap()
}

/// A directory with tls.crt and tls.key of `name`, and ca-bundle.crt of `authority`.
pub(crate) fn certificate(authority: &Pair, name: &str, usage: Usage) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    renew(dir.path(), authority, name, usage);
    dir
}

/// Writes the files of [`certificate`] anew.
pub(crate) fn renew(dir: &Path, authority: &Pair, name: &str, usage: Usage) {
    let names = [name.to_owned()];
    let leaf = Leaf {
        common_name: name,
        dns_names: if name.ends_with(".svc") { &names } else { &[] },
        usage,
    };
    let life = SignedDuration::from_hours(1);
    let pair = certs::leaf(authority, &leaf, Timestamp::now(), life).unwrap();
    for (file, text) in [
        ("tls.crt", &pair.certificate),
        ("tls.key", &pair.key),
        ("ca-bundle.crt", &authority.certificate),
    ] {
        std::fs::write(dir.join(file), text).unwrap();
    }
}
