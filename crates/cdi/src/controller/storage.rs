//! Looks at the storage behind a clone, when one is made: classes of snapshots, the driver
//! of a volume, a snapshot. None of it is watched, so a cluster without snapshots is asked
//! for nothing.

use decide::cdi::smart::{Look, Snapshot};
use decide::cdi::strategy::SnapshotClass;
use kube::Client;
use kube_kit::is_not_found;
use serde_json::Value;

use super::world::Name;

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
