//! Keeps the cluster's view of one guest right: one input after the other,
//! then one decision, then its patch.

use std::sync::Arc;
use std::time::Duration;

use api::VirtualMachineInstance;
use api::launcher::{DomainPhase, DomainState, Op};
use decide::handler::{Observed, Plan, decide};
use decide::plan::Event;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, Patch, PatchParams};
use kube_kit::events::EventType;
use tokio::sync::mpsc;

use super::{Command, Input, Shared, ask};
use crate::network::Networks;
use crate::podinfo::PodInfo;

/// Time until a patch that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Conflicts in a row before we wait.
const CONFLICTS: usize = 5;

/// One guest's keeper.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    pod: PodInfo,
    own: mpsc::WeakUnboundedSender<Input>,
    commands: mpsc::Sender<Command>,
    api: Api<VirtualMachineInstance>,
    vmi: Option<Box<VirtualMachineInstance>>,
    domain: Option<Box<DomainState>>,
    networks: Networks,
    sync_error: Option<String>,
    stop_sent: Option<i64>,
    /// The launcher knows that all containers were started.
    hurried: bool,
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        pod: PodInfo,
        own: mpsc::WeakUnboundedSender<Input>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        let api = Api::namespaced(shared.client.clone(), &pod.namespace);
        Self {
            shared,
            pod,
            own,
            commands,
            api,
            vmi: None,
            domain: None,
            networks: Networks::default(),
            sync_error: None,
            stop_sent: None,
            hurried: false,
        }
    }

    /// Runs until the pod is gone.
    pub(super) async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        while let Some(input) = inputs.recv().await {
            self.take(input);
            // What came meanwhile is decided on at once: one patch for all.
            while let Ok(input) = inputs.try_recv() {
                self.take(input);
            }
            self.hurry();
            if let Err(error) = self.settle().await {
                tracing::warn!(
                    vmi = self.pod.vmi_name,
                    namespace = self.pod.namespace,
                    "status: {error}"
                );
                self.later(AGAIN, Input::Retry);
            }
        }
    }

    /// Tells a launcher that waits for its disks when no more containers will
    /// be started.
    fn hurry(&mut self) {
        let starting = self
            .domain
            .as_ref()
            .is_some_and(|domain| domain.phase == DomainPhase::Starting);
        if self.pod.started && starting && !self.hurried {
            self.hurried = true;
            let commands = self.commands.clone();
            // A launcher that is lost meanwhile is told by the next handler, or
            // waits as long as an image may take.
            tokio::spawn(async move { ask(&commands, Op::ContainersStarted).await });
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Pod(pod) => self.pod = pod,
            Input::Vmi(vmi) => self.learn(vmi),
            Input::Networks(networks) => self.networks = networks,
            Input::State(state) => {
                // The guest never comes back from its end.
                if !self
                    .domain
                    .as_ref()
                    .is_some_and(|domain| domain.phase.is_final())
                {
                    self.domain = Some(state);
                }
            }
            Input::SyncError(error) => self.sync_error = error,
            Input::StopFailed => self.stop_sent = None,
            Input::Retry => {}
        }
    }

    /// Keeps the newer one: a GET may answer after the watch.
    fn learn(&mut self, mut vmi: Box<VirtualMachineInstance>) {
        vmi.metadata.managed_fields = None;
        let version = |vmi: &VirtualMachineInstance| {
            vmi.metadata
                .resource_version
                .as_deref()
                .and_then(|version| version.parse::<u64>().ok())
        };
        let older = self
            .vmi
            .as_ref()
            .is_some_and(|known| version(&vmi) < version(known));
        if !older {
            self.vmi = Some(vmi);
        }
    }

    /// Decides and acts until there is nothing to do.
    async fn settle(&mut self) -> Result<(), kube::Error> {
        for _ in 0..CONFLICTS {
            let Some(plan) = self.decide() else {
                return Ok(());
            };
            if let Some(grace) = plan.stop {
                self.stop_sent = Some(grace);
                self.stop(grace);
            }
            let Some(patch) = &plan.patch else {
                self.publish(plan.events);
                return Ok(());
            };
            match self
                .api
                .patch(
                    &self.pod.vmi_name,
                    &PatchParams::default(),
                    &Patch::Merge(patch),
                )
                .await
            {
                Ok(vmi) => {
                    self.learn(Box::new(vmi));
                    self.publish(plan.events);
                    return Ok(());
                }
                Err(error) if kube_kit::is_conflict(&error) => {
                    let vmi = self.api.get(&self.pod.vmi_name).await?;
                    if vmi.metadata.uid.as_deref() != Some(self.pod.vmi_uid.as_str()) {
                        self.vmi = None;
                        return Ok(());
                    }
                    self.learn(Box::new(vmi));
                }
                Err(error) if kube_kit::is_not_found(&error) => {
                    self.vmi = None;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.later(AGAIN, Input::Retry);
        Ok(())
    }

    fn decide(&self) -> Option<Plan> {
        Some(decide(&Observed {
            vmi: self.vmi.as_ref()?,
            domain: self.domain.as_deref(),
            pod: &self.pod.view,
            nics: &self.networks.facts,
            sync_error: self.sync_error.as_deref(),
            stop_sent: self.stop_sent,
            now: jiff::Timestamp::now(),
        }))
    }

    fn stop(&self, grace: i64) {
        let commands = self.commands.clone();
        let own = self.own.clone();
        let name = self.pod.vmi_name.clone();
        tokio::spawn(async move {
            let op = Op::Shutdown {
                grace_seconds: Some(grace),
            };
            match ask(&commands, op).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(vmi = name, "the launcher does not stop the guest: {error}")
                }
                // The connection was lost: ask again once the launcher speaks again.
                None => {
                    tokio::time::sleep(AGAIN).await;
                    if let Some(own) = own.upgrade() {
                        let _ = own.send(Input::StopFailed);
                    }
                }
            }
        });
    }

    fn publish(&self, events: Vec<Event>) {
        let Some(vmi) = self.vmi.as_ref().filter(|_| !events.is_empty()) else {
            return;
        };
        let object = ObjectReference {
            api_version: Some(api::names::API_VERSION.to_owned()),
            kind: Some("VirtualMachineInstance".to_owned()),
            name: vmi.metadata.name.clone(),
            namespace: vmi.metadata.namespace.clone(),
            uid: vmi.metadata.uid.clone(),
            resource_version: vmi.metadata.resource_version.clone(),
            ..ObjectReference::default()
        };
        let events = events
            .into_iter()
            .map(|event| (EventType::of(event.warning), event.reason, event.message));
        self.shared
            .recorder
            .publish_beside(object, events.collect());
    }

    fn later(&self, wait: Duration, input: Input) {
        let own = self.own.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(own) = own.upgrade() {
                let _ = own.send(input);
            }
        });
    }
}
