//! Whether a claim that names no class gets storage from the nodes' disks.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, Client};

use super::{Finding, finding, rollout};

/// Where the provisioner runs (manifests/storage-local.yaml.j2).
const NAMESPACE: &str = "edgevirt-storage";
/// Its Deployment.
const PROVISIONER: &str = "local-path-provisioner";

pub(super) async fn look(client: &Client) -> Vec<Finding> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let found = deployments.get(PROVISIONER).await;
    let provisioner = found
        .map_err(|error| error.to_string())
        .and_then(|object| rollout::deployment(&object, None));
    vec![
        finding(PROVISIONER, provisioner),
        finding("default storage class", class(client).await),
    ]
}

/// There is one, and not two: which of them a claim gets would be chance.
async fn class(client: &Client) -> Result<String, String> {
    let api: Api<StorageClass> = Api::all(client.clone());
    let list = api.list(&ListParams::default()).await;
    let defaults: Vec<String> = list
        .map_err(|error| error.to_string())?
        .items
        .into_iter()
        .map(|class| class.metadata)
        .filter(|meta| {
            let annotations = meta.annotations.as_ref();
            annotations
                .and_then(|all| all.get(api::cdi::names::annotations::DEFAULT_CLASS))
                .is_some_and(|value| value == "true")
        })
        .filter_map(|meta| meta.name)
        .collect();
    match defaults.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err("none".to_owned()),
        more => Err(format!("expected one, found {}", more.join(", "))),
    }
}
