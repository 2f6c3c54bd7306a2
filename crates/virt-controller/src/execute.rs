//! Carries out the steps of a plan, one exhaustive match for each kind.
//!
//! What the API server answers goes into the index at once, so that the next
//! decision sees it whether or not the watch has told it yet.

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;

use decide::plan::{Event, Step};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Resource;
use kube_kit::events::{EventType, Recorder};
use kube_kit::queue::WorkQueue;
use kube_kit::{is_conflict, is_not_found};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::index::{Index, Key, ObjectKey};
use crate::raw::{RawDataVolume, RawVm, RawVmi};

/// How a step, or a pass over a key, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is nothing to do.
    Settled,
    /// Something was done: decide again.
    Progress,
    /// Somebody was faster; the watch will tell.
    Conflict,
    /// It did not work: try again later.
    Failed,
}

/// Writes to the API server.
pub(crate) struct Executor {
    client: Client,
    index: Rc<RefCell<Index>>,
    queue: WorkQueue<Key>,
    recorder: Recorder,
}

/// Whether a write was made, or found that the index was behind.
enum Written {
    Yes,
    Stale,
    /// The API server took it and changed nothing: admission undid it.
    NoEffect,
}

impl Executor {
    pub(crate) fn new(
        client: Client,
        index: Rc<RefCell<Index>>,
        queue: WorkQueue<Key>,
        recorder: Recorder,
    ) -> Self {
        Self {
            client,
            index,
            queue,
            recorder,
        }
    }

    pub(crate) async fn vm(
        &self,
        key: &Key,
        name: &ObjectKey,
        step: Step<decide::vm::Op>,
    ) -> Outcome {
        use decide::vm::Op;
        let vms: Api<RawVm> = self.api(name);
        let vmis: Api<RawVmi> = self.api(name);
        let params = PatchParams::default();
        let before = self.index.borrow().vm_version(name);
        let vmi_before = self.index.borrow().vmi_version(name);
        let result = match step.op {
            Op::Patch(patch) => {
                let patched = vms.patch(&name.name, &params, &Patch::Merge(&patch)).await;
                patched.map(|vm| self.patched_vm(vm, before.as_deref()))
            }
            Op::PatchStatus(patch) => {
                let patch = Patch::Merge(&patch);
                let patched = vms.patch_status(&name.name, &params, &patch).await;
                patched.map(|vm| self.patched_vm(vm, before.as_deref()))
            }
            Op::CreateDataVolume(made) => self.create_data_volume(name, *made).await,
            Op::CreateInstance(vmi) => self.create_instance(&vmis, name, *vmi).await,
            Op::DeleteInstance { uid } => self.delete_instance(&vmis, name, &uid).await,
            Op::PatchInstance(patch) => {
                let patched = vmis.patch(&name.name, &params, &Patch::Merge(&patch)).await;
                patched.map(|vmi| self.patched_vmi(vmi, vmi_before.as_deref()))
            }
        };
        self.conclude(key, step.done, step.failed, result)
    }

    pub(crate) async fn vmi(
        &self,
        key: &Key,
        name: &ObjectKey,
        step: Step<decide::vmi::Op>,
    ) -> Outcome {
        use decide::vmi::Op;
        let vmis: Api<RawVmi> = self.api(name);
        let pods: Api<Pod> = self.api(name);
        let params = PatchParams::default();
        let before = self.index.borrow().vmi_version(name);
        let result = match step.op {
            Op::Patch(patch) => {
                let patched = vmis.patch(&name.name, &params, &Patch::Merge(&patch)).await;
                match patched {
                    Ok(vmi) => Ok(self.patched_vmi(vmi, before.as_deref())),
                    // The last finalizer went with an earlier patch.
                    Err(error) if is_not_found(&error) => Ok(self.drop_vmi(name)),
                    Err(error) => Err(error),
                }
            }
            Op::CreatePod(pod) => self.create_pod(&pods, name, &pod).await,
            Op::DeletePod {
                name: pod,
                uid,
                grace_seconds,
            } => {
                let vmi_uid = self.index.borrow().vmi_uid(name).unwrap_or_default();
                self.delete_pod(&pods, &vmi_uid, &pod, uid, grace_seconds)
                    .await
            }
            Op::ConfirmPod { name: pod } => self.confirm_pod(&pods, name, &pod).await,
            // A pod that is not there: its deletion is on its way to us.
            Op::PatchPod { name: pod, patch } => {
                let patched = pods.patch(&pod, &params, &Patch::Merge(&patch)).await;
                patched.map(|pod| self.keep_pod(&pod))
            }
            Op::PatchPodStatus { name: pod, patch } => {
                let patch = Patch::Strategic(&patch);
                let patched = pods.patch_status(&pod, &params, &patch).await;
                patched.map(|pod| self.keep_pod(&pod))
            }
        };
        self.conclude(key, step.done, step.failed, result)
    }

    pub(crate) async fn node(
        &self,
        key: &Key,
        name: &str,
        step: Step<decide::node::Op>,
    ) -> Outcome {
        let decide::node::Op::Patch(patch) = step.op;
        let nodes: Api<Node> = Api::all(self.client.clone());
        let result = nodes
            .patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map(|node| {
                let keys = self.index.borrow_mut().put_node(&node.metadata);
                self.enqueue(keys)
            });
        self.conclude(key, step.done, step.failed, result)
    }

    async fn create_data_volume(&self, vm: &ObjectKey, made: Value) -> kube::Result<Written> {
        let api: Api<RawDataVolume> = self.api(vm);
        let made: RawDataVolume = serde_json::from_value(made).map_err(kube::Error::SerdeError)?;
        match api.create(&PostParams::default(), &made).await {
            Ok(made) => Ok(self.keep_data_volume(&made)),
            // Made before, and not yet seen; a stranger's of that name is used as it is.
            Err(error) if is_conflict(&error) => {
                let name = made.metadata.name.as_deref().unwrap_or_default();
                match api.get_opt(name).await? {
                    Some(known) => {
                        self.keep_data_volume(&known);
                        Ok(Written::Stale)
                    }
                    None => Err(error),
                }
            }
            Err(kube::Error::Api(mut status)) if status.code == 404 => {
                status.message = "the cluster has no DataVolumes: install the Containerized Data Importer, or leave spec.dataVolumeTemplates out".to_owned();
                Err(kube::Error::Api(status))
            }
            Err(error) => Err(error),
        }
    }

    async fn create_instance(
        &self,
        vmis: &Api<RawVmi>,
        name: &ObjectKey,
        vmi: Value,
    ) -> kube::Result<Written> {
        let vmi: RawVmi = serde_json::from_value(vmi).map_err(kube::Error::SerdeError)?;
        match vmis.create(&PostParams::default(), &vmi).await {
            Ok(vmi) => Ok(self.keep_vmi(vmi)),
            Err(error) if is_conflict(&error) => self.refresh_vmi(vmis, name, error).await,
            Err(error) => Err(error),
        }
    }

    async fn delete_instance(
        &self,
        vmis: &Api<RawVmi>,
        name: &ObjectKey,
        uid: &str,
    ) -> kube::Result<Written> {
        match vmis.delete(&name.name, &only(uid)).await {
            Ok(answer) => Ok(answer.either(|vmi| self.keep_vmi(vmi), |_| self.drop_vmi(name))),
            Err(error) if is_not_found(&error) => Ok(self.drop_vmi(name)),
            Err(error) if is_conflict(&error) => self.refresh_vmi(vmis, name, error).await,
            Err(error) => Err(error),
        }
    }

    /// Somebody was faster: what is there now?
    async fn refresh_vmi(
        &self,
        vmis: &Api<RawVmi>,
        name: &ObjectKey,
        conflict: kube::Error,
    ) -> kube::Result<Written> {
        match vmis.get_opt(&name.name).await? {
            Some(vmi) => self.keep_vmi(vmi),
            None => self.drop_vmi(name),
        };
        // One that does not fit its type is not in the index: say so.
        if self.index.borrow().vmi_uid(name).is_none() {
            return Err(conflict);
        }
        Ok(Written::Stale)
    }

    async fn create_pod(
        &self,
        pods: &Api<Pod>,
        vmi: &ObjectKey,
        pod: &Pod,
    ) -> kube::Result<Written> {
        match pods.create(&PostParams::default(), pod).await {
            Ok(pod) => Ok(self.keep_pod(&pod)),
            Err(error) if is_conflict(&error) => {
                // Made before, and not yet seen; or a stranger's.
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let ours = self.index.borrow().vmi_uid(vmi);
                match pods.get_opt(name).await? {
                    Some(pod)
                        if decide::pod::PodFacts::from(&pod).vmi_uid
                            == ours.unwrap_or_default() =>
                    {
                        Ok(self.keep_pod(&pod))
                    }
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn delete_pod(
        &self,
        pods: &Api<Pod>,
        vmi_uid: &str,
        name: &str,
        uid: String,
        grace_seconds: Option<i64>,
    ) -> kube::Result<Written> {
        let params = DeleteParams {
            grace_period_seconds: grace_seconds.and_then(|seconds| u32::try_from(seconds).ok()),
            ..only(&uid)
        };
        let answer = pods.delete(name, &params).await;
        let mut index = self.index.borrow_mut();
        match answer {
            Ok(_) => {
                index.pod_is_leaving(vmi_uid, &uid);
                Ok(Written::Yes)
            }
            Err(error) if is_not_found(&error) => {
                index.forget_pod(vmi_uid, &uid);
                Ok(Written::Stale)
            }
            Err(error) => Err(error),
        }
    }

    async fn confirm_pod(
        &self,
        pods: &Api<Pod>,
        vmi: &ObjectKey,
        pod: &str,
    ) -> kube::Result<Written> {
        let uid = self.index.borrow().vmi_uid(vmi).unwrap_or_default();
        match pods.get_opt(pod).await? {
            Some(pod) if decide::pod::PodFacts::from(&pod).vmi_uid == uid => {
                Ok(self.keep_pod(&pod))
            }
            _ => {
                self.index.borrow_mut().pod_is_absent(vmi, &uid);
                Ok(Written::Yes)
            }
        }
    }

    /// What the end of a step means for its object.
    fn conclude(
        &self,
        key: &Key,
        done: Option<Event>,
        failed: Option<&'static str>,
        result: kube::Result<Written>,
    ) -> Outcome {
        let error = match result {
            Ok(Written::Stale) => return Outcome::Progress,
            Ok(Written::NoEffect) => {
                tracing::warn!(
                    ?key,
                    "a patch was accepted and changed nothing; expected to run as the service account of virt-controller, whose writes admission keeps"
                );
                return Outcome::Failed;
            }
            Ok(Written::Yes) => {
                if failed.is_some() {
                    self.index.borrow_mut().succeed(key);
                }
                if let Some(event) = done {
                    self.publish(key, event);
                }
                return Outcome::Progress;
            }
            Err(error) => error,
        };
        let refused = match &error {
            kube::Error::Api(status) => Some(status.message.clone()),
            _ => None,
        };
        match (refused, failed) {
            (Some(_), None | Some("FailedDelete")) if is_conflict(&error) => {
                tracing::debug!(?key, "conflict: {error}");
                Outcome::Conflict
            }
            (Some(message), Some(reason)) => {
                let message = format!("{}: {message}", what_failed(key, reason));
                tracing::warn!(?key, reason, "{message}");
                let now = Timestamp::now();
                self.index.borrow_mut().fail(key, reason, &message, now);
                self.publish(
                    key,
                    Event {
                        warning: true,
                        reason,
                        message,
                    },
                );
                Outcome::Progress
            }
            (Some(_), None) if is_not_found(&error) => Outcome::Conflict,
            _ => {
                tracing::warn!(?key, "a write failed: {error}");
                Outcome::Failed
            }
        }
    }

    /// Events are written beside the work, which never waits for them.
    fn publish(&self, key: &Key, event: Event) {
        let Some(object) = self.index.borrow().reference(key) else {
            return;
        };
        let type_ = EventType::of(event.warning);
        self.recorder
            .publish_beside(object, vec![(type_, event.reason, event.message)]);
    }

    fn api<K>(&self, name: &ObjectKey) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        Api::namespaced(self.client.clone(), &name.namespace)
    }

    fn enqueue(&self, keys: Vec<Key>) -> Written {
        for key in keys {
            self.queue.add(key);
        }
        Written::Yes
    }

    /// Keeps what a patch made of a VM whose version was `before`.
    fn patched_vm(&self, vm: RawVm, before: Option<&str>) -> Written {
        if vm.metadata.resource_version.as_deref() == before && !is_leaving(&vm.metadata) {
            return Written::NoEffect;
        }
        self.keep_vm(vm)
    }

    /// Keeps what a patch made of a VMI whose version was `before`.
    fn patched_vmi(&self, vmi: RawVmi, before: Option<&str>) -> Written {
        if vmi.metadata.resource_version.as_deref() == before && !is_leaving(&vmi.metadata) {
            return Written::NoEffect;
        }
        self.keep_vmi(vmi)
    }

    fn keep_data_volume(&self, raw: &RawDataVolume) -> Written {
        let keys = self.index.borrow_mut().put_data_volume(raw);
        self.enqueue(keys)
    }

    fn keep_vm(&self, vm: RawVm) -> Written {
        let keys = self.index.borrow_mut().put_vm(vm);
        self.enqueue(keys)
    }

    fn keep_vmi(&self, mut vmi: RawVmi) -> Written {
        vmi.metadata.managed_fields = None;
        let keys = if is_leaving(&vmi.metadata) {
            self.index.borrow_mut().remove_vmi(&vmi.metadata)
        } else {
            self.index.borrow_mut().put_vmi(vmi)
        };
        self.enqueue(keys)
    }

    fn keep_pod(&self, pod: &Pod) -> Written {
        let keys = self.index.borrow_mut().put_pod(pod);
        self.enqueue(keys)
    }

    fn drop_vmi(&self, name: &ObjectKey) -> Written {
        let uid = self.index.borrow().vmi_uid(name);
        let meta = kube::core::ObjectMeta {
            namespace: Some(name.namespace.clone()),
            name: Some(name.name.clone()),
            uid,
            ..kube::core::ObjectMeta::default()
        };
        let keys = self.index.borrow_mut().remove_vmi(&meta);
        self.enqueue(keys)
    }
}

/// The last finalizer of a deleted object went: it is gone, and the answer to
/// that patch carries the version from before it.
fn is_leaving(meta: &kube::core::ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
}

fn only(uid: &str) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

fn what_failed(key: &Key, reason: &str) -> &'static str {
    match (key, reason) {
        (Key::Vm(_), "FailedDelete") => "cannot delete the virtual machine instance",
        (Key::Vm(_), "FailedDataVolumeCreate") => "cannot create the DataVolume",
        (Key::Vm(_), _) => "cannot create the virtual machine instance",
        (Key::Vmi(_), "FailedDelete") => "cannot delete the launcher pod",
        (Key::Vmi(_), _) => "cannot create the launcher pod",
        (Key::Node(_), _) => "cannot patch the node",
    }
}

#[cfg(test)]
mod tests;
