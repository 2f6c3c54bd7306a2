//! Rounds against an API server that only keeps what it is given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api::objects::Key;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use kube_kit::operator::{Meta, Pods, Seen};
use kube_kit::watch::Event;
use serde_json::{Value, json};

use super::*;

#[derive(Default)]
struct Api {
    objects: BTreeMap<String, Value>,
    version: u64,
    log: Vec<String>,
}

impl Api {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let object = path.trim_end_matches("/status").to_owned();
        self.log.push(format!("{method} {path}"));
        self.version += 1;
        match *method {
            Method::GET if path.ends_with("/datavolumes") => {
                (200, json!({ "metadata": {}, "items": [] }))
            }
            Method::GET => match self.objects.get(&object) {
                Some(found) => (200, found.clone()),
                None => (
                    404,
                    json!({ "kind": "Status", "code": 404, "message": "none", "reason": "NotFound" }),
                ),
            },
            Method::PATCH => {
                let patch: Value = serde_json::from_slice(body).unwrap();
                let known = self.objects.get(&object).cloned();
                let mut next = known.clone().unwrap_or_else(|| patch.clone());
                for (field, value) in patch.as_object().unwrap() {
                    if field == "metadata" {
                        for (name, value) in value.as_object().unwrap() {
                            next["metadata"][name] = value.clone();
                        }
                    } else {
                        next[field] = value.clone();
                    }
                }
                next["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.objects.insert(object, next.clone());
                (if known.is_some() { 200 } else { 201 }, next)
            }
            Method::DELETE => {
                self.objects.remove(&object);
                (200, json!({}))
            }
            _ => (405, json!({})),
        }
    }
}

struct World {
    operator: Operator,
    api: Arc<Mutex<Api>>,
}

const CDI_PATH: &str = "/apis/cdi.kubevirt.io/v1beta1/cdis/cdi";

impl World {
    fn new() -> Self {
        let api = Arc::new(Mutex::new(Api::default()));
        let server = Arc::clone(&api);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let (code, value) =
                    server
                        .lock()
                        .unwrap()
                        .answer(&parts.method, parts.uri.path(), &body);
                let body = Body::from(value.to_string().into_bytes());
                Ok::<_, tower::BoxError>(Response::builder().status(code).body(body).unwrap())
            }
        });
        let config = Config {
            namespace: "cdi".into(),
            version: "v0.1.0".into(),
            image: "r/virt:1".into(),
        };
        let operator = Operator::new(kube::Client::new(service, "cdi"), config);
        let mut world = Self { operator, api };
        for place in 0..MANAGED.len() {
            let nothing = Seen::Object(place, Event::Restarted(vec![]));
            world.operator.store.see(nothing);
        }
        let object = json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "CDI", "spec": {},
            "metadata": { "name": "cdi", "uid": "u", "resourceVersion": "1", "generation": 1 }
        });
        let mut api = world.api.lock().unwrap();
        api.version = 1;
        api.objects.insert(CDI_PATH.into(), object.clone());
        drop(api);
        world.see_cdi(&object);
        world
    }

    fn see_cdi(&mut self, object: &Value) {
        let object = serde_json::from_value(object.clone()).unwrap();
        let seen = Seen::Owner(Box::new(Event::Applied(object)));
        self.operator.store.see(seen);
    }

    /// Rounds until nothing is to be done at once; the requests made.
    async fn settle(&mut self) -> Vec<String> {
        self.api.lock().unwrap().log.clear();
        for _ in 0..5 {
            if self.operator.round().await != Some(Duration::ZERO) {
                break;
            }
        }
        std::mem::take(&mut self.api.lock().unwrap().log)
    }

    fn all_ready(&mut self) {
        for name in decide::cdi::operator::DEPLOYMENTS {
            let pods = Pods {
                observed_generation: 1,
                wanted: 1,
                updated: 1,
                ready: 1,
                outdated: 0,
            };
            let seen = Seen::Pods("Deployment", Event::Applied((name.to_owned(), pods)));
            self.operator.store.see(seen);
        }
        for name in decide::cdi::operator::api_service_names() {
            let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
            self.api.lock().unwrap().objects.get_mut(&path).unwrap()["status"] =
                json!({ "conditions": [{ "type": "Available", "status": "True" }] });
        }
    }

    fn cdi(&self) -> Value {
        self.api.lock().unwrap().objects[CDI_PATH].clone()
    }
}

fn writes(log: &[String]) -> Vec<&String> {
    log.iter().filter(|line| !line.starts_with("GET")).collect()
}

#[tokio::test]
async fn an_installation_applies_once_waits_for_readiness_and_then_rests() {
    let mut world = World::new();
    let log = world.settle().await;
    let count = |part: &str| log.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("PATCH /apis/apps/v1/namespaces/cdi/deployments/"), 3);
    assert_eq!(count("PATCH /api/v1/namespaces/cdi/secrets/"), 7);
    assert_eq!(count("PATCH /api/v1/namespaces/cdi/configmaps/"), 4);
    let at = |part: &str| log.iter().position(|line| line.contains(part)).unwrap();
    assert!(at("customresourcedefinitions/datavolumes.") < at("cdiconfigs/config"));
    assert_eq!(world.cdi()["status"]["phase"], "Deploying");
    assert_eq!(writes(&world.settle().await), Vec::<&String>::new());

    world.all_ready();
    let log = world.settle().await;
    assert_eq!(writes(&log), [&format!("PATCH {CDI_PATH}/status")]);
    assert_eq!(world.cdi()["status"]["phase"], "Deployed");
    assert_eq!(
        world.settle().await,
        Vec::<String>::new(),
        "at rest there is no request at all"
    );
}

#[tokio::test]
async fn each_bundle_has_its_own_authority_and_the_config_names_the_proxys() {
    let mut world = World::new();
    world.settle().await;
    let objects = world.api.lock().unwrap().objects.clone();
    let bundle = |name: &str| {
        let path = format!("/api/v1/namespaces/cdi/configmaps/{name}-signer-bundle");
        objects[&path]["data"]["ca-bundle.crt"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let all = [
        "cdi-apiserver",
        "cdi-uploadproxy",
        "cdi-uploadserver",
        "cdi-uploadserver-client",
    ];
    let different: std::collections::BTreeSet<String> = all.map(bundle).into();
    assert_eq!(different.len(), 4);
    let config = &objects["/apis/cdi.kubevirt.io/v1beta1/cdiconfigs/config"];
    assert_eq!(config["status"]["uploadProxyCA"], bundle("cdi-uploadproxy"));
}

#[tokio::test]
async fn a_life_that_cannot_be_is_told_and_nothing_is_made() {
    let mut world = World::new();
    let mut object = world.cdi();
    object["spec"] = json!({ "certConfig": { "ca": { "duration": "soon" } } });
    world.see_cdi(&object);
    let log = world.settle().await;
    assert_eq!(log, [format!("PATCH {CDI_PATH}/status")]);
    let status = &world.cdi()["status"];
    assert_eq!(status["phase"], "Error");
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("spec.certConfig.ca.duration"), "{message}");
}

#[tokio::test]
async fn what_is_deleted_comes_back_alone() {
    let mut world = World::new();
    world.settle().await;
    world.all_ready();
    world.settle().await;
    let key = Key::namespaced("v1", "Service", "cdi", "cdi-uploadproxy");
    let place = MANAGED.iter().position(|kind| kind.has(&key)).unwrap();
    let gone = Meta {
        version: u64::MAX,
        ..Meta::default()
    };
    let seen = Seen::Object(place, Event::Deleted((key, gone)));
    world.operator.store.see(seen);
    assert_eq!(
        world.settle().await,
        ["PATCH /api/v1/namespaces/cdi/services/cdi-uploadproxy"]
    );
}

#[tokio::test]
async fn deletion_empties_the_cluster_in_stages_and_lets_go() {
    let mut world = World::new();
    world.settle().await;
    let mut object = world.cdi();
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world
        .api
        .lock()
        .unwrap()
        .objects
        .insert(CDI_PATH.into(), object.clone());
    world.see_cdi(&object);
    let mut stages = Vec::new();
    for _ in 0..4 {
        let log = world.settle().await;
        stages.push(
            log.iter()
                .filter(|line| line.starts_with("DELETE "))
                .count(),
        );
        // What was deleted is seen to be gone.
        let left = &world.api.lock().unwrap().objects;
        let present = |key: &Key| {
            left.keys()
                .any(|path| path.ends_with(&format!("/{}", key.name)) && path != CDI_PATH)
        };
        world.operator.store.objects.retain(|key, _| present(key));
    }
    assert_eq!(stages[..2], [9, 9], "webhooks and APIServices, then CRDs");
    assert!(stages[2] > 15);
    assert_eq!(world.cdi()["metadata"]["finalizers"], json!([]));
    assert_eq!(world.cdi()["status"]["phase"], "Deleted");
}
