//! What is decided from the picture, and whose turn it is to start.

use api::vmi_status::Phase;
use decide::pod::PodFacts;
use decide::storage::names_of;
use decide::vmi::starts::places;
use decide::{vm, vmi};
use jiff::Timestamp;

use super::{Index, Key, ObjectKey, PodEntry};

impl Index {
    /// Decides on a VM; nothing for one that is not there.
    #[must_use]
    pub(crate) fn decide_vm(
        &self,
        key: &ObjectKey,
        random: f64,
        now: Timestamp,
    ) -> decide::plan::Plan<vm::Op> {
        let Some(entry) = self.vms.get(key) else {
            return decide::plan::Plan::default();
        };
        let observed = vm::Observed {
            vm: &entry.vm,
            template: &entry.template,
            vmi: self.vmis.get(key).map(|entry| &entry.vmi),
            failure: entry.failing.as_ref().map(|failing| &failing.failure),
            storage: &self.storage(&key.namespace, names_of(&entry.vm)),
            random,
        };
        vm::decide(&observed, now)
    }

    /// Decides on a VMI; nothing for one that is not there.
    #[must_use]
    pub(crate) fn decide_vmi(
        &mut self,
        key: &ObjectKey,
        now: Timestamp,
    ) -> decide::plan::Plan<vmi::Op> {
        let waits_until = self.turn(key, now);
        let Some(entry) = self.vmis.get(key) else {
            return decide::plan::Plan::default();
        };
        let meta = &entry.vmi.metadata;
        let uid = meta.uid.as_deref().unwrap_or_default();
        let pods: Vec<PodFacts> = self
            .pods
            .get(uid)
            .into_iter()
            .flatten()
            .map(|entry| entry.facts.clone())
            .collect();
        let owner = meta
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true) && owner.kind == "VirtualMachine");
        let node = entry
            .vmi
            .status
            .as_ref()
            .map_or("", |status| status.node_name.as_str());
        let observed = vmi::Observed {
            vmi: &entry.vmi,
            pods: &pods,
            absence_confirmed: entry.pod_absent,
            owner_exists: owner.is_some_and(|owner| {
                self.vms
                    .get(key)
                    .is_some_and(|vm| vm.vm.metadata.uid.as_ref() == Some(&owner.uid))
            }),
            node_unresponsive: !node.is_empty()
                && decide::node::is_unresponsive(self.nodes.get(node), now),
            waits_until,
            failure: entry.failing.as_ref().map(|failing| &failing.failure),
            storage: &self.storage_of(&key.namespace, &entry.vmi.spec),
            settings: &self.settings,
        };
        vmi::decide(&observed, now)
    }

    /// When this VMI must ask again for its turn to start, if it is to start at all.
    fn turn(&mut self, key: &ObjectKey, now: Timestamp) -> Option<Timestamp> {
        let entry = self.vmis.get(key)?;
        let meta = &entry.vmi.metadata;
        let starts = meta.deletion_timestamp.is_none()
            && matches!(entry.phase(), Phase::Unset | Phase::Pending)
            && !self
                .pods
                .contains_key(meta.uid.as_deref().unwrap_or_default())
            && !matches!(&entry.failing, Some(failing) if failing.failure.holds(now))
            // One that waits for its disks must not keep others waiting.
            && self
                .storage_of(&key.namespace, &entry.vmi.spec)
                .readiness(&key.namespace, &entry.vmi.spec)
                .is_ready();
        if !starts {
            return None;
        }
        let places = self.places();
        self.starts.ask(key, places, now)
    }

    /// When this VMI's start is over: the VMIs whose turn it is now.
    pub(crate) fn next_starts(&mut self, key: &ObjectKey, now: Timestamp) -> Vec<Key> {
        if !self.start_is_over(key) {
            return Vec::new();
        }
        let places = self.places();
        let next = self.starts.over(key, places, now);
        next.into_iter().map(Key::Vmi).collect()
    }

    fn start_is_over(&self, key: &ObjectKey) -> bool {
        let Some(entry) = self.vmis.get(key) else {
            return true;
        };
        let meta = &entry.vmi.metadata;
        let mut pods = self
            .pods
            .get(meta.uid.as_deref().unwrap_or_default())
            .into_iter()
            .flatten();
        meta.deletion_timestamp.is_some()
            || entry.failing.is_some()
            || !matches!(
                entry.phase(),
                Phase::Unset | Phase::Pending | Phase::Scheduling
            )
            || pods.any(|PodEntry { facts, .. }| {
                facts.containers_ready
                    || facts.is_over()
                    || facts.unschedulable.is_some()
                    || facts.image_error.is_some()
            })
    }

    /// Launcher pods that may be on their way at once.
    fn places(&self) -> usize {
        let nodes = self.nodes.values().filter(|node| node.schedulable);
        places(nodes.map(|node| node.processors).sum())
    }

    /// Decides on a node; nothing for one that is not there.
    #[must_use]
    pub(crate) fn decide_node(
        &self,
        name: &str,
        now: Timestamp,
    ) -> decide::plan::Plan<decide::node::Op> {
        self.nodes
            .get(name)
            .map(|node| decide::node::decide(node, now))
            .unwrap_or_default()
    }
}
