//! The ways to upload servers that exist: policies of namespaces, and services. Who takes one
//! away while an upload waits gets it back.

use std::collections::HashSet;

use api::cdi::names::{APP_LABEL, COMPONENT_LABEL, UPLOAD_PROXY_POLICY, UPLOAD_SERVER};
use decide::cdi::worker::Job;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube_kit::watch::{Event, Selector};
use serde_json::Value;

use super::world::{Key, Name, World};

/// Metadata of a policy.
pub(super) type Policy = PartialObjectMeta<NetworkPolicy>;
/// Metadata of a service.
pub(super) type Door = PartialObjectMeta<Service>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Namespaces whose policy lets the upload proxy in.
    policies: HashSet<String>,
    services: HashSet<Name>,
}

/// Which policies are watched.
pub(super) fn policies() -> Selector {
    Selector::all().fields(&format!("metadata.name={UPLOAD_PROXY_POLICY}"))
}

/// Which services are watched.
pub(super) fn services() -> Selector {
    Selector::all().labels(&format!("{APP_LABEL},{COMPONENT_LABEL}={UPLOAD_SERVER}"))
}

fn namespace(meta: &ObjectMeta) -> String {
    meta.namespace.clone().unwrap_or_default()
}

impl Ways {
    /// Whether the namespace has its policy.
    pub(super) fn policy(&self, namespace: &str) -> bool {
        self.policies.contains(namespace)
    }

    /// Whether the service is there.
    pub(super) fn service(&self, name: &Name) -> bool {
        self.services.contains(name)
    }

    /// An object was applied, or cannot be: it is not tried again until it is gone.
    pub(super) fn tried(&mut self, object: &Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        match object["kind"].as_str() {
            Some("NetworkPolicy") if text("name") == UPLOAD_PROXY_POLICY => {
                self.policies.insert(text("namespace").to_owned());
            }
            Some("Service") => {
                self.services
                    .insert(Name::new(text("namespace"), text("name")));
            }
            _ => {}
        }
    }
}

impl World {
    /// What a watch told of policies.
    pub(super) fn see_policy(&mut self, event: Event<Policy>) -> Vec<Key> {
        match event {
            Event::Restarted(all) => {
                let all = all.iter().map(|policy| namespace(&policy.metadata));
                self.ways.policies = all.collect();
                self.uploads_of(|_, _| true)
            }
            Event::Applied(policy) => {
                self.ways.policies.insert(namespace(&policy.metadata));
                Vec::new()
            }
            Event::Deleted(policy) => {
                let of = namespace(&policy.metadata);
                self.ways.policies.remove(&of);
                self.uploads_of(|namespace, _| namespace == of)
            }
        }
    }

    /// What a watch told of services.
    pub(super) fn see_service(&mut self, event: Event<Door>) -> Vec<Key> {
        match event {
            Event::Restarted(all) => {
                let all = all.iter().map(|service| Name::of(&service.metadata));
                self.ways.services = all.collect();
                self.uploads_of(|_, _| true)
            }
            Event::Applied(service) => {
                self.ways.services.insert(Name::of(&service.metadata));
                Vec::new()
            }
            Event::Deleted(service) => {
                let gone = Name::of(&service.metadata);
                self.ways.services.remove(&gone);
                self.uploads_of(|namespace, pod| namespace == gone.namespace && pod == gone.name)
            }
        }
    }

    /// Claims that are uploaded to and whose namespace and pod's name are picked.
    fn uploads_of(&self, pick: impl Fn(&str, &str) -> bool) -> Vec<Key> {
        let claims = self.claims().filter(|(name, claim)| {
            Job::of(claim).is_some_and(|job| job.serves())
                && pick(&name.namespace, &Job::Upload.pod_name(claim))
        });
        claims.map(|(name, _)| Key::Volume(name.clone())).collect()
    }
}
