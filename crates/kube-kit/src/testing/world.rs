//! An operator, and the cluster that it makes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::objects::Key;
use serde_json::{Value, json};

use super::{Keeper, client};
use crate::operator::{Meta, Operator, Pods, Seen, round};
use crate::watch::Event;

/// See the module. Nothing is watched: the test says what the operator sees.
pub struct World<O> {
    /// The operator.
    pub operator: O,
    /// The cluster.
    pub server: Arc<Mutex<Keeper>>,
    path: &'static str,
}

impl<O: Operator> World<O> {
    /// An operator that has seen `owner` at `path`, and that nothing else is there.
    pub fn new(
        path: &'static str,
        owner: &Value,
        operator: impl FnOnce(kube::Client) -> O,
    ) -> Self {
        let server = Arc::new(Mutex::new(Keeper::default()));
        let mut world = Self {
            operator: operator(client(&server)),
            server,
            path,
        };
        let store = &mut world.operator.kit().store;
        for place in 0..store.kinds.len() {
            store.see(Seen::Object(place, Event::Restarted(vec![])));
        }
        world.server.lock().unwrap().version = 1;
        world.see(owner);
        world
    }

    /// The owner as it is in the cluster.
    #[must_use]
    pub fn owner(&self) -> Value {
        self.server.lock().unwrap().objects[self.path].clone()
    }

    /// The owner is so now, and the operator sees it.
    pub fn see(&mut self, owner: &Value) {
        let mut server = self.server.lock().unwrap();
        server.objects.insert(self.path.to_owned(), owner.clone());
        drop(server);
        let owner = serde_json::from_value(owner.clone()).unwrap();
        let seen = Seen::Owner(Box::new(Event::Applied(owner)));
        self.operator.kit().store.see(seen);
    }

    /// Rounds until nothing is to be done at once; the requests made.
    pub async fn settle(&mut self) -> Vec<String> {
        self.server.lock().unwrap().log.clear();
        for _ in 0..5 {
            if round(&mut self.operator).await != Some(Duration::ZERO) {
                break;
            }
        }
        std::mem::take(&mut self.server.lock().unwrap().log)
    }

    /// As [`World::settle`]; the requests but those that read.
    pub async fn writes(&mut self) -> Vec<String> {
        let mut log = self.settle().await;
        log.retain(|line| !line.starts_with("GET"));
        log
    }

    /// All pods of a deployment or daemon set are ready.
    pub fn roll_out(&mut self, kind: &'static str, name: &str) {
        let pods = Pods {
            observed_generation: 1,
            wanted: 2,
            updated: 2,
            ready: 2,
            outdated: 0,
        };
        let seen = Seen::Pods(kind, Event::Applied((name.to_owned(), pods)));
        self.operator.kit().store.see(seen);
    }

    /// The API server reaches the aggregated API `name`.
    pub fn serve(&mut self, name: &str) {
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}");
        let mut server = self.server.lock().unwrap();
        server.objects.get_mut(&path).unwrap()["status"] =
            json!({ "conditions": [{ "type": "Available", "status": "True" }] });
    }

    /// The key of the managed object of a kind and name.
    pub fn key(&mut self, kind: &str, name: &str) -> Key {
        let mut keys = self.operator.kit().store.objects.keys();
        keys.find(|key| key.kind == kind && key.name == name)
            .unwrap()
            .clone()
    }

    /// The managed object of a kind and name is gone, and this was seen.
    pub fn lose(&mut self, kind: &str, name: &str) {
        let key = self.key(kind, name);
        let store = &mut self.operator.kit().store;
        let place = store.kinds.iter().position(|kind| kind.has(&key)).unwrap();
        let gone = Meta {
            version: u64::MAX,
            ..Meta::default()
        };
        store.see(Seen::Object(place, Event::Deleted((key, gone))));
    }

    /// The managed object of a kind and name was changed by somebody: a newer
    /// version than the one that we wrote.
    pub fn change(&mut self, kind: &str, name: &str) {
        let key = self.key(kind, name);
        let version = 9_000;
        self.server.lock().unwrap().version = version;
        let changed = Meta {
            version,
            ..Meta::default()
        };
        self.operator.kit().store.put(key, changed);
    }

    /// Deletes the owner, lets the operator finish, and gives how many objects
    /// went in each of four stages.
    pub async fn delete(&mut self) -> Vec<usize> {
        let mut owner = self.owner();
        owner["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.see(&owner);
        let mut stages = Vec::new();
        for _ in 0..4 {
            let log = self.settle().await;
            let gone = log.iter().filter(|line| line.starts_with("DELETE "));
            stages.push(gone.count());
            // What was deleted is seen to be gone.
            let left = self.server.lock().unwrap().objects.clone();
            let present = |key: &Key| {
                let end = format!("/{}", key.name);
                left.keys()
                    .any(|path| path.ends_with(&end) && path != self.path)
            };
            let store = &mut self.operator.kit().store;
            store.objects.retain(|key, _| present(key));
        }
        stages
    }
}
