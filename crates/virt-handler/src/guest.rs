//! Guests of this node: for each launcher pod two tasks.
//!
//! ```text
//!   watches ──pod, VMI──► keeper ──patch, events──► API server
//!                          ▲  │ stop
//!                   state  │  ▼
//!   streams ──pause…────► courier ◄──► launcher.sock
//! ```
//! The *courier* ([`courier`]) talks to the launcher: waits for it, prepares
//! network and devices, starts the guest, passes requests on. The *keeper*
//! ([`keeper`]) takes one input after the other and decides, by
//! [`decide::handler`], what the cluster is told.

mod courier;
mod keeper;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use api::VirtualMachineInstance;
use api::launcher::{DomainState, Op};
use host::inotify::Watcher;
use kube_kit::events::Recorder;
use tokio::sync::{mpsc, oneshot};

use crate::Settings;
use crate::launcher::{Answer, private_dir};
use crate::network::{self, Networks};
use crate::podinfo::PodInfo;

/// Name under which events are published.
const COMPONENT: &str = "virt-handler";

/// What guests' tasks share.
struct Shared {
    client: kube::Client,
    recorder: Recorder,
    watcher: Watcher,
    pods_dir: PathBuf,
    networks_dir: PathBuf,
}

/// What a keeper takes in.
enum Input {
    /// The pod changed.
    Pod(PodInfo),
    /// The VMI, from the watch or from a GET.
    Vmi(Box<VirtualMachineInstance>),
    /// The guest's interfaces are ready.
    Networks(Networks),
    /// The launcher's word.
    State(Box<DomainState>),
    /// The guest could not be prepared; why. `None`: now it could.
    SyncError(Option<String>),
    /// The launcher was asked to stop the guest and could not be reached.
    StopFailed,
    /// Try again what failed.
    Retry,
}

/// A request for a launcher.
struct Command {
    op: Op,
    done: oneshot::Sender<Answer>,
}

/// Why a request reached no guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// No launcher of that VMI is on this node.
    #[error("no guest of VMI {namespace}/{name} is on this node")]
    NotHere {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The launcher ended or is not there yet.
    #[error("the launcher of the VMI does not answer")]
    NoLauncher,
    /// The launcher refused.
    #[error("{0}")]
    Refused(String),
}

struct Entry {
    pod: PodInfo,
    inputs: mpsc::UnboundedSender<Input>,
    commands: mpsc::Sender<Command>,
    tasks: [tokio::task::AbortHandle; 2],
}

/// The guests of this node, by the UID of their pod.
pub(crate) struct Guests {
    shared: Arc<Shared>,
    entries: Mutex<HashMap<String, Entry>>,
}

impl Guests {
    pub(crate) fn new(settings: &Settings, client: kube::Client, watcher: Watcher) -> Self {
        let shared = Shared {
            recorder: Recorder::new(client.clone(), COMPONENT).on_host(&settings.node_name),
            client,
            watcher,
            pods_dir: settings.pods(),
            networks_dir: settings.networks(),
        };
        Self {
            shared: Arc::new(shared),
            entries: Mutex::default(),
        }
    }

    /// A pod is there or changed.
    pub(crate) fn pod(&self, pod: PodInfo) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&pod.uid) {
            if entry.pod != pod {
                entry.pod = pod.clone();
                // The keeper ends only with its entry.
                let _ = entry.inputs.send(Input::Pod(pod));
            }
            return;
        }
        tracing::info!(
            pod = pod.name,
            namespace = pod.namespace,
            vmi = pod.vmi_name,
            "a launcher is here"
        );
        let (inputs, keeper_inputs) = mpsc::unbounded_channel();
        let (commands, courier_commands) = mpsc::channel(16);
        let keeper = keeper::Keeper::new(
            Arc::clone(&self.shared),
            pod.clone(),
            inputs.downgrade(),
            commands.clone(),
        );
        let courier = courier::Courier::new(Arc::clone(&self.shared), pod.clone(), inputs.clone());
        let tasks = [
            tokio::spawn(keeper.run(keeper_inputs)).abort_handle(),
            tokio::spawn(courier.run(courier_commands)).abort_handle(),
        ];
        entries.insert(
            pod.uid.clone(),
            Entry {
                pod,
                inputs,
                commands,
                tasks,
            },
        );
    }

    /// A pod is gone.
    pub(crate) fn pod_gone(&self, uid: &str) {
        if let Some(entry) = self.lock().remove(uid) {
            tracing::info!(
                pod = entry.pod.name,
                namespace = entry.pod.namespace,
                "a launcher is gone"
            );
            entry.tasks.iter().for_each(tokio::task::AbortHandle::abort);
            network::forget(&self.shared.networks_dir, uid);
        }
    }

    /// These pods are there, and no others.
    pub(crate) fn keep(&self, present: &HashSet<&str>) {
        let gone: Vec<String> = self
            .lock()
            .keys()
            .filter(|uid| !present.contains(uid.as_str()))
            .cloned()
            .collect();
        gone.iter().for_each(|uid| self.pod_gone(uid));
        // Records of pods that went while no handler ran.
        for entry in std::fs::read_dir(&self.shared.networks_dir)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let uid = name.to_str().and_then(|name| name.strip_suffix(".json"));
            if let Some(uid) = uid.filter(|uid| !present.contains(uid)) {
                network::forget(&self.shared.networks_dir, uid);
            }
        }
    }

    /// A VMI that runs here changed.
    pub(crate) fn vmi(&self, vmi: VirtualMachineInstance) {
        let entries = self.lock();
        let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
        if let Some(entry) = entries.values().find(|entry| entry.pod.vmi_uid == uid) {
            let _ = entry.inputs.send(Input::Vmi(Box::new(vmi)));
        }
    }

    /// Directory of the sockets of a VMI's launcher.
    pub(crate) fn sockets(&self, namespace: &str, name: &str) -> Option<PathBuf> {
        let entries = self.lock();
        let entry = live(&entries, namespace, name)?;
        Some(self.shared.pods_dir.join(private_dir(&entry.pod.uid)))
    }

    /// Asks the launcher of a VMI.
    pub(crate) async fn command(
        &self,
        namespace: &str,
        name: &str,
        op: Op,
    ) -> Result<(), CommandError> {
        let commands = live(&self.lock(), namespace, name).map(|entry| entry.commands.clone());
        let commands = commands.ok_or_else(|| CommandError::NotHere {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })?;
        ask(&commands, op)
            .await
            .ok_or(CommandError::NoLauncher)?
            .map_err(CommandError::Refused)
    }

    /// How many launchers are here.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The launcher of a VMI whose guest may still run.
fn live<'a>(entries: &'a HashMap<String, Entry>, namespace: &str, name: &str) -> Option<&'a Entry> {
    let mut mine = entries
        .values()
        .filter(|entry| entry.pod.namespace == namespace && entry.pod.vmi_name == name);
    mine.find(|entry| entry.pod.view.end.is_none())
}

/// Sends a request to a courier; `None` when it was not answered.
async fn ask(commands: &mpsc::Sender<Command>, op: Op) -> Option<Answer> {
    let (done, answer) = oneshot::channel();
    commands.send(Command { op, done }).await.ok()?;
    answer.await.ok()
}
