//! The world around the server under test.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use jiff::{SignedDuration, Timestamp};
use kube_kit::certs::{self, Leaf, Usage};
use kube_kit::serve::Peer;
use kube_kit::testing::{Answer, client, refusal};
use kube_kit::tls::{ClientTls, ServerTls};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::HANDLER_NAME;
use crate::app::App;
use crate::handler::Handlers;

pub(super) const GROUP: &str = "/apis/subresources.kubevirt.io/v1";

/// What the fake API server holds and was asked.
#[derive(Default)]
pub(super) struct Cluster {
    /// Objects by URL path.
    pub(super) objects: BTreeMap<String, Value>,
    /// `METHOD uri` and body of every request but SubjectAccessReviews.
    pub(super) asked: Vec<(String, Value)>,
    /// Users of SubjectAccessReviews with the attributes asked for.
    pub(super) reviews: Vec<Value>,
    /// SubjectAccessReviews are denied with this reason.
    pub(super) denied: Option<String>,
    /// Code and message of the next patches that fail; `None` lets one pass.
    pub(super) failures: Vec<Option<(u16, String)>>,
}

/// The server under test and the world around it.
pub(super) struct World {
    pub(super) app: Arc<App>,
    pub(super) cluster: Arc<Mutex<Cluster>>,
    /// Certificates of the fake virt-handler and of the server.
    pub(super) dir: TempDir,
}

/// A VirtualMachine named x.
pub(super) fn vm(strategy: &str) -> Value {
    json!({
        "metadata": {"name": "x", "namespace": "ns", "uid": "v1"},
        "spec": {"runStrategy": strategy},
        "status": {"created": true},
    })
}

/// A VirtualMachineInstance named x on node edge1.
pub(super) fn vmi(phase: &str) -> Value {
    json!({
        "metadata": {"name": "x", "namespace": "ns", "uid": "u1", "ownerReferences": [{"uid": "v1"}]},
        "spec": {"terminationGracePeriodSeconds": 30},
        "status": {"phase": phase, "nodeName": "edge1", "interfaces": [{"ipAddress": "127.0.0.1"}]},
    })
}

impl World {
    /// With a virt-handler on edge1 at `handler_port` of this machine.
    pub(super) fn new(handler_port: u16) -> Self {
        let cluster = Arc::new(Mutex::new(Cluster::default()));
        let client = client(&cluster);
        let dir = certificates();
        let tls = ClientTls::from_dir(
            dir.path().join("client"),
            dir.path().join("ca"),
            HANDLER_NAME,
        )
        .unwrap();
        let handlers = Handlers::new(client.clone(), "kubevirt", tls, handler_port);
        let app = Arc::new(App::new(
            client,
            "kubevirt".to_owned(),
            handlers,
            api::version_info!(),
        ));
        Self { app, cluster, dir }
    }

    pub(super) fn with(self, plural: &str, object: Value) -> Self {
        let path = format!("/apis/kubevirt.io/v1/namespaces/ns/{plural}/x");
        self.cluster.lock().unwrap().objects.insert(path, object);
        self
    }

    pub(super) fn server_tls(&self) -> ServerTls {
        ServerTls::from_dir(
            self.dir.path().join("server"),
            Some(self.dir.path().join("ca")),
        )
        .unwrap()
    }

    /// Asks as user alice through the front proxy; gives status and body.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut request = request(method, path, body);
        request.extensions_mut().insert(front_proxy());
        self.send(request).await
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> (u16, String) {
        let answer = self.app.answer(request).await;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Requests but reads.
    pub(super) fn writes(&self) -> Vec<(String, Value)> {
        let cluster = self.cluster.lock().unwrap();
        cluster
            .asked
            .iter()
            .filter(|(what, _)| !what.starts_with("GET"))
            .cloned()
            .collect()
    }
}

pub(super) fn front_proxy() -> Peer {
    Peer {
        address: ([127, 0, 0, 1], 1).into(),
        certificates: Arc::from([vec![0u8].into()]),
        common_name: Some("front-proxy-client".to_owned()),
    }
}

pub(super) fn request(method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("X-Remote-User", "alice")
        .header("X-Remote-Group", "dev")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

impl Answer for Cluster {
    fn answer(&mut self, request: &http::request::Parts, body: Value) -> (u16, Value) {
        let path = request.uri.path();
        if path.ends_with("/subjectaccessreviews") {
            self.reviews.push(body["spec"].clone());
            let reason = self.denied.clone();
            return (
                201,
                json!({"status": {"allowed": reason.is_none(), "reason": reason}}),
            );
        }
        self.asked
            .push((format!("{} {}", request.method, request.uri), body));
        if path == "/api/v1/namespaces/kubevirt/pods" {
            let pod =
                json!({"metadata": {"name": "virt-handler-1"}, "status": {"podIP": "127.0.0.1"}});
            return (
                200,
                json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]}),
            );
        }
        let scripted = request.method == http::Method::PATCH && !self.failures.is_empty();
        if let Some((code, message)) = scripted.then(|| self.failures.remove(0)).flatten() {
            return refusal(code, &message);
        }
        match self.objects.get(path.trim_end_matches("/status")) {
            Some(object) => (200, object.clone()),
            None => refusal(404, "not found"),
        }
    }
}

fn certificates() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (now, life) = (Timestamp::now(), SignedDuration::from_hours(1));
    let authority = certs::authority("test", now, life).unwrap();
    write(
        &dir.path().join("ca"),
        &[("ca-bundle", &authority.certificate)],
    );
    for (sub, name, usage) in [
        ("server", HANDLER_NAME, Usage::Server),
        (
            "client",
            "kubevirt.io:system:client:virt-handler",
            Usage::Client,
        ),
    ] {
        let leaf = Leaf {
            common_name: name,
            dns_names: &[],
            usage,
        };
        let pair = certs::leaf(&authority, &leaf, now, life).unwrap();
        write(
            &dir.path().join(sub),
            &[("tls.crt", &pair.certificate), ("tls.key", &pair.key)],
        );
    }
    dir
}

fn write(dir: &Path, files: &[(&str, &String)]) {
    std::fs::create_dir(dir).unwrap();
    for (name, text) in files {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

/// What the fake virt-handler was asked: method and path with query.
pub(super) type Heard = Arc<Mutex<Vec<String>>>;

/// Runs a virt-handler that refuses with `refusal`, or says yes to verbs and
/// echoes streams.
pub(super) async fn handler(refusal: Option<(u16, &'static str)>) -> (World, Heard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new(listener.local_addr().unwrap().port());
    let heard = Heard::default();
    let ears = Arc::clone(&heard);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        ears.lock()
            .unwrap()
            .push(format!("{} {}", request.method(), request.uri()));
        async move {
            let mut answer = Response::new(Full::new(Bytes::new()));
            if let Some((code, text)) = refusal {
                *answer.status_mut() = StatusCode::from_u16(code).unwrap();
                *answer.body_mut() = Full::new(Bytes::from(text));
            } else if let Some(key) = request.headers().get("sec-websocket-key") {
                use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let accept = derive_accept_key(key.as_bytes());
                for (name, value) in [
                    ("upgrade", "websocket"),
                    ("connection", "Upgrade"),
                    ("sec-websocket-accept", &accept),
                ] {
                    answer.headers_mut().insert(name, value.parse().unwrap());
                }
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move { echo(upgrade.await.unwrap()).await });
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let tls = Arc::new(
        world
            .server_tls()
            .only_clients(["kubevirt.io:system:client:virt-handler"]),
    );
    tokio::spawn(kube_kit::serve(
        listener,
        Some(tls),
        service,
        kube_kit::Shutdown::new(),
    ));
    (world, heard)
}

/// Sends back each message of a websocket; ends it after `bye`.
async fn echo(stream: hyper::upgrade::Upgraded) {
    use futures::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::{Message, protocol::Role};
    let io = hyper_util::rt::TokioIo::new(stream);
    let mut socket =
        tokio_tungstenite::WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
        if bytes == Bytes::from_static(b"bye") {
            break;
        }
        socket.send(Message::Binary(bytes)).await.unwrap();
    }
    let _ = socket.close(None).await;
}
