//! An API server that only keeps what it is given.

use std::collections::BTreeMap;

use http::Method;
use http::request::Parts;
use serde_json::{Value, json};

use super::{Answer, refusal};

/// See the module.
#[derive(Default)]
pub struct Keeper {
    /// Objects by URL path.
    pub objects: BTreeMap<String, Value>,
    /// The newest resource version.
    pub version: u64,
    /// `METHOD path` of every request.
    pub log: Vec<String>,
}

impl Answer for Keeper {
    fn answer(&mut self, request: &Parts, body: Value) -> (u16, Value) {
        let path = request.uri.path();
        let object = path.trim_end_matches("/status");
        self.log.push(format!("{} {path}", request.method));
        self.version += 1;
        match request.method {
            Method::GET if is_collection(path) => {
                let items = self.objects.iter().filter(|(of, _)| is_in(of, path));
                let items: Vec<&Value> = items.map(|(_, object)| object).collect();
                (200, json!({ "metadata": {}, "items": items }))
            }
            Method::GET => match self.objects.get(object) {
                Some(found) => (200, found.clone()),
                None => refusal(404, "none"),
            },
            Method::PATCH => {
                let known = self.objects.contains_key(object);
                let next = self.objects.entry(object.to_owned()).or_default();
                merge(next, body);
                next["metadata"]["resourceVersion"] = json!(self.version.to_string());
                (if known { 200 } else { 201 }, next.clone())
            }
            Method::DELETE => {
                self.objects.remove(object);
                (200, json!({}))
            }
            _ => refusal(405, "not kept"),
        }
    }
}

/// Fields of `patch` replace those of `object`; those of the metadata one by one.
fn merge(object: &mut Value, patch: Value) {
    let Value::Object(fields) = patch else {
        return;
    };
    for (field, value) in fields {
        match value {
            Value::Object(parts) if field == "metadata" => {
                for (name, part) in parts {
                    object["metadata"][name] = part;
                }
            }
            value => object[field] = value,
        }
    }
}

/// Whether a path names all objects of a kind: `…/v1/pods`, `…/namespaces/ns/pods`.
fn is_collection(path: &str) -> bool {
    let parts = path.trim_start_matches('/').split('/');
    let before = if path.starts_with("/apis/") { 3 } else { 2 };
    parts.count().saturating_sub(before) % 2 == 1
}

/// Whether the object at `path` is one of `collection`, which may be that of
/// all namespaces.
fn is_in(path: &str, collection: &str) -> bool {
    let Some((base, plural)) = collection.rsplit_once('/') else {
        return false;
    };
    let rest = path.strip_prefix(base).unwrap_or_default();
    let parts: Vec<&str> = rest.split('/').skip(1).collect();
    matches!(parts.as_slice(), [kind, _] | ["namespaces", _, kind, _] if *kind == plural)
}
