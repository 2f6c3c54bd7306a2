//! The loop: events into the world, keys into the queue, keys out of it into
//! reconciliations, some of them at once, all on one thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use api::cdi::names::CLAIM_UID_LABEL;
use api::cdi::{
    CDI, DataImportCron, DataSource, DataVolume, ObjectTransfer, StorageProfile, VolumeCloneSource,
    VolumeImportSource, VolumeUploadSource,
};
use decide::cdi::cluster::Class;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;
use kube_kit::queue::WorkQueue;
use kube_kit::watch::{Event, Selector, watch, watch_metadata};

use super::Options;
use super::act::{Actor, Outcome};
use super::cron::{self, Looking, Schedule};
use super::permits::Permits;
use super::ways::{self, Door, Policy};
use super::world::{Kept, Key, Name, World};

/// Reconciliations at once; a worker's answer about its progress may take a moment.
const AT_ONCE: usize = 6;
/// Passes over one key in a row.
const PASSES: u32 = 10;
/// When to look again after a conflict, should the watch tell nothing.
const AFTER_CONFLICT: Duration = Duration::from_millis(500);

enum Seen {
    Volumes(Box<Event<DataVolume>>),
    Claims(Box<Event<PersistentVolumeClaim>>),
    Pods(Box<Event<Pod>>),
    Sources(Box<Event<DataSource>>),
    Imports(Box<Event<VolumeImportSource>>),
    Uploads(Box<Event<VolumeUploadSource>>),
    Clones(Box<Event<VolumeCloneSource>>),
    Classes(Box<Event<StorageClass>>),
    Profiles(Box<Event<StorageProfile>>),
    Cdi(Box<Event<CDI>>),
    Policies(Event<Policy>),
    Services(Event<Door>),
    Crons(Box<Event<DataImportCron>>),
    Schedules(Box<Event<Schedule>>),
    Looking(Box<Event<Looking>>),
    Transfers(Box<Event<ObjectTransfer>>),
}

/// Kinds that are watched; all their first lists must have come.
const KINDS: u32 = 16;

/// The working part of the leader.
pub(super) struct Controller {
    world: Rc<RefCell<World>>,
    queue: WorkQueue<Key>,
    actor: Rc<Actor>,
    client: Client,
}

impl Controller {
    pub(super) fn new(client: Client, options: &Options) -> Self {
        let mut world = World::default();
        world.cluster.worker_image.clone_from(&options.worker_image);
        world.cluster.namespace.clone_from(&options.namespace);
        world.permits = Permits::new(&options.certificates);
        let world = Rc::new(RefCell::new(world));
        let queue = WorkQueue::new();
        let actor = Actor::new(
            client.clone(),
            Rc::clone(&world),
            queue.clone(),
            options.certificates.clone(),
        );
        Self {
            world,
            queue,
            actor: Rc::new(actor),
            client,
        }
    }

    /// Works until it is dropped.
    pub(super) async fn run(self) {
        let mut seen = self.watches();
        let mut lists = 0_u32;
        let mut running = FuturesUnordered::new();
        loop {
            let ready = lists.count_ones() == KINDS && running.len() < AT_ONCE;
            tokio::select! {
                Some(event) = seen.next() => {
                    for key in self.take(event, &mut lists) {
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
        let all = Selector::all();
        let workers = Selector::all().labels(CLAIM_UID_LABEL);
        futures::stream::select_all([
            watch(client(), &all)
                .map(|event| Seen::Volumes(Box::new(event)))
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Claims(Box::new(event)))
                .boxed(),
            watch(client(), &workers)
                .map(|event| Seen::Pods(Box::new(event)))
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Sources(Box::new(event)))
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Imports(Box::new(event)))
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Uploads(Box::new(event)))
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Clones(Box::new(event)))
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Classes(Box::new(event)))
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Profiles(Box::new(event)))
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Cdi(Box::new(event)))
                .boxed(),
            watch_metadata(client(), &ways::policies())
                .map(Seen::Policies)
                .boxed(),
            watch_metadata(client(), &ways::services())
                .map(Seen::Services)
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Crons(Box::new(event)))
                .boxed(),
            cron::schedules(client())
                .map(|event| Seen::Schedules(Box::new(event)))
                .boxed(),
            cron::looking(client())
                .map(|event| Seen::Looking(Box::new(event)))
                .boxed(),
            watch(client(), &all)
                .map(|event| Seen::Transfers(Box::new(event)))
                .boxed(),
        ])
    }

    fn take(&self, seen: Seen, lists: &mut u32) -> Vec<Key> {
        let mut world = self.world.borrow_mut();
        match seen {
            Seen::Volumes(event) => kept(&mut world, *event, 0, lists),
            Seen::Claims(event) => kept(&mut world, *event, 1, lists),
            Seen::Pods(event) => kept(&mut world, *event, 2, lists),
            Seen::Sources(event) => kept(&mut world, *event, 3, lists),
            Seen::Imports(event) => kept(&mut world, *event, 7, lists),
            Seen::Uploads(event) => kept(&mut world, *event, 8, lists),
            Seen::Clones(event) => kept(&mut world, *event, 9, lists),
            Seen::Crons(event) => kept(&mut world, *event, 12, lists),
            Seen::Schedules(event) => kept(&mut world, *event, 13, lists),
            Seen::Looking(event) => kept(&mut world, *event, 14, lists),
            Seen::Transfers(event) => kept(&mut world, *event, 15, lists),
            Seen::Classes(event) => match *event {
                Event::Restarted(all) => {
                    *lists |= 1 << 4;
                    world.set_classes(all.iter().map(Class::from).collect())
                }
                Event::Applied(class) => world.set_class(Class::from(&class), true),
                Event::Deleted(class) => world.set_class(Class::from(&class), false),
            },
            Seen::Profiles(event) => match *event {
                Event::Restarted(all) => {
                    *lists |= 1 << 5;
                    world.cluster.profiles.clear();
                    all.into_iter()
                        .flat_map(|profile| world.set_profile(profile, true))
                        .collect()
                }
                Event::Applied(profile) => world.set_profile(profile, true),
                Event::Deleted(profile) => world.set_profile(profile, false),
            },
            Seen::Cdi(event) => match *event {
                Event::Restarted(all) => {
                    *lists |= 1 << 6;
                    world.set_cdi(all.into_iter().next())
                }
                Event::Applied(cdi) => world.set_cdi(Some(cdi)),
                Event::Deleted(_) => world.set_cdi(None),
            },
            Seen::Policies(event) => {
                came(&event, 10, lists);
                world.see_policy(event)
            }
            Seen::Services(event) => {
                came(&event, 11, lists);
                world.see_service(event)
            }
        }
    }

    /// Decides and acts until there is nothing to do.
    fn reconcile(&self, key: Key) -> impl Future<Output = ()> + use<> {
        let queue = self.queue.clone();
        let world = Rc::clone(&self.world);
        let actor = Rc::clone(&self.actor);
        async move {
            let mut outcome = Outcome::Progress;
            if let Key::Volume(name) = &key {
                measure(&world, name).await;
                actor.look(name).await;
            }
            for _ in 0..PASSES {
                outcome = match &key {
                    Key::Volume(name) => volume(&world, &actor, &queue, &key, name).await,
                    Key::Source(name) => actor.source(name).await,
                    Key::Class(name) => actor.class(name).await,
                    Key::Cron(name) => actor.cron(name).await,
                    Key::Transfer(name) => actor.transfer(name).await,
                };
                if !matches!(outcome, Outcome::Progress | Outcome::Told) {
                    break;
                }
            }
            match outcome {
                Outcome::Settled => queue.forget(&key),
                Outcome::Conflict => queue.add_after(key.clone(), AFTER_CONFLICT),
                // Progress without end would be a mistake of ours: not a storm too.
                Outcome::Progress | Outcome::Told | Outcome::Failed => {
                    let delay = queue.retry(key.clone());
                    tracing::debug!(?key, ?delay, "will try again");
                }
            }
            queue.done(&key);
        }
    }
}

/// Remembers that the first list came.
fn came<K>(event: &Event<K>, bit: u32, lists: &mut u32) {
    if matches!(event, Event::Restarted(_)) {
        *lists |= 1 << bit;
    }
}

fn kept<K: Kept>(world: &mut World, event: Event<K>, bit: u32, lists: &mut u32) -> Vec<Key> {
    came(&event, bit, lists);
    match event {
        Event::Restarted(all) => world.reset(all),
        Event::Applied(object) => world.put(object),
        Event::Deleted(object) => world.remove::<K>(object.meta()),
    }
}

/// Asks the worker how far it is, if it works.
async fn measure(world: &RefCell<World>, name: &Name) {
    let address = world.borrow().worker_address(name);
    if let Some(address) = address
        && let Some(told) = super::measure::ask_worker(&address).await
    {
        world.borrow_mut().set_progress(name, told);
    }
}

async fn volume(
    world: &RefCell<World>,
    actor: &Actor,
    queue: &WorkQueue<Key>,
    key: &Key,
    name: &Name,
) -> Outcome {
    let plan = world.borrow().decide(name, Timestamp::now());
    if let Some(after) = plan.requeue {
        queue.add_after(key.clone(), after);
    }
    let mut outcome = Outcome::Settled;
    for step in plan.steps {
        outcome = actor.volume(name, step).await;
        if outcome != Outcome::Progress {
            break;
        }
    }
    outcome
}
