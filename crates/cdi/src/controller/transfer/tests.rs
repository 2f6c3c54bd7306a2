//! The writes for a transfer, against an API server that keeps what is written.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use kube_kit::queue::WorkQueue;
use kube_kit::testing::{Answer, client, refusal};
use serde_json::{Value, json};

use super::*;

const TRANSFER: &str = "/apis/cdi.kubevirt.io/v1beta1/objecttransfers/move";
const VOLUME: &str = "/api/v1/persistentvolumes/pv-1";

/// Objects by path, and what was written.
#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Value>,
    written: Vec<String>,
    /// Claims cannot be made, and why.
    denied: Option<&'static str>,
}

impl Server {
    /// What Kubernetes does: a claim that has its volume is bound.
    fn bind(&mut self) {
        let volume = self.objects.get_mut(VOLUME).unwrap();
        volume["status"] = json!({"phase": "Bound"});
        let holder = volume["spec"]["claimRef"]["uid"].clone();
        for (path, object) in &mut self.objects {
            if path.contains("persistentvolumeclaims") && object["metadata"]["uid"] == holder {
                object["status"] = json!({"phase": "Bound"});
            }
        }
    }
}

impl Answer for Server {
    fn answer(&mut self, request: &http::request::Parts, body: Value) -> (u16, Value) {
        let path = request.uri.path().to_owned();
        let path = path.trim_end_matches("/status").to_owned();
        let method = request.method.as_str();
        if path.contains("/events") {
            return (201, body);
        }
        if path.ends_with("/pods") {
            return (200, json!({"items": [], "metadata": {}}));
        }
        if path.starts_with("/api/v1/namespaces/b") && path.matches('/').count() == 4 {
            return (200, json!({"metadata": {"name": "b"}}));
        }
        if method != "GET" {
            self.written.push(format!("{method} {path}"));
        }
        match method {
            "POST" if path.contains("claims") && self.denied.is_some() => {
                refusal(403, self.denied.unwrap())
            }
            "POST" => {
                let mut object = body;
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                object["metadata"]["uid"] = json!(format!("made-{}", self.written.len()));
                self.objects.insert(path, object.clone());
                (201, object)
            }
            "PATCH" if self.objects.contains_key(&path) => {
                json_patch::merge(self.objects.get_mut(&path).unwrap(), &body);
                self.bind();
                (200, self.objects[&path].clone())
            }
            "DELETE" => {
                let gone = self.objects.remove(&path);
                gone.map_or_else(|| refusal(404, "not found"), |gone| (200, gone))
            }
            _ => match self.objects.get(&path) {
                Some(object) => (200, object.clone()),
                None => refusal(404, "not found"),
            },
        }
    }
}

fn bench(denied: Option<&'static str>) -> (Actor, Arc<Mutex<Server>>) {
    let claim = json!({
        "metadata": {"name": "disk", "namespace": "a", "uid": "c-1"},
        "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"},
    });
    let transfer = json!({
        "metadata": {"name": "move", "uid": "t-1"},
        "spec": {
            "source": {"kind": "PersistentVolumeClaim", "namespace": "a", "name": "disk"},
            "target": {"namespace": "b"},
        },
    });
    let volume = json!({
        "metadata": {"name": "pv-1"},
        "spec": {"persistentVolumeReclaimPolicy": "Delete", "claimRef": {"uid": "c-1"}},
    });
    let mut world = World::default();
    world.put(serde_json::from_value::<ObjectTransfer>(transfer.clone()).unwrap());
    world.put(serde_json::from_value::<PersistentVolumeClaim>(claim.clone()).unwrap());
    let server = Arc::new(Mutex::new(Server {
        denied,
        ..Server::default()
    }));
    let objects = &mut server.lock().unwrap().objects;
    objects.insert(
        "/api/v1/namespaces/a/persistentvolumeclaims/disk".to_owned(),
        claim,
    );
    objects.insert(TRANSFER.to_owned(), transfer);
    objects.insert(VOLUME.to_owned(), volume);
    let actor = Actor::new(
        client(&server),
        Rc::new(RefCell::new(world)),
        WorkQueue::new(),
        std::path::PathBuf::new(),
    );
    (actor, Arc::clone(&server))
}

/// Goes on until nothing changes; the watch of claims tells what became of them.
async fn settle(actor: &Actor, server: &Mutex<Server>) -> Outcome {
    for _ in 0..40 {
        let outcome = actor.transfer("move").await;
        let claim = "/api/v1/namespaces/b/persistentvolumeclaims/disk";
        let claim = server.lock().unwrap().objects.get(claim).cloned();
        if let Some(claim) = claim {
            actor.keep(serde_json::from_value::<PersistentVolumeClaim>(claim).unwrap());
        }
        if outcome != Outcome::Progress {
            return outcome;
        }
    }
    Outcome::Progress
}

#[tokio::test]
async fn the_volume_is_retained_before_the_claim_goes_and_as_it_was_in_the_end() {
    let (actor, server) = bench(None);
    while settle(&actor, &server).await == Outcome::Settled {
        let over = actor
            .world
            .borrow()
            .transfers
            .get("move")
            .is_some_and(transfer::is_over);
        if over {
            break;
        }
    }
    let server = server.lock().unwrap();
    let claims = |namespace: &str| format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims");
    let written: Vec<&str> = server.written.iter().map(String::as_str).collect();
    let (from, to) = (claims("a"), claims("b"));
    let wanted = [
        format!("PATCH {TRANSFER}"),
        format!("PATCH {TRANSFER}"),
        format!("PATCH {from}/disk"),
        format!("PATCH {TRANSFER}"),
        format!("PATCH {VOLUME}"),
        format!("POST {to}"),
        format!("DELETE {from}/disk"),
        format!("PATCH {VOLUME}"),
        format!("PATCH {VOLUME}"),
        format!("PATCH {TRANSFER}"),
        format!("PATCH {TRANSFER}"),
    ];
    assert_eq!(written, wanted);
    let volume = &server.objects[VOLUME]["spec"];
    assert_eq!(volume["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(volume["claimRef"]["namespace"], "b");
    assert_eq!(server.objects[TRANSFER]["status"]["phase"], "Complete");
}

#[tokio::test]
async fn a_target_that_cannot_be_made_is_told_and_the_source_stays() {
    let (actor, server) = bench(Some("exceeded quota: storage"));
    assert_eq!(settle(&actor, &server).await, Outcome::Failed);
    let server = server.lock().unwrap();
    let status = &server.objects[TRANSFER]["status"];
    assert_eq!(status["phase"], "Error");
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("exceeded quota: storage"), "{message}");
    assert!(!server.written.iter().any(|line| line.starts_with("DELETE")));
}
