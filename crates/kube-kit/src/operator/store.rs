//! What an operator knows of the cluster: versions, not contents.

use std::collections::{BTreeMap, BTreeSet};

use api::objects::{Key, Managed};
use kube::Resource;

use super::Seen;
use crate::watch::Event;

/// What is known of a managed object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Resource version; Kubernetes lets them be compared since 1.35 and did
    /// so in fact for all built-in storage before.
    pub version: u64,
    /// Counts changes of the spec, for kinds that have it.
    pub generation: Option<i64>,
    /// Being deleted.
    pub deleting: bool,
}

/// How far the pods of a deployment or daemon set are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    /// The generation that the numbers are about.
    pub observed_generation: i64,
    /// How many there should be.
    pub wanted: i32,
    /// How many are of the newest revision.
    pub updated: i32,
    /// How many are ready.
    pub ready: i32,
    /// How many of an older revision are left.
    pub outdated: i32,
}

/// A resource version as a number; 0 when it is none.
pub(super) fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// See the module. `O` is the owner's type.
pub struct Store<O> {
    /// Kinds that are managed.
    pub kinds: &'static [Managed],
    /// Owners, by namespace (empty for the cluster's) and name.
    pub owners: BTreeMap<(String, String), O>,
    /// Managed objects that exist.
    pub objects: BTreeMap<Key, Meta>,
    /// Pods, by kind and name of what made them.
    pub pods: BTreeMap<(&'static str, String), Pods>,
    /// Managed kinds whose objects are all known, by their place.
    listed: BTreeSet<usize>,
    owners_listed: bool,
}

impl<O: Resource> Store<O> {
    /// Knows nothing yet of these kinds.
    #[must_use]
    pub fn new(kinds: &'static [Managed]) -> Self {
        Self {
            kinds,
            owners: BTreeMap::new(),
            objects: BTreeMap::new(),
            pods: BTreeMap::new(),
            listed: BTreeSet::new(),
            owners_listed: false,
        }
    }

    /// Everything is known that a step depends on.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.owners_listed && self.listed.len() == self.kinds.len()
    }

    /// Forgets managed objects, because they are followed no more.
    pub fn forget_objects(&mut self) {
        self.objects.clear();
        self.pods.clear();
        self.listed.clear();
    }

    /// Takes in what was seen.
    pub fn see(&mut self, seen: Seen<O>) {
        match seen {
            Seen::Owner(event) => self.see_owner(*event),
            Seen::Object(place, Event::Restarted(all)) => {
                self.listed.insert(place);
                let kind = self.kinds[place];
                self.objects.retain(|key, _| !kind.has(key));
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

    fn see_owner(&mut self, event: Event<O>) {
        match event {
            Event::Restarted(all) => {
                self.owners_listed = true;
                self.owners = all.into_iter().map(|one| (name_of(&one), one)).collect();
            }
            Event::Applied(one) => self.put_owner(one),
            Event::Deleted(one) => {
                self.owners.remove(&name_of(&one));
            }
        }
    }

    /// Takes in an object, unless a newer one is known (our own write's answer
    /// may come before the event of an older write).
    pub fn put(&mut self, key: Key, meta: Meta) {
        let known = self.objects.entry(key).or_default();
        if meta.version >= known.version {
            *known = meta;
        }
    }

    /// As [`Store::put`], of an owner.
    pub fn put_owner(&mut self, object: O) {
        let of = |object: &O| version(object.meta().resource_version.as_deref());
        let name = name_of(&object);
        if self
            .owners
            .get(&name)
            .is_none_or(|known| of(known) <= of(&object))
        {
            self.owners.insert(name, object);
        }
    }
}

/// Where an owner is in [`Store::owners`].
pub(super) fn name_of(object: &impl Resource) -> (String, String) {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use api::KubeVirt;

    const MANAGED: [Managed; 2] = [
        Managed::namespaced("v1", "Secret", 0),
        Managed::namespaced("v1", "ConfigMap", 0),
    ];

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
        let mut store = Store::<KubeVirt>::new(&MANAGED);
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
        let mut store = Store::<KubeVirt>::new(&MANAGED);
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
        store.see(Seen::Owner(Box::new(Event::Restarted(vec![]))));
        assert!(store.complete());
    }
}
