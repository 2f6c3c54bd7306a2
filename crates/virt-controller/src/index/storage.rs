//! Claims and DataVolumes in the picture: only what the decisions look at.

use std::collections::{HashMap, HashSet};

use api::vmi::VmiSpec;
use decide::storage::{ClaimFacts, DataVolumeFacts, Storage, claim_names, names_of};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Index, Key, ObjectKey, is_less};
use crate::raw::RawDataVolume;

/// Facts of an object, and of which version.
#[derive(Debug)]
pub(super) struct Versioned<T> {
    version: Option<String>,
    facts: T,
}

impl Index {
    /// A claim was created or changed.
    pub(crate) fn put_claim(&mut self, claim: &PersistentVolumeClaim) -> Vec<Key> {
        let key = ObjectKey::of(&claim.metadata);
        let facts = ClaimFacts::from(claim);
        let old = self.claims.insert(key.clone(), facts.clone());
        // Most changes of a claim tell us nothing.
        if old.as_ref() == Some(&facts) {
            return Vec::new();
        }
        self.users(&key)
    }

    /// A claim is gone.
    pub(crate) fn remove_claim(&mut self, meta: &ObjectMeta) -> Vec<Key> {
        let key = ObjectKey::of(meta);
        let known = self.claims.get(&key).map(|claim| claim.uid.as_str());
        if known != meta.uid.as_deref() {
            return Vec::new();
        }
        self.claims.remove(&key);
        self.users(&key)
    }

    /// All claims, as of now.
    pub(crate) fn reset_claims(&mut self, all: &[PersistentVolumeClaim]) -> Vec<Key> {
        let gone = gone(&self.claims, all.iter().map(|claim| &claim.metadata));
        let mut keys = Vec::new();
        for key in gone {
            self.claims.remove(&key);
            keys.extend(self.users(&key));
        }
        keys.extend(all.iter().flat_map(|claim| self.put_claim(claim)));
        keys
    }

    /// A DataVolume was created or changed.
    pub(crate) fn put_data_volume(&mut self, raw: &RawDataVolume) -> Vec<Key> {
        let key = ObjectKey::of(&raw.metadata);
        let facts = DataVolumeFacts::new(&raw.metadata, &raw.status);
        let version = raw.metadata.resource_version.clone();
        let old = self.data_volumes.get_mut(&key);
        let same = match old {
            // What we made ourselves may be known before the watch tells of it.
            Some(old) if is_less(version.as_deref(), old.version.as_deref()) => {
                return Vec::new();
            }
            Some(old) => {
                // Its progress changes every few seconds.
                let same = old.facts == facts;
                *old = Versioned { version, facts };
                same
            }
            None => {
                let new = Versioned { version, facts };
                self.data_volumes.insert(key.clone(), new);
                false
            }
        };
        if same {
            return Vec::new();
        }
        self.users(&key)
    }

    /// A DataVolume is gone.
    pub(crate) fn remove_data_volume(&mut self, meta: &ObjectMeta) -> Vec<Key> {
        let key = ObjectKey::of(meta);
        let known = self.data_volumes.get(&key);
        if known.map(|known| known.facts.uid.as_str()) != meta.uid.as_deref() {
            return Vec::new();
        }
        self.data_volumes.remove(&key);
        self.users(&key)
    }

    /// All DataVolumes, as of now; none when there is no CDI.
    pub(crate) fn reset_data_volumes(&mut self, all: &[RawDataVolume]) -> Vec<Key> {
        let gone = gone(&self.data_volumes, all.iter().map(|raw| &raw.metadata));
        let mut keys = Vec::new();
        for key in gone {
            self.data_volumes.remove(&key);
            keys.extend(self.users(&key));
        }
        keys.extend(all.iter().flat_map(|raw| self.put_data_volume(raw)));
        keys
    }

    /// What is known about the claims and DataVolumes of these names.
    pub(super) fn storage<'a>(
        &self,
        namespace: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> Storage {
        let mut storage = Storage::default();
        for name in names {
            let key = |name: &str| ObjectKey {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            };
            let mut take = |name: &str| {
                if let Some(known) = self.data_volumes.get(&key(name)) {
                    let facts = known.facts.clone();
                    storage.data_volumes.insert(name.to_owned(), facts);
                }
            };
            take(name);
            if let Some(claim) = self.claims.get(&key(name)) {
                // CDI calls both the same; a claim that says otherwise is believed.
                if claim.data_volume != name {
                    take(&claim.data_volume);
                }
                storage.claims.insert(name.to_owned(), claim.clone());
            }
        }
        storage
    }

    /// What is behind the volumes of a VMI in this namespace.
    pub(super) fn storage_of(&self, namespace: &str, spec: &VmiSpec) -> Storage {
        self.storage(namespace, claim_names(spec))
    }

    /// The VMs and VMIs that name a claim or DataVolume.
    fn users(&self, of: &ObjectKey) -> Vec<Key> {
        let vms = self.vms.iter().filter(|(key, entry)| {
            key.namespace == of.namespace && names_of(&entry.vm).any(|name| name == of.name)
        });
        let vmis = self.vmis.iter().filter(|(key, entry)| {
            let names = || claim_names(&entry.vmi.spec);
            key.namespace == of.namespace && names().any(|name| name == of.name)
        });
        vms.map(|(key, _)| Key::Vm(key.clone()))
            .chain(vmis.map(|(key, _)| Key::Vmi(key.clone())))
            .collect()
    }
}

/// The keys of what is known and not among `all`.
fn gone<'a, T>(
    known: &HashMap<ObjectKey, T>,
    all: impl Iterator<Item = &'a ObjectMeta>,
) -> Vec<ObjectKey> {
    let listed: HashSet<ObjectKey> = all.map(ObjectKey::of).collect();
    let keys = known.keys().filter(|key| !listed.contains(key));
    keys.cloned().collect()
}
