//! Rounds against an API server that only keeps what it is given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use decide::operator::{API, CONTROLLER, HANDLER, MANAGED};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use kube_kit::watch::Event;
use serde_json::{Value, json};

use super::*;
use kube_kit::operator::{Meta, Pods, Seen};

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
            Method::GET => match self.objects.get(&object) {
                Some(found) => (200, found.clone()),
                None if path.ends_with("virtualmachines")
                    || path.ends_with("virtualmachineinstances") =>
                {
                    (200, json!({ "metadata": {}, "items": [] }))
                }
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

const KUBEVIRT: &str = "/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts/kubevirt";

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
            namespace: "kubevirt".into(),
            version: "v0.1.0".into(),
            image: "r/virt:1".into(),
            launcher_image: "r/virt-launcher:1".into(),
        };
        let operator = Operator::new(kube::Client::new(service, "kubevirt"), config);
        let mut world = Self { operator, api };
        for place in 0..MANAGED.len() {
            world
                .operator
                .store
                .see(Seen::Object(place, Event::Restarted(vec![])));
        }
        let object = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "spec": {},
            "metadata": { "name": "kubevirt", "namespace": "kubevirt", "uid": "u", "resourceVersion": "1", "generation": 1 }
        });
        world.api.lock().unwrap().version = 1;
        world
            .api
            .lock()
            .unwrap()
            .objects
            .insert(KUBEVIRT.into(), object.clone());
        world.see_kubevirt(&object);
        world
    }

    fn see_kubevirt(&mut self, object: &Value) {
        let object = serde_json::from_value(object.clone()).unwrap();
        self.operator
            .store
            .see(Seen::Owner(Box::new(Event::Applied(object))));
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
        for (kind, name) in [
            ("Deployment", API),
            ("Deployment", CONTROLLER),
            ("DaemonSet", HANDLER),
        ] {
            let pods = Pods {
                observed_generation: 1,
                wanted: 2,
                updated: 2,
                ready: 2,
                outdated: 0,
            };
            self.operator
                .store
                .see(Seen::Pods(kind, Event::Applied((name.to_owned(), pods))));
        }
        for version in names::SUBRESOURCE_VERSIONS {
            let path = format!(
                "/apis/apiregistration.k8s.io/v1/apiservices/{version}.subresources.kubevirt.io"
            );
            self.api.lock().unwrap().objects.get_mut(&path).unwrap()["status"] =
                json!({ "conditions": [{ "type": "Available", "status": "True" }] });
        }
    }

    fn phase(&self) -> String {
        self.api.lock().unwrap().objects[KUBEVIRT]["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The object of a kind and name is gone, and this was seen.
    fn lose(&mut self, kind: &str, name: &str) {
        let key = self
            .operator
            .store
            .objects
            .keys()
            .find(|key| key.kind == kind && key.name == name)
            .unwrap()
            .clone();
        let place = MANAGED
            .iter()
            .position(|managed| managed.kind == kind)
            .unwrap();
        self.operator.store.see(Seen::Object(
            place,
            Event::Deleted((
                key,
                Meta {
                    version: u64::MAX,
                    ..Meta::default()
                },
            )),
        ));
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
    assert_eq!(
        count("PATCH /apis/apps/v1/namespaces/kubevirt/deployments/"),
        2
    );
    assert_eq!(count("PATCH /api/v1/namespaces/kubevirt/secrets/"), 4);
    let at = |part: &str| log.iter().position(|line| line.contains(part)).unwrap();
    assert!(at("customresourcedefinitions/virtualmachines.") < at("deployments/virt-api"));
    assert!(at("clusterroles/kubevirt-handler") < at("clusterrolebindings/kubevirt-handler"));
    assert_eq!(world.phase(), "Deploying");
    assert_eq!(
        writes(&world.settle().await),
        Vec::<&String>::new(),
        "nothing changed, nothing is written"
    );

    world.all_ready();
    assert_eq!(
        writes(&world.settle().await),
        [&format!("PATCH {KUBEVIRT}/status")]
    );
    assert_eq!(world.phase(), "Deployed");
    assert_eq!(
        world.settle().await,
        Vec::<String>::new(),
        "at rest there is no request at all"
    );
}

#[tokio::test]
async fn what_is_deleted_or_changed_comes_back_alone() {
    let mut world = World::new();
    world.settle().await;
    world.all_ready();
    world.settle().await;
    world.lose("Service", "virt-api");
    assert_eq!(
        world.settle().await,
        ["PATCH /api/v1/namespaces/kubevirt/services/virt-api"]
    );

    // Changed by somebody: a newer version than the one we wrote.
    world.api.lock().unwrap().version = 9_000;
    let key = world
        .operator
        .store
        .objects
        .keys()
        .find(|key| key.name == "kubevirt.io:view")
        .unwrap()
        .clone();
    world.operator.store.put(
        key,
        Meta {
            version: 9_000,
            ..Meta::default()
        },
    );
    let log = world.settle().await;
    assert_eq!(
        log,
        ["PATCH /apis/rbac.authorization.k8s.io/v1/clusterroles/kubevirt.io:view"]
    );

    world.lose("Secret", "kubevirt-virt-api-certs");
    let log = world.settle().await;
    assert_eq!(
        writes(&log),
        ["PATCH /api/v1/namespaces/kubevirt/secrets/kubevirt-virt-api-certs"]
    );
}

#[tokio::test]
async fn fewer_replicas_take_the_budgets_away() {
    let mut world = World::new();
    world.settle().await;
    let mut object = world.api.lock().unwrap().objects[KUBEVIRT].clone();
    object["spec"] = json!({ "infra": { "replicas": 1 } });
    world.see_kubevirt(&object);
    let log = world.settle().await;
    let gone: Vec<&String> = log
        .iter()
        .filter(|line| line.starts_with("DELETE"))
        .collect();
    assert_eq!(gone.len(), 2);
    assert!(
        gone.iter()
            .all(|line| line.contains("poddisruptionbudgets"))
    );
}

#[tokio::test]
async fn deletion_empties_the_cluster_in_stages_and_lets_go() {
    let mut world = World::new();
    world.settle().await;
    let mut object = world.api.lock().unwrap().objects[KUBEVIRT].clone();
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world
        .api
        .lock()
        .unwrap()
        .objects
        .insert(KUBEVIRT.into(), object.clone());
    world.see_kubevirt(&object);
    let mut stages = Vec::new();
    for _ in 0..4 {
        let log = world.settle().await;
        let gone: Vec<String> = log
            .iter()
            .filter_map(|line| line.strip_prefix("DELETE "))
            .map(str::to_owned)
            .collect();
        stages.push(gone.len());
        // What was deleted is seen to be gone.
        let left = &world.api.lock().unwrap().objects;
        let present = |key: &Key| {
            left.keys()
                .any(|path| path.ends_with(&format!("/{}", key.name)) && path != KUBEVIRT)
        };
        world.operator.store.objects.retain(|key, _| present(key));
    }
    assert_eq!(stages[..2], [4, 2], "webhooks and APIServices, then CRDs");
    assert!(stages[2] > 15);
    let left = world.api.lock().unwrap().objects.clone();
    assert_eq!(left.keys().collect::<Vec<_>>(), [KUBEVIRT]);
    assert_eq!(left[KUBEVIRT]["metadata"]["finalizers"], json!([]));
    assert_eq!(world.phase(), "Deleted");
}
