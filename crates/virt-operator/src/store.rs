//! What the leader knows of the cluster: versions, not contents.

use std::collections::{BTreeMap, BTreeSet};

use api::KubeVirt;
use decide::operator::{Key, MANAGED};
use kube_kit::watch::Event;

use crate::watches::Seen;

/// What is known of a managed object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Resource version; Kubernetes lets them be compared since 1.35 and did
    /// so in fact for all built-in storage before.
    pub(crate) version: u64,
    /// Counts changes of the spec, for kinds that have it.
    pub(crate) generation: Option<i64>,
    /// Being deleted.
    pub(crate) deleting: bool,
}

/// How far the pods of a deployment or daemon set are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pods {
    /// The generation that the numbers are about.
    pub(crate) observed_generation: i64,
    /// How many there should be.
    pub(crate) wanted: i32,
    /// How many are of the newest revision.
    pub(crate) updated: i32,
    /// How many are ready.
    pub(crate) ready: i32,
    /// How many of an older revision are left.
    pub(crate) outdated: i32,
}

/// A resource version as a number; 0 when it is none.
pub(crate) fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// See the module.
#[derive(Default)]
pub(crate) struct Store {
    /// KubeVirt objects, by namespace and name.
    pub(crate) kubevirts: BTreeMap<(String, String), KubeVirt>,
    /// Managed objects that exist.
    pub(crate) objects: BTreeMap<Key, Meta>,
    /// Pods, by kind and name of what made them.
    pub(crate) pods: BTreeMap<(&'static str, String), Pods>,
    /// Managed kinds whose objects are all known, by their place.
    listed: BTreeSet<usize>,
    kubevirts_listed: bool,
}

impl Store {
    /// Everything is known that a step depends on.
    pub(crate) fn complete(&self) -> bool {
        self.kubevirts_listed && self.listed.len() == MANAGED.len()
    }

    /// Forgets managed objects, because they are followed no more.
    pub(crate) fn forget_objects(&mut self) {
        self.objects.clear();
        self.pods.clear();
        self.listed.clear();
    }

    /// Takes in what was seen.
    pub(crate) fn see(&mut self, seen: Seen) {
        match seen {
            Seen::KubeVirt(event) => self.see_kubevirt(*event),
            Seen::Object(place, Event::Restarted(all)) => {
                self.listed.insert(place);
                self.objects.retain(|key, _| !is_of(key, place));
                self.objects.extend(all);
            }
            Seen::Object(_, Event::Applied((key, meta))) => self.put(key, meta),
            Seen::Object(_, Event::Deleted((key, meta))) => {
                // The deletion of an object that was made again meanwhile.
                if self
                    .objects
                    .get(&key)
                    .is_none_or(|known| known.version <= meta.version)
                {
                    self.objects.remove(&key);
                }
            }
            Seen::Pods(kind, Event::Restarted(all)) => {
                self.pods.retain(|(known, _), _| *known != kind);
                self.pods
                    .extend(all.into_iter().map(|(name, pods)| ((kind, name), pods)));
            }
            Seen::Pods(kind, Event::Applied((name, pods))) => {
                self.pods.insert((kind, name), pods);
            }
            Seen::Pods(kind, Event::Deleted((name, _))) => {
                self.pods.remove(&(kind, name));
            }
        }
    }

    fn see_kubevirt(&mut self, event: Event<KubeVirt>) {
        match event {
            Event::Restarted(all) => {
                self.kubevirts_listed = true;
                self.kubevirts = all.into_iter().map(|one| (name_of(&one), one)).collect();
            }
            Event::Applied(one) => self.put_kubevirt(one),
            Event::Deleted(one) => {
                self.kubevirts.remove(&name_of(&one));
            }
        }
    }

    /// Takes in an object, unless a newer one is known (our own write's answer
    /// may come before the event of an older write).
    pub(crate) fn put(&mut self, key: Key, meta: Meta) {
        let known = self.objects.entry(key).or_default();
        if meta.version >= known.version {
            *known = meta;
        }
    }

    /// As [`Store::put`], of a KubeVirt object.
    pub(crate) fn put_kubevirt(&mut self, object: KubeVirt) {
        let of = |object: &KubeVirt| version(object.metadata.resource_version.as_deref());
        let name = name_of(&object);
        if self
            .kubevirts
            .get(&name)
            .is_none_or(|known| of(known) <= of(&object))
        {
            self.kubevirts.insert(name, object);
        }
    }
}

fn is_of(key: &Key, place: usize) -> bool {
    let kind = &MANAGED[place];
    key.kind == kind.kind && key.api_version == kind.api_version
}

fn name_of(object: &KubeVirt) -> (String, String) {
    (
        object.metadata.namespace.clone().unwrap_or_default(),
        object.metadata.name.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn key(name: &str) -> Key {
        Key {
            api_version: "v1".into(),
            kind: "Secret".into(),
            namespace: Some("ns".into()),
            name: name.into(),
        }
    }

    fn meta(version: u64) -> Meta {
        Meta {
            version,
            ..Meta::default()
        }
    }

    fn place(kind: &str) -> usize {
        MANAGED
            .iter()
            .position(|managed| managed.kind == kind)
            .unwrap()
    }

    #[test]
    fn older_news_does_not_overwrite_what_a_write_answered() {
        let mut store = Store::default();
        store.put(key("a"), meta(10));
        store.see(Seen::Object(
            place("Secret"),
            Event::Applied((key("a"), meta(9))),
        ));
        assert_eq!(store.objects[&key("a")], meta(10));
        store.see(Seen::Object(
            place("Secret"),
            Event::Deleted((key("a"), meta(9))),
        ));
        assert_eq!(store.objects[&key("a")], meta(10));
        store.see(Seen::Object(
            place("Secret"),
            Event::Deleted((key("a"), meta(11))),
        ));
        assert!(store.objects.is_empty());
    }

    #[test]
    fn a_restart_replaces_only_its_own_kind_and_completes_it() {
        let mut store = Store::default();
        let map = Key {
            kind: "ConfigMap".into(),
            ..key("m")
        };
        store.put(key("a"), meta(1));
        store.put(map.clone(), meta(1));
        store.see(Seen::Object(
            place("Secret"),
            Event::Restarted(vec![(key("b"), meta(2))]),
        ));
        assert_eq!(
            store.objects.keys().cloned().collect::<Vec<_>>(),
            [map, key("b")]
        );
        assert!(!store.complete());
        for place in 0..MANAGED.len() {
            store.see(Seen::Object(place, Event::Restarted(vec![])));
        }
        store.see(Seen::KubeVirt(Box::new(Event::Restarted(vec![]))));
        assert!(store.complete());
    }
}
