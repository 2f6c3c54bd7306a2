//! Room for directories on nodes' disks: measured here if this machine is the node, else as its
//! kubelet tells of its own file system.

use std::path::Path;

use diagnose::{Read, Room};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client};
use serde_json::Value;

use super::gather::{file, one};

/// Provisioner of directories on nodes.
const LOCAL_PATH: &str = "rancher.io/local-path";
/// Its configuration, in its own namespace, and the key of its JSON document.
const CONFIG: (&str, &str) = ("local-path-config", "config.json");
/// Name of the entry for nodes that have none.
const ANY_NODE: &str = "DEFAULT_PATH_FOR_NON_LISTED_NODES";
/// More nodes are not asked one by one.
const NODES: usize = 50;

pub(super) async fn rooms(
    client: &Client,
    classes: &Read<Vec<StorageClass>>,
    provisioners: &Read<Vec<Pod>>,
    nodes: &Read<Vec<Node>>,
) -> Read<Vec<Room>> {
    let local = |class: &&StorageClass| class.provisioner == LOCAL_PATH;
    let classes: Vec<String> = classes
        .iter()
        .flatten()
        .filter(local)
        .filter_map(|class| class.metadata.name.clone())
        .collect();
    let home = provisioners.iter().flatten().next();
    let Some(home) = home.and_then(|pod| pod.metadata.namespace.as_deref()) else {
        return Ok(Vec::new());
    };
    if classes.is_empty() {
        return Ok(Vec::new());
    }
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), home);
    let text = one(api, CONFIG.0)
        .await?
        .and_then(|map| map.data?.get(CONFIG.1).cloned());
    let text = text.ok_or_else(|| format!("no ConfigMap {home}/{} with {}", CONFIG.0, CONFIG.1))?;
    let config: Value = serde_json::from_str(&text)
        .map_err(|error| format!("ConfigMap {home}/{}: {error}", CONFIG.0))?;
    let mut rooms = Vec::new();
    for node in nodes.as_deref().map_err(Clone::clone)?.iter().take(NODES) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let Some(path) = directory(&config, &name) else {
            continue;
        };
        let (source, free, total) = match here(node, path) {
            Some((free, total)) => (format!("{path} (measured)"), free, total),
            None => match told(client, &name).await {
                Some((free, total)) => (
                    format!("the kubelet's file system, which {path} is taken to be on"),
                    free,
                    total,
                ),
                None => continue,
            },
        };
        let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
        let pressure = conditions
            .into_iter()
            .flatten()
            .any(|one| one.type_ == "DiskPressure" && one.status == "True");
        rooms.extend(classes.iter().map(|class| Room {
            class: class.clone(),
            place: name.clone(),
            source: source.clone(),
            free,
            total: Some(total),
            pressure,
        }));
    }
    Ok(rooms)
}

/// Where a node's volumes are, as local-path-provisioner is told.
fn directory<'a>(config: &'a Value, node: &str) -> Option<&'a str> {
    let map = config["nodePathMap"].as_array()?;
    let of = |wanted: &str| map.iter().find(|entry| entry["node"] == wanted);
    of(node).or_else(|| of(ANY_NODE))?["paths"][0].as_str()
}

/// Bytes free and in all, if this machine is the node.
fn here(node: &Node, path: &str) -> Option<(u64, u64)> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    if file("/proc/sys/kernel/random/boot_id")? != info.boot_id {
        return None;
    }
    // Nothing is there before the first volume; it will be on the parent's file system.
    let there = Path::new(path).ancestors().find(|dir| dir.exists())?;
    let found = rustix::fs::statvfs(there).ok()?;
    Some((
        found.f_bavail.saturating_mul(found.f_frsize),
        found.f_blocks.saturating_mul(found.f_frsize),
    ))
}

/// What a node's kubelet says of its file system.
async fn told(client: &Client, node: &str) -> Option<(u64, u64)> {
    let path = format!("/api/v1/nodes/{node}/proxy/stats/summary?only_cpu_and_memory=false");
    let request = http::Request::get(path).body(Vec::new()).ok()?;
    let summary: Value = client.request(request).await.ok()?;
    let fs = &summary["node"]["fs"];
    Some((
        fs["availableBytes"].as_u64()?,
        fs["capacityBytes"].as_u64()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_an_entry_of_its_own_does_not_take_the_others() {
        let config = serde_json::json!({"nodePathMap": [
            {"node": ANY_NODE, "paths": ["/any"]}, {"node": "big", "paths": ["/big"]}, {"node": "none", "paths": []}]});
        assert_eq!(directory(&config, "edge1"), Some("/any"));
        assert_eq!(directory(&config, "big"), Some("/big"));
        assert_eq!(directory(&config, "none"), None);
        assert_eq!(directory(&Value::Null, "edge1"), None);
    }
}
