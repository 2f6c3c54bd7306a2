//! Reads everything that verdicts are made of.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use api::cdi::{DataVolume, names};
use diagnose::{Attempt, Facts, Read, Token};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, PersistentVolumeClaim};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode};
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::{door, space, token};

/// Labels of local-path-provisioner's pods: ours, and those of its own manifests.
const PROVISIONER: [&str; 2] = [
    "app.kubernetes.io/name=local-path-provisioner",
    "app=local-path-provisioner",
];

/// All facts but the token's, and the ways to the upload proxy that it may take. `namespace` is
/// the one that was asked about.
pub(super) async fn gather(client: &Client, namespace: Option<&str>) -> (Facts, Vec<door::Path>) {
    let all = ListParams::default();
    let own = |selector: &str| all.clone().labels(selector);
    let asked = || -> Api<PersistentVolumeClaim> {
        match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    };
    let volumes: Api<DataVolume> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let events: Api<Event> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let cdi = || Client::clone(client);
    let label = format!("{}={}", names::APP_LABEL, names::APP);
    let group = format!("{}/{}", names::UPLOAD_GROUP, names::UPLOAD_VERSION);
    let services = list(Api::namespaced(cdi(), names::NAMESPACE), &all).await;
    let (pods, _) = around(client, namespace, &own(&label)).await;
    let (policies, own_policies) = around(client, namespace, &all).await;
    let config = one(Api::all(cdi()), names::CONFIG).await;
    let bundle = bundle(client).await;
    let nodes = list(Api::all(cdi()), &all).await;
    let ways = door::ways(client, &config, &services, &pods, &nodes);
    let doors = door::try_all(&ways, bundle.as_ref().ok().and_then(Option::as_deref)).await;
    let classes = list(Api::all(cdi()), &all).await;
    let mut provisioners = list(Api::all(cdi()), &own(PROVISIONER[0])).await;
    if provisioners.as_ref().is_ok_and(Vec::is_empty) {
        provisioners = list(Api::all(cdi()), &own(PROVISIONER[1])).await;
    }
    let rooms = space::rooms(client, &classes, &provisioners, &nodes).await;
    let upload_api = match client.list_api_group_resources(&group).await {
        Ok(_) => Ok(()),
        Err(error) => Err(kube_kit::reason(&error)),
    };
    let warnings = all
        .clone()
        .fields("type=Warning,involvedObject.kind=PersistentVolumeClaim");
    let facts = Facts {
        now: jiff::Timestamp::now().as_second(),
        namespace: namespace.map(str::to_owned),
        cdi: one(Api::all(cdi()), names::CDI).await,
        config,
        deployments: list(Api::namespaced(cdi(), names::NAMESPACE), &all).await,
        pods,
        upload_api,
        services,
        endpoints: endpoints(client).await,
        ingresses: list(Api::namespaced(cdi(), names::NAMESPACE), &all).await,
        bundle,
        doors,
        policies,
        own_policies,
        namespaces: namespaces(client).await,
        token: Token {
            namespace: namespace
                .unwrap_or_else(|| client.default_namespace())
                .to_owned(),
            attempt: Attempt::NoClaim("not tried".to_owned()),
        },
        profiles: list(Api::all(cdi()), &all).await,
        drivers: drivers(client).await,
        provisioners,
        rooms,
        capacities: list(Api::all(cdi()), &all).await,
        classes,
        data_volumes: list(volumes, &all).await,
        // Those of the doctor are no patients.
        claims: list(asked(), &own(&format!("!{}", token::LABEL))).await,
        warnings: list(events, &warnings).await,
    };
    (facts, ways)
}

/// Everything a list has; nothing if the API server does not know the kind.
pub(super) async fn list<K>(api: Api<K>, params: &ListParams) -> Read<Vec<K>>
where
    K: Clone + DeserializeOwned + Debug + Resource,
{
    match api.list(params).await {
        Ok(list) => Ok(list.items),
        Err(error) if kube_kit::is_not_found(&error) => Ok(Vec::new()),
        Err(error) => Err(kube_kit::reason(&error)),
    }
}

/// Everything of a kind in all namespaces; for who may not read that, what is in `namespace` and in CDI's,
/// and whether CDI's could be read.
async fn around<K>(
    client: &Client,
    namespace: Option<&str>,
    params: &ListParams,
) -> (Read<Vec<K>>, Read<()>)
where
    K: Clone + DeserializeOwned + Debug,
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let error = match list(Api::all(client.clone()), params).await {
        Ok(all) => return (Ok(all), Ok(())),
        Err(error) => error,
    };
    let own = list(Api::namespaced(client.clone(), names::NAMESPACE), params).await;
    let known = own.as_ref().map(drop).map_err(Clone::clone);
    let Some(namespace) = namespace else {
        return (Err(error), known);
    };
    let there = match namespace {
        names::NAMESPACE => Ok(Vec::new()),
        namespace => list(Api::namespaced(client.clone(), namespace), params).await,
    };
    let both = there.map(|mut all| {
        all.extend(own.unwrap_or_default());
        all
    });
    (both, known)
}

/// An object, if there is one.
pub(super) async fn one<K>(api: Api<K>, name: &str) -> Read<Option<K>>
where
    K: Clone + DeserializeOwned + Debug + Resource,
{
    api.get_opt(name)
        .await
        .map_err(|error| kube_kit::reason(&error))
}

async fn bundle(client: &Client) -> Read<Option<String>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), names::NAMESPACE);
    let map = one(api, names::UPLOAD_PROXY_CA_BUNDLE).await?;
    Ok(map
        .and_then(|map| map.data)
        .and_then(|data| data.get(names::CA_BUNDLE_KEY).cloned()))
}

async fn endpoints(client: &Client) -> Read<usize> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), names::NAMESPACE);
    let selector = format!("kubernetes.io/service-name={}", names::UPLOAD_PROXY);
    let slices = list(api, &ListParams::default().labels(&selector)).await?;
    let ready = |ready: Option<bool>| ready.unwrap_or(true);
    let all = slices.iter().flat_map(|slice| &slice.endpoints);
    Ok(all
        .filter(|one| ready(one.conditions.as_ref().and_then(|c| c.ready)))
        .count())
}

async fn namespaces(client: &Client) -> Read<BTreeMap<String, BTreeMap<String, String>>> {
    let api: Api<Namespace> = Api::all(client.clone());
    let all = list(api, &ListParams::default()).await?;
    Ok(all
        .into_iter()
        .map(|one| {
            let meta = one.metadata;
            (
                meta.name.unwrap_or_default(),
                meta.labels.unwrap_or_default(),
            )
        })
        .collect())
}

/// Names of CSI drivers, each with the number of nodes it is registered on.
async fn drivers(client: &Client) -> Read<BTreeMap<String, usize>> {
    let all = ListParams::default();
    let drivers: Vec<CSIDriver> = list(Api::all(client.clone()), &all).await?;
    let nodes: Vec<CSINode> = list(Api::all(client.clone()), &all).await?;
    let on = |name: &str| {
        let has = |node: &&CSINode| node.spec.drivers.iter().any(|one| one.name == name);
        nodes.iter().filter(has).count()
    };
    Ok(drivers
        .into_iter()
        .filter_map(|driver| driver.metadata.name)
        .map(|name| {
            let nodes = on(&name);
            (name, nodes)
        })
        .collect())
}

/// A small file of this machine, if it can be read.
pub(super) fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(path))
        .ok()
        .map(|text| text.trim().to_owned())
}
