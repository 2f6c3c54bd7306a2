//! A transfer that runs: back as long as the source is whole, forward from there on.

use api::cdi::names::annotations as note;
use api::cdi::{DataVolume, phase};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::objects::Memory;
use super::{
    COMPLETE, ERROR, Observed, Obstacle, Op, PENDING, Place, RUNNING, TAKEN, holder, in_use,
    is_bound, leaves, let_go, look_again, moves_data_volume, noted, obstacle, ours, source, taken,
    target, tell, tell_and, uid, unmark, unwatched,
};
use crate::cdi::claim::owner;
use crate::plan::{Event, Plan};

const RETAIN: &str = "Retain";
/// Reason of a target that does not have its volume yet.
const NOT_BOUND: &str = "NotBound";

/// A transfer under way.
struct Way<'a> {
    seen: &'a Observed<'a>,
    memory: Memory,
    volume: &'a PersistentVolume,
    /// The source, unless somebody made another of its name.
    claim: Option<&'a PersistentVolumeClaim>,
    dv: Option<&'a DataVolume>,
    /// The target, if it is ours.
    new_claim: Option<&'a PersistentVolumeClaim>,
    new_dv: Option<&'a DataVolume>,
    now: Timestamp,
}

pub(super) fn decide(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan<Op>) {
    let transfer = seen.transfer;
    let Some(memory) = Memory::read(transfer) else {
        return stop(
            seen,
            &obstacle("PVNameMissing", "PV name missing"),
            now,
            plan,
        );
    };
    let Some(volume) = seen.volume else {
        let message = format!("expected PersistentVolume {}, found none", memory.volume);
        return stop(seen, &unwatched("NoVolume", message), now, plan);
    };
    let same = |known: &Option<String>, found: &Option<String>| known.is_some() && known == found;
    let way = Way {
        claim: seen
            .claim
            .filter(|claim| same(&memory.claim.metadata.uid, &claim.metadata.uid)),
        dv: seen.dv.filter(|dv| {
            let known = memory.dv.as_ref();
            known.is_some_and(|known| same(&known.metadata.uid, &dv.metadata.uid))
        }),
        new_claim: seen
            .target_claim
            .filter(|claim| ours(transfer, &claim.metadata)),
        new_dv: seen.target_dv.filter(|dv| ours(transfer, &dv.metadata)),
        seen,
        memory,
        volume,
        now,
    };
    if way.is_whole() {
        way.prepare(plan);
    } else if way.has_landed() {
        way.finish(plan);
    } else {
        way.cross(plan);
    }
}

/// Cannot go on, and says so; who deletes the transfer then is let go.
fn stop(seen: &Observed<'_>, why: &Obstacle, now: Timestamp, plan: &mut Plan<Op>) {
    let transfer = seen.transfer;
    if leaves(&transfer.metadata) {
        let_go(transfer, plan);
        if let Some(step) = plan.steps.last_mut() {
            let volume = super::volume_name(transfer).unwrap_or("unknown");
            step.done = Some(Event {
                warning: true,
                reason: "TransferAbandoned",
                message: format!(
                    "deleted before its end: {}; PersistentVolume {volume} keeps the data and is retained",
                    why.message
                ),
            });
        }
        return;
    }
    if why.unwatched {
        plan.look_again(now, look_again(&transfer.metadata, now));
    }
    tell(transfer, ERROR, why.reason, &why.message, now, plan);
}

impl Way<'_> {
    /// Whether the source is still all there, so that all can be taken back.
    fn is_whole(&self) -> bool {
        let claim = self.claim.filter(|claim| !leaves(&claim.metadata));
        let dv = self.dv.filter(|dv| !leaves(&dv.metadata));
        claim.is_some_and(|claim| holder(self.volume) == Some(uid(&claim.metadata)))
            && self.memory.dv.is_some() == dv.is_some()
    }

    /// Whether the target has the volume. One that is still said to be released would be
    /// reclaimed with its policy.
    fn has_landed(&self) -> bool {
        let status = self.volume.status.as_ref();
        let used = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
        self.new_claim.is_some_and(|claim| {
            used && is_bound(claim) && holder(self.volume) == Some(uid(&claim.metadata))
        })
    }

    fn policy(&self) -> &str {
        let spec = self.volume.spec.as_ref();
        let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        policy.unwrap_or(RETAIN)
    }

    /// Merge patch of the volume, by its version: nobody else's change is lost.
    fn change(&self, spec: &Value) -> Op {
        Op::PatchVolume(
            self.memory.volume.clone(),
            json!({
                "metadata": { "resourceVersion": self.volume.metadata.resource_version },
                "spec": spec,
            }),
        )
    }

    fn reclaim(&self, policy: &str) -> Op {
        self.change(&json!({ "persistentVolumeReclaimPolicy": policy }))
    }

    fn running(&self, reason: &'static str, message: &str, plan: &mut Plan<Op>) {
        tell(self.seen.transfer, RUNNING, reason, message, self.now, plan);
    }

    /// Why there is no target, and can be none.
    fn obstacle(&self) -> Option<Obstacle> {
        taken(self.seen).filter(|why| why.reason == TAKEN || self.new_claim.is_none())
    }

    /// Makes the target, and lets the source go when nothing stands in the way any more.
    fn prepare(&self, plan: &mut Plan<Op>) {
        let transfer = self.seen.transfer;
        if leaves(&transfer.metadata) {
            return self.take_back(None, plan);
        }
        if let Some(why) = self.obstacle() {
            return self.take_back(Some(&why), plan);
        }
        if self.policy() != RETAIN {
            return plan.push(self.reclaim(RETAIN));
        }
        if let Some(why) = in_use(self.seen) {
            plan.look_again(self.now, look_again(&transfer.metadata, self.now));
            return self.running(why.reason, &why.message, plan);
        }
        if !self.reserve(plan) {
            return;
        }
        self.remove_source(plan);
    }

    /// Whether claim and DataVolume of the target are there; makes what is missing.
    fn reserve(&self, plan: &mut Plan<Op>) -> bool {
        let transfer = self.seen.transfer;
        let Some(claim) = self.new_claim else {
            let claim = self.memory.new_claim(transfer);
            plan.push(Op::CreateClaim(Box::new(claim)));
            return false;
        };
        let news = [Some(&claim.metadata), self.new_dv.map(|dv| &dv.metadata)];
        if news.into_iter().flatten().any(leaves) {
            self.running("TargetLeaves", "Target is being deleted", plan);
            return false;
        }
        let Some(wanted) = self.memory.new_data_volume(transfer) else {
            return true;
        };
        let Some(dv) = self.new_dv else {
            plan.push(Op::CreateDataVolume(Box::new(wanted)));
            return false;
        };
        let owners = claim.metadata.owner_references.clone().unwrap_or_default();
        if owners.iter().any(|owner| owner.uid == uid(&dv.metadata)) {
            return true;
        }
        let mut owners: Vec<Value> = owners.iter().map(|owner| json!(owner)).collect();
        owners.push(json!(owner(dv)));
        let patch = json!({ "metadata": {
            "resourceVersion": claim.metadata.resource_version,
            "ownerReferences": owners,
        } });
        plan.push(Op::PatchClaim(target(transfer), patch));
        false
    }

    /// Deletes what is there of the source. Only ever called with a volume that is retained.
    fn remove_source(&self, plan: &mut Plan<Op>) {
        let from = source(self.seen.transfer);
        if let Some(dv) = self.dv {
            if !leaves(&dv.metadata) {
                let uid = uid(&dv.metadata).to_owned();
                plan.push(Op::DeleteDataVolume(from, uid));
            }
        } else if let Some(claim) = self.claim.filter(|claim| !leaves(&claim.metadata)) {
            let uid = uid(&claim.metadata).to_owned();
            plan.push(Op::DeleteClaim(from, uid));
        }
    }

    /// Undoes all: the source is whole.
    fn take_back(&self, why: Option<&Obstacle>, plan: &mut Plan<Op>) {
        let transfer = self.seen.transfer;
        let to = target(transfer);
        if let Some(dv) = self.new_dv {
            if !leaves(&dv.metadata) {
                let uid = uid(&dv.metadata).to_owned();
                plan.push(Op::DeleteDataVolume(to, uid));
            }
            return;
        }
        if let Some(claim) = self.new_claim {
            if !leaves(&claim.metadata) {
                let uid = uid(&claim.metadata).to_owned();
                plan.push(Op::DeleteClaim(to, uid));
            }
            return;
        }
        if self.policy() != self.memory.reclaim {
            return plan.push(self.reclaim(&self.memory.reclaim));
        }
        unmark(self.seen, plan);
        if !plan.steps.is_empty() {
            return;
        }
        match why {
            Some(why) => {
                let phase = if why.reason == TAKEN { ERROR } else { PENDING };
                let data = Some(Value::Null);
                let message = &why.message;
                tell_and(transfer, phase, why.reason, message, data, self.now, plan);
            }
            None => let_go(transfer, plan),
        }
    }

    /// The source is going: only forward, whatever became of the transfer.
    fn cross(&self, plan: &mut Plan<Op>) {
        let transfer = self.seen.transfer;
        if self.policy() != RETAIN {
            return plan.push(self.reclaim(RETAIN));
        }
        if self.dv.is_some() || self.claim.is_some() {
            self.remove_source(plan);
            if plan.steps.is_empty() {
                let message = match in_use(self.seen) {
                    Some(why) => format!("Waiting for source to go: {}", why.message),
                    None => "Waiting for source to go".to_owned(),
                };
                self.running("SourceLeaves", &message, plan);
            }
            return;
        }
        if let Some(why) = self.obstacle() {
            let message = format!(
                "{}; PersistentVolume {} keeps the data until then",
                why.message, self.memory.volume
            );
            let why = Obstacle { message, ..why };
            return stop(self.seen, &why, self.now, plan);
        }
        if !self.reserve(plan) {
            return;
        }
        let Some(claim) = self.new_claim else {
            return;
        };
        if holder(self.volume) != Some(uid(&claim.metadata)) {
            return self.give(claim, plan);
        }
        // Kubernetes looks at a claim that waits for its volume when the claim changes, and may
        // not know of the volume's change at once: else it looks every 15 seconds.
        let from = source(transfer);
        let from = format!("{}/{}", from.namespace, from.name);
        if noted(&claim.metadata, note::TRANSFERRED_FROM) != Some(&from) && self.has_waited() {
            let patch =
                json!({ "metadata": { "annotations": { (note::TRANSFERRED_FROM): from } } });
            return plan.push(Op::PatchClaim(target(transfer), patch));
        }
        plan.look_again(self.now, look_again(&transfer.metadata, self.now));
        self.running(NOT_BOUND, "Waiting for target to be bound", plan);
    }

    /// Whether the target has waited to be bound for a second.
    fn has_waited(&self) -> bool {
        let status = self.seen.transfer.status.as_ref();
        let mut told = status.into_iter().flat_map(|status| &status.conditions);
        told.any(|one| {
            let since = one.last_heartbeat_time.as_ref().map(|time| time.0);
            one.reason == NOT_BOUND
                && since.is_some_and(|since| since.as_second() < self.now.as_second())
        })
    }

    /// Gives the volume to the target's claim.
    fn give(&self, claim: &PersistentVolumeClaim, plan: &mut Plan<Op>) {
        let Place { namespace, name } = target(self.seen.transfer);
        let spec = self.volume.spec.as_ref();
        let held = spec.and_then(|spec| spec.claim_ref.as_ref());
        let free = held.is_none_or(|held| {
            held.uid == self.memory.claim.metadata.uid
                // A claim of ours that somebody deleted, for this one has its name.
                || (held.namespace.as_ref() == Some(&namespace) && held.name.as_ref() == Some(&name))
        });
        if !free {
            let why = unwatched("PVBoundToWrongPVC", "PV bound to wrong PVC");
            return stop(self.seen, &why, self.now, plan);
        }
        plan.push(self.change(&json!({ "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": namespace, "name": name, "uid": claim.metadata.uid,
            "resourceVersion": null,
        } })));
    }

    /// The target has the volume: its policy is what it was, and the DataVolume knows.
    fn finish(&self, plan: &mut Plan<Op>) {
        let transfer = self.seen.transfer;
        if moves_data_volume(transfer)
            && self.new_dv.is_none()
            && let Some(why) = self.obstacle()
        {
            return stop(self.seen, &why, self.now, plan);
        }
        if !self.reserve(plan) {
            return;
        }
        let status = self.new_dv.and_then(|dv| dv.status.as_ref());
        let whole = status.is_some_and(|status| status.phase == phase::SUCCEEDED);
        if moves_data_volume(transfer) && !whole {
            return self.running("NotPopulated", "Waiting for target DataVolume", plan);
        }
        if self.policy() != self.memory.reclaim {
            return plan.push(self.reclaim(&self.memory.reclaim));
        }
        let data = Some(Value::Null);
        let (reason, message) = ("TransferComplete", "Transfer complete");
        tell_and(transfer, COMPLETE, reason, message, data, self.now, plan);
    }
}
