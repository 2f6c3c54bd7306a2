//! ObjectTransfers: what is looked at for one, and the writes for it. Nothing but the transfers
//! themselves is watched for them: volumes, pods and namespaces are asked for while one runs.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use api::cdi::names::API_VERSION;
use api::cdi::{DataVolume, ObjectTransfer};
use decide::cdi::transfer::{self, Home, Observed, Op, Place};
use decide::plan::{Event, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Namespace, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube_kit::{is_conflict, is_not_found};

use super::act::{Actor, Outcome, only};
use super::world::{Kept, Key, Name, World};

/// Transfers by name; their namespace is none.
#[derive(Default)]
pub(super) struct Transfers {
    all: HashMap<Name, ObjectTransfer>,
}

impl Transfers {
    fn get(&self, name: &str) -> Option<&ObjectTransfer> {
        self.all.get(&Name::new("", name))
    }

    /// Keys of transfers that go on when an object of this name changed.
    pub(super) fn concerning(&self, name: &Name) -> Vec<Key> {
        let all = self.all.iter().filter(|(_, one)| {
            let at = |place: Place| place.namespace == name.namespace && place.name == name.name;
            !transfer::is_over(one) && (at(transfer::source(one)) || at(transfer::target(one)))
        });
        all.map(|(name, _)| Key::Transfer(name.name.clone()))
            .collect()
    }
}

impl Kept for ObjectTransfer {
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn all(world: &mut World) -> &mut HashMap<Name, Self> {
        &mut world.transfers.all
    }

    fn keys(world: &World, moved: &Self, name: &Name) -> Vec<Key> {
        let mut keys = vec![Key::Transfer(name.name.clone())];
        // Others may wait for the same source.
        keys.extend(
            world
                .transfers
                .concerning(&name_of(transfer::source(moved))),
        );
        keys
    }
}

fn name_of(place: Place) -> Name {
    Name {
        namespace: place.namespace,
        name: place.name,
    }
}

/// What is asked for and not watched.
#[derive(Default)]
struct Facts {
    claim: Option<PersistentVolumeClaim>,
    volume: Option<PersistentVolume>,
    users: Vec<String>,
    home: Home,
}

impl World {
    fn decide_transfer(&self, name: &str, facts: &Facts, now: Timestamp) -> Plan<Op> {
        let Some(transfer) = self.transfers.get(name) else {
            return Plan::default();
        };
        let from = name_of(transfer::source(transfer));
        let to = name_of(transfer::target(transfer));
        let alive = |name: &str| {
            let other = self.transfers.get(name);
            other.is_some_and(|other| !transfer::is_over(other))
        };
        transfer::decide(
            &Observed {
                transfer,
                dv: self.volumes.get(&from),
                claim: facts.claim.as_ref(),
                target_dv: self.volumes.get(&to),
                target_claim: self.claim(&to),
                volume: facts.volume.as_ref(),
                users: &facts.users,
                home: facts.home,
                alive: &alive,
            },
            now,
        )
    }
}

impl Actor {
    /// Decides on a transfer and acts, once.
    pub(super) async fn transfer(&self, name: &str) -> Outcome {
        let known = self.world.borrow().transfers.get(name).cloned();
        let Some(transfer) = known else {
            return Outcome::Settled;
        };
        let facts = match self.facts(&transfer).await {
            Ok(facts) => facts,
            Err(error) => {
                let why = kube_kit::reason(&error);
                tracing::warn!(name, "cannot look at what a transfer moves: {why}");
                return Outcome::Failed;
            }
        };
        let now = Timestamp::now();
        let plan = self.world.borrow().decide_transfer(name, &facts, now);
        if let Some(after) = plan.requeue {
            self.queue.add_after(Key::Transfer(name.to_owned()), after);
        }
        let mut outcome = Outcome::Settled;
        for step in plan.steps {
            if let Err(error) = self.transfer_step(name, step.op).await {
                // Somebody was faster: what is there now is looked at.
                if is_conflict(&error) || is_not_found(&error) {
                    tracing::debug!(name, "a transfer looks again: {error}");
                    return Outcome::Conflict;
                }
                self.transfer_failed(&transfer, &kube_kit::reason(&error))
                    .await;
                return Outcome::Failed;
            }
            outcome = Outcome::Progress;
            if let Some(event) = step.done {
                self.tell_transfer(&transfer, event);
            }
        }
        outcome
    }

    /// What of the cluster matters and is not watched.
    async fn facts(&self, transfer: &ObjectTransfer) -> kube::Result<Facts> {
        let mut facts = Facts::default();
        let begun = transfer
            .status
            .as_ref()
            .is_some_and(|status| !status.phase.is_empty());
        if transfer::is_over(transfer) || !begun {
            return Ok(facts);
        }
        let from = name_of(transfer::source(transfer));
        let to = name_of(transfer::target(transfer));
        let claims: Api<PersistentVolumeClaim> = self.api(&from);
        facts.claim = claims.get_opt(&from.name).await?;
        let spec = facts.claim.as_ref().and_then(|claim| claim.spec.as_ref());
        let bound = spec.and_then(|spec| spec.volume_name.as_deref());
        let volume = transfer::volume_name(transfer).or(bound);
        if let Some(volume) = volume.filter(|name| !name.is_empty()) {
            let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
            facts.volume = volumes.get_opt(volume).await?;
        }
        if bound.is_some() {
            facts.users = self.users(&from).await?;
        }
        if self.world.borrow().claim(&to).is_none() {
            let namespaces: Api<Namespace> = Api::all(self.client.clone());
            facts.home = match namespaces.get_metadata_opt(&to.namespace).await? {
                None => Home::Missing,
                Some(found) if found.metadata.deletion_timestamp.is_some() => Home::Leaving,
                Some(_) => Home::There,
            };
        }
        Ok(facts)
    }

    /// Pods that use the claim, readers too, and have not ended.
    async fn users(&self, claim: &Name) -> kube::Result<Vec<String>> {
        let pods: Api<Pod> = self.api(claim);
        let unended = "status.phase!=Succeeded,status.phase!=Failed";
        let list = pods.list(&ListParams::default().fields(unended)).await?;
        let uses = |pod: &Pod| {
            let own = pod.metadata.name.as_deref().unwrap_or_default();
            let volumes = pod
                .spec
                .iter()
                .flat_map(|spec| spec.volumes.iter().flatten());
            volumes.into_iter().any(|volume| {
                let named = volume.persistent_volume_claim.as_ref();
                named.is_some_and(|named| named.claim_name == claim.name)
                    || (volume.ephemeral.is_some()
                        && claim.name == format!("{own}-{}", volume.name))
            })
        };
        let users = list.items.into_iter().filter(uses);
        Ok(users.filter_map(|pod| pod.metadata.name).collect())
    }

    /// Takes a step, and keeps what the API server answers.
    async fn transfer_step(&self, name: &str, op: Op) -> kube::Result<()> {
        let transfers: Api<ObjectTransfer> = Api::all(self.client.clone());
        let (params, post) = (PatchParams::default(), PostParams::default());
        match op {
            Op::Patch(patch) => {
                let patch = Patch::Merge(&patch);
                self.keep(transfers.patch(name, &params, &patch).await?);
            }
            Op::PatchStatus(patch) => {
                let patch = Patch::Merge(&patch);
                self.keep(transfers.patch_status(name, &params, &patch).await?);
            }
            Op::PatchClaim(at, patch) => {
                let at = name_of(at);
                let claims: Api<PersistentVolumeClaim> = self.api(&at);
                let patch = Patch::Merge(&patch);
                self.keep(claims.patch(&at.name, &params, &patch).await?);
            }
            Op::PatchDataVolume(at, patch) => {
                let at = name_of(at);
                let volumes: Api<DataVolume> = self.api(&at);
                let patch = Patch::Merge(&patch);
                self.keep(volumes.patch(&at.name, &params, &patch).await?);
            }
            Op::PatchVolume(volume, patch) => {
                let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
                let patch = Patch::Merge(&patch);
                volumes.patch_metadata(&volume, &params, &patch).await?;
            }
            Op::CreateClaim(claim) => {
                let at = Name::of(&claim.metadata);
                let claims: Api<PersistentVolumeClaim> = self.api(&at);
                let made = match claims.create(&post, &claim).await {
                    // Made before, and not yet seen; or a stranger's, which the decision tells.
                    Err(error) if is_conflict(&error) => claims.get(&at.name).await?,
                    made => made?,
                };
                self.keep(made);
            }
            Op::CreateDataVolume(volume) => {
                let at = Name::of(&volume.metadata);
                let volumes: Api<DataVolume> = self.api(&at);
                let made = match volumes.create(&post, &volume).await {
                    Err(error) if is_conflict(&error) => volumes.get(&at.name).await?,
                    made => made?,
                };
                self.keep(made);
            }
            Op::DeleteClaim(at, uid) => {
                let at = name_of(at);
                let claims: Api<PersistentVolumeClaim> = self.api(&at);
                match claims.delete(&at.name, &only(uid)).await {
                    Err(error) if !is_not_found(&error) => return Err(error),
                    _ => self.reread(&claims, &at).await?,
                }
            }
            Op::DeleteDataVolume(at, uid) => {
                let at = name_of(at);
                let volumes: Api<DataVolume> = self.api(&at);
                match volumes.delete(&at.name, &only(uid)).await {
                    Err(error) if !is_not_found(&error) => return Err(error),
                    _ => self.reread(&volumes, &at).await?,
                }
            }
        }
        Ok(())
    }

    /// What is left of an object that was deleted.
    async fn reread<K>(&self, api: &Api<K>, at: &Name) -> kube::Result<()>
    where
        K: Kept + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        if let Some(left) = api.get_opt(&at.name).await? {
            self.keep(left);
            return Ok(());
        }
        let gone = K::all(&mut self.world.borrow_mut())
            .get(at)
            .map(|known| known.meta().clone());
        if let Some(gone) = gone {
            let keys = self.world.borrow_mut().remove::<K>(&gone);
            for key in keys {
                self.queue.add(key);
            }
        }
        Ok(())
    }

    /// Tells why a step could not be taken.
    async fn transfer_failed(&self, transfer: &ObjectTransfer, why: &str) {
        let name = transfer.metadata.name.clone().unwrap_or_default();
        tracing::warn!(name, "a step of a transfer failed: {why}");
        for step in transfer::failed(transfer, why, Timestamp::now()).steps {
            if let Err(error) = self.transfer_step(&name, step.op).await {
                let error = kube_kit::reason(&error);
                tracing::warn!(name, "cannot tell so: {error}");
                return;
            }
            if let Some(event) = step.done {
                self.tell_transfer(transfer, event);
            }
        }
    }

    fn tell_transfer(&self, transfer: &ObjectTransfer, event: Event) {
        let object = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some("ObjectTransfer".to_owned()),
            name: transfer.metadata.name.clone(),
            uid: transfer.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.write_event(object, event);
    }
}
