//! Launcher pods in the picture.

use decide::pod::PodFacts;
use k8s_openapi::api::core::v1::Pod;

use super::{Index, Key, ObjectKey, PodEntry, is_less};

impl Index {
    /// A launcher pod was created or changed.
    pub(crate) fn put_pod(&mut self, pod: &Pod) -> Vec<Key> {
        let facts = PodFacts::from(pod);
        if facts.vmi_uid.is_empty() {
            return Vec::new();
        }
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let key = ObjectKey {
            namespace: namespace.clone(),
            name: facts.vmi_name.clone(),
        };
        if let Some(entry) = self.vmis.get_mut(&key)
            && entry.vmi.metadata.uid.as_ref() == Some(&facts.vmi_uid)
        {
            entry.pod_absent = false;
        }
        let version = pod.metadata.resource_version.clone();
        let pods = self.pods.entry(facts.vmi_uid.clone()).or_default();
        match pods.iter_mut().find(|known| known.facts.uid == facts.uid) {
            Some(known) if is_less(version.as_deref(), known.version.as_deref()) => {
                return Vec::new();
            }
            // Most changes of a pod tell us nothing.
            Some(known) if known.facts == facts => {
                known.version = version;
                return Vec::new();
            }
            Some(known) => {
                known.version = version;
                known.facts = facts;
            }
            None => pods.push(PodEntry {
                version,
                namespace,
                facts,
            }),
        }
        vec![Key::Vmi(key)]
    }

    /// A launcher pod is gone.
    pub(crate) fn remove_pod(&mut self, pod: &Pod) -> Vec<Key> {
        let facts = PodFacts::from(pod);
        self.forget_pod(&facts.vmi_uid, &facts.uid)
    }

    /// The API server took the deletion of a launcher pod.
    pub(crate) fn pod_is_leaving(&mut self, vmi_uid: &str, uid: &str) {
        let pods = self.pods.get_mut(vmi_uid).into_iter().flatten();
        for entry in pods.filter(|entry| entry.facts.uid == uid) {
            entry.facts.deleting = true;
        }
    }

    /// A launcher pod is gone, by the UIDs of its VMI and its own.
    pub(crate) fn forget_pod(&mut self, vmi_uid: &str, uid: &str) -> Vec<Key> {
        let Some(pods) = self.pods.get_mut(vmi_uid) else {
            return Vec::new();
        };
        let Some(at) = pods.iter().position(|entry| entry.facts.uid == uid) else {
            return Vec::new();
        };
        let entry = pods.swap_remove(at);
        if pods.is_empty() {
            self.pods.remove(vmi_uid);
        }
        vec![Key::Vmi(ObjectKey {
            namespace: entry.namespace,
            name: entry.facts.vmi_name,
        })]
    }

    /// All launcher pods, as of now.
    pub(crate) fn reset_pods(&mut self, all: &[Pod]) -> Vec<Key> {
        let gone: Vec<(String, String)> = self
            .pods
            .values()
            .flatten()
            .map(|entry| (entry.facts.vmi_uid.clone(), entry.facts.uid.clone()))
            .filter(|(_, uid)| !all.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid)))
            .collect();
        let mut keys: Vec<Key> = gone
            .iter()
            .flat_map(|(vmi_uid, uid)| self.forget_pod(vmi_uid, uid))
            .collect();
        keys.extend(all.iter().flat_map(|pod| self.put_pod(pod)));
        keys
    }
}
