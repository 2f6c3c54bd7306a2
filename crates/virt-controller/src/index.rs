//! A synchronous picture of the cluster: what the watches told and what the
//! API server answered to our own writes, whichever is newer.
//!
//! Every change gives the keys whose decision may differ now. There is no I/O
//! and no clock here, so the tests are plain functions.

use std::collections::HashMap;

use api::names::NODE_NAME_LABEL;
use api::vmi_status::Phase;
use api::{KubeVirt, VirtualMachine, VirtualMachineInstance};
use decide::node::NodeFacts;
use decide::plan::Failure;
use decide::pod::{PodFacts, Settings};
use decide::storage::{ClaimFacts, DataVolumeFacts};
use decide::vmi::starts::Starts;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::raw::{Raw, RawVm, RawVmi};

mod decisions;
mod pods;
mod storage;

use storage::Versioned;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectKey {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
}

impl ObjectKey {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is to be decided on again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A VM.
    Vm(ObjectKey),
    /// A VMI.
    Vmi(ObjectKey),
    /// A node.
    Node(String),
}

/// A failed operation, and how often it failed in a row.
#[derive(Clone, Debug)]
struct Failing {
    failure: Failure,
    count: u32,
}

#[derive(Debug)]
struct VmEntry {
    vm: VirtualMachine,
    template: Value,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct VmiEntry {
    vmi: VirtualMachineInstance,
    failing: Option<Failing>,
    /// The API server said that it has no launcher pod.
    pod_absent: bool,
}

impl VmiEntry {
    fn phase(&self) -> Phase {
        let status = self.vmi.status.as_ref();
        status.map_or(Phase::Unset, |status| status.phase)
    }
}

#[derive(Debug)]
struct PodEntry {
    version: Option<String>,
    namespace: String,
    facts: PodFacts,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    launcher_image: String,
    settings: Settings,
    vms: HashMap<ObjectKey, VmEntry>,
    vmis: HashMap<ObjectKey, VmiEntry>,
    /// Launcher pods by the UID of their VMI.
    pods: HashMap<String, Vec<PodEntry>>,
    nodes: HashMap<String, NodeFacts>,
    claims: HashMap<ObjectKey, ClaimFacts>,
    data_volumes: HashMap<ObjectKey, Versioned<DataVolumeFacts>>,
    starts: Starts<ObjectKey>,
}

impl Index {
    /// An empty picture, with the default settings.
    #[must_use]
    pub(crate) fn new(launcher_image: &str) -> Self {
        Self {
            launcher_image: launcher_image.to_owned(),
            settings: Settings::new(launcher_image),
            vms: HashMap::new(),
            vmis: HashMap::new(),
            pods: HashMap::new(),
            nodes: HashMap::new(),
            claims: HashMap::new(),
            data_volumes: HashMap::new(),
            starts: Starts::default(),
        }
    }

    /// A VM was created or changed.
    pub(crate) fn put_vm(&mut self, raw: RawVm) -> Vec<Key> {
        let key = ObjectKey::of(&raw.metadata);
        let old = self.vms.get(&key);
        if old.is_some_and(|old| is_known(&raw.metadata, &old.vm.metadata)) {
            return Vec::new();
        }
        let Some((vm, mut spec)) = typed(raw, &key) else {
            return Vec::new();
        };
        // A failure is of the spec that failed.
        let failing = old
            .filter(|old| old.vm.metadata.generation == vm.metadata.generation)
            .filter(|old| old.vm.metadata.uid == vm.metadata.uid)
            .and_then(|old| old.failing.clone());
        let entry = VmEntry {
            template: spec["template"].take(),
            vm,
            failing,
        };
        self.vms.insert(key.clone(), entry);
        let mut keys = vec![Key::Vm(key.clone())];
        // A VMI whose owner has come may keep its finalizer.
        if self.vmis.contains_key(&key) {
            keys.push(Key::Vmi(key));
        }
        keys
    }

    /// A VM is gone.
    pub(crate) fn remove_vm(&mut self, meta: &ObjectMeta) -> Vec<Key> {
        let key = ObjectKey::of(meta);
        let known = self.vms.get(&key).map(|entry| &entry.vm.metadata.uid);
        if known != Some(&meta.uid) {
            return Vec::new();
        }
        self.vms.remove(&key);
        vec![Key::Vmi(key)]
    }

    /// All VMs, as of now.
    pub(crate) fn reset_vms(&mut self, all: Vec<RawVm>) -> Vec<Key> {
        let gone = missing(self.vms.values().map(|entry| &entry.vm.metadata), &all);
        let mut keys: Vec<Key> = gone.iter().flat_map(|meta| self.remove_vm(meta)).collect();
        keys.extend(all.into_iter().flat_map(|raw| self.put_vm(raw)));
        keys
    }

    /// A VMI was created or changed.
    pub(crate) fn put_vmi(&mut self, raw: RawVmi) -> Vec<Key> {
        let key = ObjectKey::of(&raw.metadata);
        let old = self.vmis.get(&key);
        if old.is_some_and(|old| is_known(&raw.metadata, &old.vmi.metadata)) {
            return Vec::new();
        }
        let Some((vmi, _)) = typed(raw, &key) else {
            return Vec::new();
        };
        let same = old.filter(|old| old.vmi.metadata.uid == vmi.metadata.uid);
        let entry = VmiEntry {
            failing: same.and_then(|old| old.failing.clone()),
            pod_absent: same.is_some_and(|old| old.pod_absent),
            vmi,
        };
        self.vmis.insert(key.clone(), entry);
        self.vmi_keys(key)
    }

    /// A VMI is gone.
    pub(crate) fn remove_vmi(&mut self, meta: &ObjectMeta) -> Vec<Key> {
        let key = ObjectKey::of(meta);
        let known = self.vmis.get(&key).map(|entry| &entry.vmi.metadata.uid);
        if known != Some(&meta.uid) {
            return Vec::new();
        }
        self.vmis.remove(&key);
        self.vmi_keys(key)
    }

    /// All VMIs, as of now.
    pub(crate) fn reset_vmis(&mut self, all: Vec<RawVmi>) -> Vec<Key> {
        let gone = missing(self.vmis.values().map(|entry| &entry.vmi.metadata), &all);
        let mut keys: Vec<Key> = gone.iter().flat_map(|meta| self.remove_vmi(meta)).collect();
        keys.extend(all.into_iter().flat_map(|raw| self.put_vmi(raw)));
        keys
    }

    /// A VMI has its VM's name, so both keys are one.
    fn vmi_keys(&self, key: ObjectKey) -> Vec<Key> {
        let mut keys = Vec::with_capacity(2);
        if self.vms.contains_key(&key) {
            keys.push(Key::Vm(key.clone()));
        }
        keys.push(Key::Vmi(key));
        keys
    }

    /// A node was created or changed.
    pub(crate) fn put_node(&mut self, meta: &ObjectMeta) -> Vec<Key> {
        let Some(name) = &meta.name else {
            return Vec::new();
        };
        let facts = NodeFacts::from(meta);
        let new = self.nodes.insert(name.clone(), facts.clone()) != Some(facts);
        new.then(|| Key::Node(name.clone())).into_iter().collect()
    }

    /// A node is gone.
    pub(crate) fn remove_node(&mut self, name: &str) -> Vec<Key> {
        self.nodes.remove(name);
        self.vmis_on(name)
    }

    /// All nodes, as of now.
    pub(crate) fn reset_nodes(&mut self, all: &[&ObjectMeta]) -> Vec<Key> {
        let gone: Vec<String> = self
            .nodes
            .keys()
            .filter(|name| !all.iter().any(|meta| meta.name.as_ref() == Some(name)))
            .cloned()
            .collect();
        let mut keys: Vec<Key> = gone
            .iter()
            .flat_map(|name| self.remove_node(name))
            .collect();
        keys.extend(all.iter().flat_map(|meta| self.put_node(meta)));
        keys
    }

    /// The VMIs that run on a node.
    #[must_use]
    pub(crate) fn vmis_on(&self, node: &str) -> Vec<Key> {
        let on_node = |vmi: &VirtualMachineInstance| {
            let labels = vmi.metadata.labels.as_ref();
            labels
                .and_then(|l| l.get(NODE_NAME_LABEL))
                .map(String::as_str)
                == Some(node)
        };
        self.vmis
            .iter()
            .filter(|(_, entry)| on_node(&entry.vmi))
            .map(|(key, _)| Key::Vmi(key.clone()))
            .collect()
    }

    /// The KubeVirt object, or `None` when there is none.
    pub(crate) fn set_kubevirt(&mut self, kubevirt: Option<&KubeVirt>) {
        self.settings = match kubevirt {
            Some(kubevirt) => Settings::from_kubevirt(&self.launcher_image, kubevirt),
            None => Settings::new(&self.launcher_image),
        };
    }

    /// The API server said that the VMI `uid` has no launcher pod.
    pub(crate) fn pod_is_absent(&mut self, key: &ObjectKey, uid: &str) {
        if let Some(entry) = self.vmis.get_mut(key)
            && entry.vmi.metadata.uid.as_deref() == Some(uid)
        {
            entry.pod_absent = true;
        }
    }

    /// UID of a VMI.
    #[must_use]
    pub(crate) fn vmi_uid(&self, key: &ObjectKey) -> Option<String> {
        self.vmis.get(key)?.vmi.metadata.uid.clone()
    }

    /// Resource version of the VM.
    #[must_use]
    pub(crate) fn vm_version(&self, key: &ObjectKey) -> Option<String> {
        self.vms.get(key)?.vm.metadata.resource_version.clone()
    }

    /// Resource version of the VMI.
    #[must_use]
    pub(crate) fn vmi_version(&self, key: &ObjectKey) -> Option<String> {
        self.vmis.get(key)?.vmi.metadata.resource_version.clone()
    }

    /// An operation failed: when it may be tried again is told by the number
    /// of failures in a row.
    pub(crate) fn fail(&mut self, key: &Key, reason: &str, message: &str, now: Timestamp) {
        let Some(slot) = self.failing(key) else {
            return;
        };
        let count = slot.as_ref().map_or(0, |failing| failing.count) + 1;
        let wait = jiff::SignedDuration::try_from(kube_kit::queue::backoff(count));
        let retry_at = wait
            .ok()
            .and_then(|wait| now.checked_add(wait).ok())
            .unwrap_or(now);
        *slot = Some(Failing {
            failure: Failure {
                reason: reason.to_owned(),
                message: message.to_owned(),
                retry_at,
            },
            count,
        });
    }

    /// An operation that could have failed succeeded.
    pub(crate) fn succeed(&mut self, key: &Key) {
        if let Some(slot) = self.failing(key) {
            *slot = None;
        }
    }

    fn failing(&mut self, key: &Key) -> Option<&mut Option<Failing>> {
        match key {
            Key::Vm(key) => self.vms.get_mut(key).map(|entry| &mut entry.failing),
            Key::Vmi(key) => self.vmis.get_mut(key).map(|entry| &mut entry.failing),
            Key::Node(_) => None,
        }
    }

    /// How events name the object.
    #[must_use]
    pub(crate) fn reference(&self, key: &Key) -> Option<ObjectReference> {
        let (kind, api_version, meta) = match key {
            Key::Vm(key) => ("VirtualMachine", Some(api::names::API_VERSION), {
                let meta = &self.vms.get(key)?.vm.metadata;
                (meta.namespace.clone(), meta.name.clone(), meta.uid.clone())
            }),
            Key::Vmi(key) => ("VirtualMachineInstance", Some(api::names::API_VERSION), {
                let meta = &self.vmis.get(key)?.vmi.metadata;
                (meta.namespace.clone(), meta.name.clone(), meta.uid.clone())
            }),
            // Events about nodes have the node's name as UID, as the kubelet's.
            Key::Node(name) => ("Node", None, (None, Some(name.clone()), Some(name.clone()))),
        };
        let (namespace, name, uid) = meta;
        Some(ObjectReference {
            api_version: api_version.map(str::to_owned),
            kind: Some(kind.to_owned()),
            namespace,
            name,
            uid,
            ..ObjectReference::default()
        })
    }
}

fn typed<K: serde::de::DeserializeOwned>(raw: Raw<K>, key: &ObjectKey) -> Option<(K, Value)> {
    match raw.typed() {
        Ok(typed) => Some(typed),
        Err(error) => {
            tracing::error!(object = %key, "an object does not fit its type and is left alone: {error}");
            None
        }
    }
}

/// `new` tells nothing that `known` does not: the same state, or an earlier one.
fn is_known(new: &ObjectMeta, known: &ObjectMeta) -> bool {
    new.uid == known.uid
        && (new.resource_version == known.resource_version
            || is_less(
                new.resource_version.as_deref(),
                known.resource_version.as_deref(),
            ))
}

/// Resource versions are whole numbers that grow (Kubernetes 1.35 promises
/// what was always so); what is not a number counts as newer.
fn is_less(a: Option<&str>, b: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(|v| v.parse::<u128>().ok());
    matches!((number(a), number(b)), (Some(a), Some(b)) if a < b)
}

/// Known objects that a full list does not have.
fn missing<'a, K: 'a>(
    known: impl Iterator<Item = &'a ObjectMeta>,
    all: &[Raw<K>],
) -> Vec<ObjectMeta> {
    let listed: std::collections::HashSet<&String> = all
        .iter()
        .filter_map(|raw| raw.metadata.uid.as_ref())
        .collect();
    known
        .filter(|meta| !meta.uid.as_ref().is_some_and(|uid| listed.contains(uid)))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
