//! Looks at the storage behind a clone, when one is made: classes of snapshots, the driver
//! of a volume, a snapshot. None of it is watched, so a cluster without snapshots is asked
//! for nothing.

use api::cdi::ClaimSource;
use api::cdi::names::SNAPSHOT_API_VERSION;
use decide::cdi::across;
use decide::cdi::claim::source;
use decide::cdi::populator::{self, Kind};
use decide::cdi::smart::{self, Look, Snapshot};
use decide::cdi::strategy::{self, SnapshotClass, Wish};
use decide::cdi::worker::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Client;
use kube_kit::{is_conflict, is_not_found};
use serde_json::Value;

use super::act::{Actor, Problem};
use super::world::{Key, Name, World};

/// Where snapshots are served.
const SNAPSHOTS: &str = "/apis/snapshot.storage.k8s.io/v1";

/// What is to be looked at for a clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Want {
    /// Storage class of the clone.
    pub(super) class: Option<String>,
    /// Volume of the claim that is cloned.
    pub(super) volume: Option<String>,
    /// The snapshot that is restored.
    pub(super) snapshot: Name,
    /// The claim that the snapshot is one of, if it is ours.
    pub(super) of: Option<String>,
}

impl Want {
    /// A snapshot of a user's.
    fn snapshot(from: &ClaimSource) -> Self {
        Self {
            snapshot: Name::new(&from.namespace, &from.name),
            ..Self::default()
        }
    }
}

/// An object, if it is there; so is none of a kind that the cluster does not know.
async fn get(client: &Client, path: &str) -> Result<Option<Value>, kube::Error> {
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    match client.request::<Value>(request).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// All classes of snapshots.
pub(super) async fn classes(client: &Client) -> Result<Vec<SnapshotClass>, kube::Error> {
    let list = get(client, &format!("{SNAPSHOTS}/volumesnapshotclasses")).await?;
    let items = list.as_ref().and_then(|list| list["items"].as_array());
    Ok(items
        .into_iter()
        .flatten()
        .map(|class| {
            let mark = "snapshot.storage.kubernetes.io/is-default-class";
            SnapshotClass {
                name: text(&class["metadata"]["name"]).unwrap_or_default(),
                driver: text(&class["driver"]).unwrap_or_default(),
                default: class["metadata"]["annotations"][mark] == "true",
            }
        })
        .collect())
}

/// What is to be known of the storage behind a clone; of a snapshot only if it is one
/// that is `restored`.
pub(super) async fn look(
    client: &Client,
    want: &Want,
    restored: bool,
) -> Result<Look, kube::Error> {
    let mut look = Look::default();
    if let Some(volume) = &want.volume {
        let path = format!("/api/v1/persistentvolumes/{volume}");
        let found = get(client, &path).await?;
        look.driver = found.and_then(|found| text(&found["spec"]["csi"]["driver"]));
    }
    if restored {
        look.snapshot = snapshot(client, &want.snapshot, want.of.as_deref()).await?;
    }
    Ok(look)
}

/// A snapshot, if it is there; one of ours is of claim `of`.
pub(super) async fn snapshot(
    client: &Client,
    name: &Name,
    of: Option<&str>,
) -> Result<Option<Snapshot>, kube::Error> {
    let Name { namespace, name } = name;
    let path = format!("{SNAPSHOTS}/namespaces/{namespace}/volumesnapshots/{name}");
    let Some(found) = get(client, &path).await? else {
        return Ok(None);
    };
    let status = &found["status"];
    let mut snapshot = Snapshot {
        ready: status["readyToUse"] == true && found["metadata"]["deletionTimestamp"].is_null(),
        error: text(&status["error"]["message"]),
        size: status["restoreSize"]
            .as_str()
            .and_then(decide::cdi::size::bytes)
            .unwrap_or_default(),
        ..Snapshot::default()
    };
    if let Some(of) = of {
        let source = &found["spec"]["source"]["persistentVolumeClaimName"];
        if source != of {
            snapshot.ready = false;
            snapshot.error = Some(format!(
                "expected snapshot {name} to be one of claim {of}, found one of {source}; delete it"
            ));
        }
        return Ok(Some(snapshot));
    }
    let content = status["boundVolumeSnapshotContentName"].as_str();
    if let Some(content) = content.filter(|_| snapshot.ready) {
        let path = format!("{SNAPSHOTS}/volumesnapshotcontents/{content}");
        let content = get(client, &path).await?.unwrap_or_default();
        snapshot.driver = text(&content["spec"]["driver"]);
        snapshot.block = content["spec"]["sourceVolumeMode"] == "Block";
    }
    Ok(Some(snapshot))
}

impl World {
    /// What is to be looked at before a clone is made, if one is to be.
    pub(super) fn wants(&self, name: &Name) -> Option<Want> {
        if let Some(claim) = self.claim(name) {
            let far = self.wants_far(claim);
            return far.or_else(|| self.wants_prime(name, claim));
        }
        let dv = self.volumes.get(name)?;
        let over = dv.metadata.deletion_timestamp.is_some()
            || dv
                .status
                .as_ref()
                .is_some_and(|status| status.phase == api::cdi::phase::SUCCEEDED);
        if over {
            return None;
        }
        let from = source(dv, |namespace, name| self.find_source(namespace, name)).ok()??;
        if let Some(snapshot) = from.snapshot {
            return Some(Want::snapshot(&snapshot));
        }
        let own = |from: &ClaimSource| from.namespace == name.namespace;
        let from = from.pvc.filter(own)?;
        let spec = &dv.spec;
        let class = match (&spec.pvc, &spec.storage) {
            (Some(pvc), _) => pvc.storage_class_name.clone(),
            (_, storage) => storage
                .as_ref()
                .and_then(|storage| storage.storage_class_name.clone()),
        };
        self.wants_clone(name, class, &from.name, dv.metadata.uid.as_deref()?)
    }

    /// As [`Self::wants`], for the claim of a clone of a snapshot of another namespace, as long
    /// as that is not restored.
    fn wants_far(&self, claim: &PersistentVolumeClaim) -> Option<Want> {
        let job = Job::of(claim)?;
        let (Job::Receive { snapshot: true, .. }, Some((namespace, name))) = (&job, job.source())
        else {
            return None;
        };
        let (_, restored) = job.original(claim)?;
        let restored = self.claim(&Name::new(namespace, &restored)).is_some();
        let waits = !restored && !across::over(claim);
        waits.then(|| {
            Want::snapshot(&ClaimSource {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        })
    }

    /// As [`Self::wants`], for a claim that refers to a VolumeCloneSource.
    fn wants_prime(&self, name: &Name, claim: &PersistentVolumeClaim) -> Option<Want> {
        let reference = populator::reference(claim).filter(|to| to.kind == Kind::Clone)?;
        let source = self
            .clones
            .get(&Name::new(&name.namespace, reference.name))?;
        let prime = Name::new(&name.namespace, &populator::prime_name(claim));
        let bound = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            == Some("Bound");
        if bound || self.claim(&prime).is_some() {
            return None;
        }
        let from = populator::cloned(source);
        if populator::is_of_snapshot(source) {
            return Some(Want::snapshot(&from));
        }
        let class = claim.spec.as_ref()?.storage_class_name.clone();
        let uid = claim.metadata.uid.as_deref()?;
        self.wants_clone(name, class, &from.name, uid)
    }

    fn wants_clone(
        &self,
        name: &Name,
        class: Option<String>,
        original: &str,
        uid: &str,
    ) -> Option<Want> {
        let original = self.claim(&Name::new(&name.namespace, original))?;
        Some(Want {
            class,
            volume: original.spec.as_ref()?.volume_name.clone(),
            snapshot: Name::new(&name.namespace, &smart::snapshot_name(uid)),
            of: original.metadata.name.clone(),
        })
    }

    /// Whether the wanted snapshot is one that is restored.
    pub(super) fn restores(&self, want: &Want) -> bool {
        let class = self.cluster.class(want.class.as_deref(), true);
        want.of.is_none()
            || class.is_some_and(|class| strategy::wish(class, &self.cluster) == Wish::Snapshot)
    }

    /// The storage behind a clone was looked at, or could not be.
    pub(super) fn set_look(&mut self, name: &Name, look: Option<Look>) {
        match look {
            Some(look) => self.looks.insert(name.clone(), look),
            None => self.looks.remove(name),
        };
    }

    /// A snapshot was begun.
    pub(super) fn set_snapshot(&mut self, name: &Name) {
        let look = self.looks.entry(name.clone()).or_default();
        look.snapshot.get_or_insert_with(Snapshot::default);
    }

    /// All classes of snapshots, as of now.
    pub(super) fn set_snapshot_classes(&mut self, classes: Vec<SnapshotClass>) -> Vec<Key> {
        let classes = Some(classes);
        if self.cluster.snapshot_classes == classes {
            return Vec::new();
        }
        self.cluster.snapshot_classes = classes;
        self.cluster
            .classes
            .keys()
            .cloned()
            .map(Key::Class)
            .collect()
    }
}

impl Actor {
    /// Begins a snapshot; one of the name that is there already is told apart when it is
    /// looked at.
    pub(super) async fn create_snapshot(&self, name: &Name, object: &Value) -> Result<(), Problem> {
        let path = format!(
            "/apis/{SNAPSHOT_API_VERSION}/namespaces/{}/volumesnapshots",
            name.namespace
        );
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(object.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        match self.client.request::<Value>(request).await {
            Err(error) if !is_conflict(&error) => return Err(error.into()),
            _ => {}
        }
        self.world.borrow_mut().set_snapshot(name);
        Ok(())
    }

    /// Looks at the storage behind a clone, if one is about to be made.
    pub(super) async fn look(&self, name: &Name) {
        let Some(want) = self.world.borrow().wants(name) else {
            return;
        };
        let looked = async {
            let classes = classes(&self.client).await?;
            for key in self.world.borrow_mut().set_snapshot_classes(classes) {
                self.queue.add(key);
            }
            let restored = self.world.borrow().restores(&want);
            look(&self.client, &want, restored).await
        };
        let look = looked
            .await
            .inspect_err(|error| tracing::warn!(?name, "cannot look at its storage: {error}"))
            .ok();
        self.world.borrow_mut().set_look(name, look);
    }
}
