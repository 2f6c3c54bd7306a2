//! What is known of a cluster with CDI.

use std::collections::BTreeMap;

use api::cdi::{CDI, CDIConfig, DataVolume, StorageProfile};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What was read, or why it could not be. What is not there was read.
pub type Read<T> = Result<T, String>;

/// Everything the verdicts are made of.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When it was gathered, seconds since 1970.
    pub now: i64,
    /// The one namespace that was asked about; `None`: all.
    pub namespace: Option<String>,
    /// The CDI object.
    pub cdi: Read<Option<CDI>>,
    /// The CDIConfig object.
    pub config: Read<Option<CDIConfig>>,
    /// Deployments in CDI's namespace.
    pub deployments: Read<Vec<Deployment>>,
    /// Pods of CDI in all namespaces: its programs, and workers.
    pub pods: Read<Vec<Pod>>,
    /// The aggregated API of upload tokens answers.
    pub upload_api: Read<()>,
    /// Services in CDI's namespace.
    pub services: Read<Vec<Service>>,
    /// Ready addresses behind the upload proxy's service.
    pub endpoints: Read<usize>,
    /// Ingresses in CDI's namespace.
    pub ingresses: Read<Vec<Ingress>>,
    /// The bundle that the proxy's certificate is to be verified with, PEM.
    pub bundle: Read<Option<String>>,
    /// Every way to the upload proxy, tried from here.
    pub doors: Vec<Door>,
    /// Network policies in all namespaces that could be read.
    pub policies: Read<Vec<NetworkPolicy>>,
    /// Policies in CDI's namespace are among them.
    pub own_policies: Read<()>,
    /// Labels of all namespaces.
    pub namespaces: Read<BTreeMap<String, BTreeMap<String, String>>>,
    /// What became of a token.
    pub token: Token,
    /// Storage classes.
    pub classes: Read<Vec<StorageClass>>,
    /// What CDI knows of them.
    pub profiles: Read<Vec<StorageProfile>>,
    /// CSI drivers, each with the number of nodes it is registered on.
    pub drivers: Read<BTreeMap<String, usize>>,
    /// Pods of local-path-provisioner.
    pub provisioners: Read<Vec<Pod>>,
    /// Room on nodes' disks for classes that use them.
    pub rooms: Read<Vec<Room>>,
    /// Room that CSI drivers tell of.
    pub capacities: Read<Vec<CSIStorageCapacity>>,
    /// DataVolumes of the namespaces that were asked about.
    pub data_volumes: Read<Vec<DataVolume>>,
    /// Claims of the namespaces that were asked about.
    pub claims: Read<Vec<PersistentVolumeClaim>>,
    /// Warnings about claims.
    pub warnings: Read<Vec<Event>>,
}

/// A kind of way to the upload proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The address in the CDIConfig object.
    Configured,
    /// A load balancer of a service.
    LoadBalancer,
    /// A port of the nodes.
    NodePort,
    /// A service's address within the cluster.
    ClusterIp,
    /// A tunnel through the API server.
    PortForward,
}

impl Way {
    /// Words for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Configured => "uploadProxyURL",
            Self::LoadBalancer => "load balancer",
            Self::NodePort => "node port",
            Self::ClusterIp => "cluster IP",
            Self::PortForward => "port-forward",
        }
    }
}

/// A way to the upload proxy, and what came of trying it.
#[derive(Clone, Debug)]
pub struct Door {
    /// Its kind.
    pub way: Way,
    /// The URL for `--uploadproxy-url`.
    pub url: String,
    /// The proxy's greeting, or why there was none.
    pub greeting: Read<Greeting>,
}

/// What the upload proxy showed when it was dialled.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// HTTP status of `GET /healthz`.
    pub status: u16,
    /// Its certificate; `None` without TLS.
    pub certificate: Option<Certificate>,
}

/// A server's certificate, looked at.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Who signed it.
    pub issuer: String,
    /// DNS names and addresses that it is for.
    pub names: Vec<String>,
    /// First second of its validity.
    pub not_before: i64,
    /// Last second of its validity.
    pub not_after: i64,
    /// The bundle's authorities vouch for it, whatever its name.
    pub chain: Read<()>,
    /// It is for the host of the URL.
    pub name: Read<()>,
}

/// An upload token was asked for and shown to the proxy, for a claim that takes no data.
#[derive(Clone, Debug)]
pub struct Token {
    /// Where.
    pub namespace: String,
    /// What came of it.
    pub attempt: Attempt,
}

/// How far the attempt came.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// The claim could not be made.
    NoClaim(String),
    /// No token was given.
    NoToken(String),
    /// The proxy could not be asked.
    NoAnswer(String),
    /// The proxy answered.
    Answer {
        /// HTTP status.
        status: u16,
        /// Body.
        text: String,
    },
}

/// Room for new volumes of a class on a node's disk.
#[derive(Clone, Debug)]
pub struct Room {
    /// The storage class.
    pub class: String,
    /// The node.
    pub place: String,
    /// What was measured, and how sure it is that volumes go there.
    pub source: String,
    /// Bytes free.
    pub free: u64,
    /// Bytes in all, if known.
    pub total: Option<u64>,
    /// The node says that its disk is full.
    pub pressure: bool,
}

impl Facts {
    /// The proxy was reached by these, the best for a user first, a tunnel last.
    pub(crate) fn open_doors(&self) -> impl Iterator<Item = (&Door, &Greeting)> {
        self.doors
            .iter()
            .filter_map(|door| Some((door, door.greeting.as_ref().ok()?)))
            .filter(|(_, greeting)| greeting.status < 500)
    }
}

/// `namespace/name`, or the name of what has no namespace.
pub(crate) fn full_name(meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    match &meta.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// Seconds since it was created.
pub(crate) fn age(meta: &ObjectMeta, now: i64) -> i64 {
    meta.creation_timestamp
        .as_ref()
        .map_or(0, |time| now.saturating_sub(time.0.as_second()))
}
