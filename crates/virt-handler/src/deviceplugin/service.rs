//! The gRPC service of a plugin: `v1beta1.DevicePlugin`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use super::plugin::{Grant, Plugin};
use super::proto::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, Device, DevicePluginOptions,
    DeviceSpec, Empty, ListAndWatchResponse, Mount,
};

/// Serves until dropped.
pub(super) async fn serve(
    plugin: Plugin,
    listener: UnixListener,
) -> Result<(), tonic::transport::Error> {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let plugin = plugin.clone();
        async move { Ok::<_, Infallible>(answer(plugin, request).await) }
    });
    tonic::transport::Server::builder()
        .serve_with_incoming(service, UnixListenerStream::new(listener))
        .await
}

async fn answer(plugin: Plugin, request: http::Request<Body>) -> http::Response<Body> {
    match request.uri().path() {
        "/v1beta1.DevicePlugin/GetDevicePluginOptions" => {
            let method = tower::service_fn(|_: Request<Empty>| async {
                Ok::<_, Status>(Response::new(DevicePluginOptions::default()))
            });
            Grpc::new(ProstCodec::default())
                .unary(method, request)
                .await
        }
        "/v1beta1.DevicePlugin/ListAndWatch" => {
            let method = tower::service_fn(move |_: Request<Empty>| {
                let list = devices(&plugin);
                async move { Ok::<_, Status>(Response::new(forever(list))) }
            });
            Grpc::new(ProstCodec::default())
                .server_streaming(method, request)
                .await
        }
        "/v1beta1.DevicePlugin/Allocate" => {
            let method = tower::service_fn(move |request: Request<AllocateRequest>| {
                let granted = allocate(&plugin, request.get_ref());
                async move { Ok::<_, Status>(Response::new(granted)) }
            });
            Grpc::new(ProstCodec::default())
                .unary(method, request)
                .await
        }
        _ => Status::new(
            Code::Unimplemented,
            "expected a call of v1beta1.DevicePlugin that our options offer",
        )
        .into_http(),
    }
}

type Lists = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

/// The list, and then silence: the devices do not change.
fn forever(list: ListAndWatchResponse) -> Lists {
    Box::pin(futures::stream::once(async { Ok(list) }).chain(futures::stream::pending()))
}

fn devices(plugin: &Plugin) -> ListAndWatchResponse {
    let devices = (0..plugin.count())
        .map(|number| Device {
            id: format!("{}{number}", plugin.short()),
            health: "Healthy".to_owned(),
        })
        .collect();
    ListAndWatchResponse { devices }
}

/// What each container gets. One node is enough however many devices of a
/// resource a container asks for.
fn allocate(plugin: &Plugin, request: &AllocateRequest) -> AllocateResponse {
    let one = match plugin.grant() {
        Grant::Device { path } => ContainerAllocateResponse {
            envs: HashMap::new(),
            mounts: Vec::new(),
            devices: vec![DeviceSpec {
                container_path: path.to_owned(),
                host_path: path.to_owned(),
                permissions: "mrw".to_owned(),
            }],
        },
        Grant::Mount { host, container } => ContainerAllocateResponse {
            envs: HashMap::new(),
            mounts: vec![Mount {
                container_path: container.to_owned(),
                host_path: host.to_owned(),
                read_only: true,
            }],
            devices: Vec::new(),
        },
    };
    AllocateResponse {
        containers: vec![one; request.containers.len()],
    }
}
