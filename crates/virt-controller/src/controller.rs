//! The loop: events into the index, keys into the queue, keys out of it into
//! reconciliations, some of them at once, all on one thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use api::KubeVirt;
use api::names::{APP_LABEL, LAUNCHER_APP};
use decide::plan::{Plan, Step};
use futures::stream::{AbortHandle, BoxStream, FuturesUnordered, SelectAll, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::Client;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube_kit::events::Recorder;
use kube_kit::queue::WorkQueue;
use kube_kit::watch::{Event, Selector, watch, watch_metadata, watch_metadata_at};

use crate::execute::{Executor, Outcome};
use crate::index::{Index, Key, ObjectKey};
use crate::raw::{RawDataVolume, RawVm, RawVmi};

/// Reconciliations at once. More would open more connections to the API
/// server, each with its buffers, and gain nothing: it answers in milliseconds.
const AT_ONCE: usize = 6;
/// Passes over one key in a row. A plan needs two or three; a key that is not
/// settled by then waits its turn behind the others.
const PASSES: u32 = 8;
/// When to look again after a conflict, should the watch tell nothing.
const AFTER_CONFLICT: Duration = Duration::from_millis(500);

/// Where the kinds are defined.
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// The definition of the kind DataVolume.
const DATA_VOLUMES: &str = "datavolumes.cdi.kubevirt.io";

enum Seen {
    Vms(Event<RawVm>),
    Vmis(Event<RawVmi>),
    Pods(Box<Event<Pod>>),
    Nodes(Event<PartialObjectMeta<Node>>),
    KubeVirt(Box<Event<KubeVirt>>),
    Claims(Box<Event<PersistentVolumeClaim>>),
    DataVolumes(Event<RawDataVolume>),
    /// Of the kind DataVolume: whether there is CDI.
    Definition(Box<Event<PartialObjectMeta<DynamicObject>>>),
}

/// The first list of each kind has come.
#[derive(Default)]
struct Synced {
    vms: bool,
    vmis: bool,
    pods: bool,
    nodes: bool,
    kubevirt: bool,
    claims: bool,
    definition: bool,
    data_volumes: bool,
}

impl Synced {
    fn all(&self) -> bool {
        let own = self.vms && self.vmis && self.pods && self.nodes && self.kubevirt;
        own && self.claims && self.definition && self.data_volumes
    }
}

/// The working part of the leader.
pub(crate) struct Controller {
    index: Rc<RefCell<Index>>,
    queue: WorkQueue<Key>,
    executor: Rc<Executor>,
    client: Client,
    namespace: String,
}

impl Controller {
    pub(crate) fn new(client: Client, launcher_image: &str, namespace: &str) -> Self {
        let index = Rc::new(RefCell::new(Index::new(launcher_image)));
        // The name under which upstream's events come.
        let recorder = Recorder::new(client.clone(), "virtualmachine-controller");
        let queue = WorkQueue::new();
        Self {
            executor: Rc::new(Executor::new(
                client.clone(),
                Rc::clone(&index),
                queue.clone(),
                recorder,
            )),
            index,
            queue,
            client,
            namespace: namespace.to_owned(),
        }
    }

    /// Works until it is dropped.
    pub(crate) async fn run(self) {
        let mut seen = self.watches();
        let mut synced = Synced::default();
        let mut running = FuturesUnordered::new();
        let mut data_volumes: Option<AbortHandle> = None;
        loop {
            let ready = synced.all() && running.len() < AT_ONCE;
            tokio::select! {
                Some(event) = seen.next() => {
                    if let Seen::Definition(event) = &event {
                        self.follow_data_volumes(event, &mut data_volumes, &mut seen, &mut synced);
                    }
                    for key in self.take(event, &mut synced) {
                        self.queue.add(key);
                    }
                }
                key = self.queue.next(), if ready => running.push(self.reconcile(key)),
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        }
    }

    fn watches(&self) -> SelectAll<BoxStream<'static, Seen>> {
        let client = || self.client.clone();
        let launchers = format!("{APP_LABEL}={LAUNCHER_APP}");
        let kubevirt = Selector::all().namespace(&self.namespace);
        let definition = Selector {
            fields: Some(format!("metadata.name={DATA_VOLUMES}")),
            ..Selector::all()
        };
        futures::stream::select_all([
            watch::<RawVm>(client(), &Selector::all())
                .map(Seen::Vms)
                .boxed(),
            watch::<RawVmi>(client(), &Selector::all())
                .map(Seen::Vmis)
                .boxed(),
            watch::<Pod>(client(), &Selector::all().labels(&launchers))
                .map(|event| Seen::Pods(Box::new(event)))
                .boxed(),
            watch_metadata::<Node>(client(), &Selector::all())
                .map(Seen::Nodes)
                .boxed(),
            watch::<PersistentVolumeClaim>(client(), &Selector::all())
                .map(|event| Seen::Claims(Box::new(event)))
                .boxed(),
            watch_metadata_at(client(), DEFINITIONS.to_owned(), &definition)
                .map(|event| Seen::Definition(Box::new(event)))
                .boxed(),
            watch::<KubeVirt>(client(), &kubevirt)
                .map(|event| Seen::KubeVirt(Box::new(event)))
                .boxed(),
        ])
    }

    /// DataVolumes are watched while there is CDI: a watch of a kind that does
    /// not exist would ask for it again and again.
    fn follow_data_volumes(
        &self,
        definition: &Event<PartialObjectMeta<DynamicObject>>,
        watching: &mut Option<AbortHandle>,
        seen: &mut SelectAll<BoxStream<'static, Seen>>,
        synced: &mut Synced,
    ) {
        synced.definition = true;
        let there = match definition {
            Event::Restarted(all) => !all.is_empty(),
            Event::Applied(_) => true,
            Event::Deleted(_) => false,
        };
        match (there, watching.take()) {
            (true, Some(handle)) => *watching = Some(handle),
            (true, None) => {
                let events = watch::<RawDataVolume>(self.client.clone(), &Selector::all());
                let (events, handle) = futures::stream::abortable(events.map(Seen::DataVolumes));
                seen.push(events.boxed());
                *watching = Some(handle);
                synced.data_volumes = false;
            }
            (false, handle) => {
                if let Some(handle) = handle {
                    handle.abort();
                }
                synced.data_volumes = true;
            }
        }
    }

    fn take(&self, seen: Seen, synced: &mut Synced) -> Vec<Key> {
        let mut index = self.index.borrow_mut();
        match seen {
            Seen::Vms(Event::Restarted(all)) => {
                synced.vms = true;
                index.reset_vms(all)
            }
            Seen::Vms(Event::Applied(vm)) => index.put_vm(vm),
            Seen::Vms(Event::Deleted(vm)) => index.remove_vm(&vm.metadata),
            Seen::Vmis(Event::Restarted(all)) => {
                synced.vmis = true;
                index.reset_vmis(all)
            }
            Seen::Vmis(Event::Applied(vmi)) => index.put_vmi(vmi),
            Seen::Vmis(Event::Deleted(vmi)) => index.remove_vmi(&vmi.metadata),
            Seen::Pods(event) => match *event {
                Event::Restarted(all) => {
                    synced.pods = true;
                    index.reset_pods(&all)
                }
                Event::Applied(pod) => index.put_pod(&pod),
                Event::Deleted(pod) => index.remove_pod(&pod),
            },
            Seen::Nodes(Event::Restarted(all)) => {
                synced.nodes = true;
                let all: Vec<_> = all.iter().map(|node| &node.metadata).collect();
                index.reset_nodes(&all)
            }
            Seen::Nodes(Event::Applied(node)) => index.put_node(&node.metadata),
            Seen::Nodes(Event::Deleted(node)) => {
                index.remove_node(node.metadata.name.as_deref().unwrap_or_default())
            }
            Seen::Claims(event) => match *event {
                Event::Restarted(all) => {
                    synced.claims = true;
                    index.reset_claims(&all)
                }
                Event::Applied(claim) => index.put_claim(&claim),
                Event::Deleted(claim) => index.remove_claim(&claim.metadata),
            },
            Seen::DataVolumes(Event::Restarted(all)) => {
                synced.data_volumes = true;
                index.reset_data_volumes(&all)
            }
            Seen::DataVolumes(Event::Applied(raw)) => index.put_data_volume(&raw),
            Seen::DataVolumes(Event::Deleted(raw)) => index.remove_data_volume(&raw.metadata),
            Seen::Definition(event) => match *event {
                Event::Deleted(_) => index.reset_data_volumes(&[]),
                Event::Restarted(all) if all.is_empty() => index.reset_data_volumes(&[]),
                _ => Vec::new(),
            },
            Seen::KubeVirt(event) => {
                match *event {
                    Event::Restarted(all) => {
                        synced.kubevirt = true;
                        index.set_kubevirt(all.first());
                    }
                    Event::Applied(kubevirt) => index.set_kubevirt(Some(&kubevirt)),
                    Event::Deleted(_) => index.set_kubevirt(None),
                }
                Vec::new()
            }
        }
    }

    /// Decides and executes until there is nothing to do.
    fn reconcile(&self, key: Key) -> impl Future<Output = ()> + use<> {
        let queue = self.queue.clone();
        let index = Rc::clone(&self.index);
        let executor = Rc::clone(&self.executor);
        async move {
            let mut outcome = Outcome::Progress;
            for _ in 0..PASSES {
                outcome = match &key {
                    Key::Vm(name) => reconcile_vm(&index, &executor, &queue, &key, name).await,
                    Key::Vmi(name) => reconcile_vmi(&index, &executor, &queue, &key, name).await,
                    Key::Node(name) => reconcile_node(&index, &executor, &queue, &key, name).await,
                };
                if !matches!(outcome, Outcome::Progress) {
                    break;
                }
            }
            match outcome {
                Outcome::Settled => queue.forget(&key),
                Outcome::Conflict => queue.add_after(key.clone(), AFTER_CONFLICT),
                // Progress without end would be a mistake of ours: not a storm too.
                Outcome::Progress | Outcome::Failed => {
                    let delay = queue.retry(key.clone());
                    tracing::debug!(?key, ?delay, "will try again");
                }
            }
            queue.done(&key);
        }
    }
}

/// Carries out the steps of a plan until one makes no progress.
async fn follow<Op>(
    plan: Plan<Op>,
    queue: &WorkQueue<Key>,
    key: &Key,
    execute: impl AsyncFn(Step<Op>) -> Outcome,
) -> Outcome {
    if let Some(after) = plan.requeue {
        queue.add_after(key.clone(), after);
    }
    let mut outcome = Outcome::Settled;
    for step in plan.steps {
        outcome = execute(step).await;
        if !matches!(outcome, Outcome::Progress) {
            break;
        }
    }
    outcome
}

async fn reconcile_vm(
    index: &RefCell<Index>,
    executor: &Executor,
    queue: &WorkQueue<Key>,
    key: &Key,
    name: &ObjectKey,
) -> Outcome {
    let plan = index.borrow().decide_vm(name, random(), Timestamp::now());
    follow(plan, queue, key, async |step| {
        executor.vm(key, name, step).await
    })
    .await
}

async fn reconcile_vmi(
    index: &RefCell<Index>,
    executor: &Executor,
    queue: &WorkQueue<Key>,
    key: &Key,
    name: &ObjectKey,
) -> Outcome {
    let now = Timestamp::now();
    let next = index.borrow_mut().next_starts(name, now);
    for key in next {
        queue.add(key);
    }
    let plan = index.borrow_mut().decide_vmi(name, now);
    follow(plan, queue, key, async |step| {
        executor.vmi(key, name, step).await
    })
    .await
}

async fn reconcile_node(
    index: &RefCell<Index>,
    executor: &Executor,
    queue: &WorkQueue<Key>,
    key: &Key,
    name: &str,
) -> Outcome {
    let plan = index.borrow().decide_node(name, Timestamp::now());
    let silent = !plan.steps.is_empty();
    let outcome = follow(plan, queue, key, async |step| {
        executor.node(key, name, step).await
    })
    .await;
    if silent {
        for vmi in index.borrow().vmis_on(name) {
            queue.add(vmi);
        }
    }
    outcome
}

/// A number from 0 to 1 that differs between calls and processes.
fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::hash::RandomState::new().build_hasher().finish();
    #[allow(
        clippy::cast_precision_loss,
        reason = "53 random bits are more than enough"
    )]
    let fraction = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}
