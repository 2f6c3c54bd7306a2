//! A plugin against a kubelet that is played here.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::convert::Infallible;

use futures::StreamExt;
use host::inotify::Watcher;
use hyper_util::rt::TokioIo;
use kube_kit::Shutdown;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::plugin::{Grant, Plugin};
use super::proto::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest, Empty, ListAndWatchResponse,
    RegisterRequest,
};

/// Listens as the kubelet does and tells of each registration.
fn kubelet(
    directory: &std::path::Path,
    told: mpsc::UnboundedSender<RegisterRequest>,
) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(directory.join("kubelet.sock")).unwrap();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        assert_eq!(request.uri().path(), "/v1beta1.Registration/Register");
        let told = told.clone();
        let method = tower::service_fn(move |request: Request<RegisterRequest>| {
            told.send(request.into_inner()).unwrap();
            async { Ok::<_, Status>(Response::new(Empty {})) }
        });
        async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            Ok::<_, Infallible>(grpc.unary(method, request).await)
        }
    });
    tokio::spawn(async move {
        let server = tonic::transport::Server::builder();
        server
            .serve_with_incoming(service, UnixListenerStream::new(listener))
            .await
            .unwrap();
    })
}

async fn dial(path: std::path::PathBuf) -> tonic::client::Grpc<tonic::transport::Channel> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://plugin");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    client
}

fn path(call: &'static str) -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static(call)
}

#[tokio::test]
async fn a_plugin_lists_allocates_and_registers_again_when_the_kubelet_restarts() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().to_owned();
    let (told, mut registrations) = mpsc::unbounded_channel();
    let grant = Grant::Mount {
        host: "/h",
        container: "/c",
    };
    let shutdown = Shutdown::new();
    let mut offered = Plugin::new("devices.kubevirt.io/container-disk", 3, grant).start(
        directory.clone(),
        Watcher::new().unwrap(),
        shutdown.clone(),
    );
    // The kubelet may come later than the plugin.
    let first = kubelet(&directory, told.clone());
    let request = registrations.recv().await.unwrap();
    assert_eq!(
        (request.version.as_str(), request.resource_name.as_str()),
        ("v1beta1", "devices.kubevirt.io/container-disk")
    );
    offered.wait_for(|offered| *offered).await.unwrap();

    let socket = directory.join(&request.endpoint);
    let mut client = dial(socket.clone()).await;
    let list = client.server_streaming(
        Request::new(Empty {}),
        path("/v1beta1.DevicePlugin/ListAndWatch"),
        ProstCodec::<Empty, ListAndWatchResponse>::default(),
    );
    let devices = list
        .await
        .unwrap()
        .into_inner()
        .next()
        .await
        .unwrap()
        .unwrap()
        .devices;
    assert_eq!(devices.len(), 3);
    assert!(devices.iter().all(|device| device.health == "Healthy"));

    let mut client = dial(socket.clone()).await;
    let container = ContainerAllocateRequest {
        device_ids: vec![devices[0].id.clone()],
    };
    let granted = client.unary(
        Request::new(AllocateRequest {
            containers: vec![container.clone(), container],
        }),
        path("/v1beta1.DevicePlugin/Allocate"),
        ProstCodec::<AllocateRequest, AllocateResponse>::default(),
    );
    let containers = granted.await.unwrap().into_inner().containers;
    assert_eq!(containers.len(), 2);
    assert_eq!(
        (
            containers[0].mounts[0].host_path.as_str(),
            containers[0].mounts[0].read_only
        ),
        ("/h", true)
    );

    // A kubelet that starts clears its directory first.
    first.abort();
    std::fs::remove_file(&socket).unwrap();
    std::fs::remove_file(directory.join("kubelet.sock")).unwrap();
    offered.wait_for(|offered| !*offered).await.unwrap();
    let _second = kubelet(&directory, told);
    registrations.recv().await.unwrap();
    offered.wait_for(|offered| *offered).await.unwrap();
    assert!(socket.exists());

    shutdown.cancel();
    // The task drops its end when it is done.
    while offered.changed().await.is_ok() {}
    assert!(!socket.exists());
}
