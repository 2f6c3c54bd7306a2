//! One plugin: serves its socket, registers, and does both again when the
//! kubelet was restarted (it then removes every socket in its directory).
//!
//! ```text
//!   bind socket ──► serve ──► register ──► offered ──┐
//!        ▲             └─ refused: wait, again       │ kubelet.sock is another one,
//!        └───────────────────────────────────────────┘ or our socket is gone
//! ```

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::inotify::Watcher;
use hyper_util::rt::TokioIo;
use kube_kit::Shutdown;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::proto::{DevicePluginOptions, Empty, RegisterRequest};
use super::service;

/// File name of the kubelet's registration socket.
const KUBELET_SOCKET: &str = "kubelet.sock";
/// Version of the API.
const API_VERSION: &str = "v1beta1";
/// First and longest wait after a registration that failed or did not last.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// The kubelet answers a registration in this time.
const ANSWER: Duration = Duration::from_secs(10);

/// What a container gets for one device of the resource.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grant {
    /// A device node, at the same path.
    Device {
        /// Path on the node and in the container.
        path: &'static str,
    },
    /// A file, read-only.
    Mount {
        /// Path on the node.
        host: &'static str,
        /// Path in the container.
        container: &'static str,
    },
}

/// A resource to offer.
#[derive(Clone, Debug)]
pub(super) struct Plugin {
    resource: &'static str,
    count: u32,
    grant: Grant,
}

impl Plugin {
    pub(super) fn new(resource: &'static str, count: u32, grant: Grant) -> Self {
        Self {
            resource,
            count,
            grant,
        }
    }

    pub(super) fn resource(&self) -> &'static str {
        self.resource
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn grant(&self) -> Grant {
        self.grant
    }

    /// The word after the slash.
    pub(super) fn short(&self) -> &'static str {
        self.resource.rsplit('/').next().unwrap_or(self.resource)
    }

    fn socket_name(&self) -> String {
        format!("kubevirt-{}.sock", self.short())
    }

    /// Runs until shutdown; the receiver tells whether the kubelet knows us.
    pub(super) fn start(
        self,
        directory: PathBuf,
        watcher: Watcher,
        shutdown: Shutdown,
    ) -> watch::Receiver<bool> {
        let (offered, receiver) = watch::channel(false);
        tokio::spawn(async move {
            let mut wait = WAIT.0;
            while !shutdown.is_cancelled() {
                let begin = Instant::now();
                let round = tokio::select! {
                    round = self.round(&directory, &watcher, &offered) => round,
                    () = shutdown.cancelled() => break,
                };
                offered.send_replace(false);
                if let Err(error) = &round {
                    tracing::warn!(resource = self.resource, "offering devices: {error:#}");
                }
                // A round that ends soon ends for a reason that lasts, such as
                // another handler on this node that wants the same socket.
                if round.is_ok() && begin.elapsed() > WAIT.1 {
                    wait = WAIT.0;
                    continue;
                }
                tokio::select! {
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT.1),
                    () = shutdown.cancelled() => {}
                }
            }
            let _ = std::fs::remove_file(directory.join(self.socket_name()));
        });
        receiver
    }

    /// From binding to the end of the registration.
    async fn round(
        &self,
        directory: &Path,
        watcher: &Watcher,
        offered: &watch::Sender<bool>,
    ) -> anyhow::Result<()> {
        watcher
            .wait_for(directory, Path::new(KUBELET_SOCKET))
            .await?;
        let kubelet = directory.join(KUBELET_SOCKET);
        let registered_with = identity(&kubelet)?;
        let ours = directory.join(self.socket_name());
        remove(&ours)?;
        let watched = watcher.watch(directory)?;
        let listener = UnixListener::bind(&ours)?;
        let bound = identity(&ours)?;
        let serving = service::serve(self.clone(), listener);
        let life = async {
            self.register(&kubelet).await?;
            tracing::info!(
                resource = self.resource,
                count = self.count,
                "devices are offered"
            );
            offered.send_replace(true);
            loop {
                let changed = watched.changed();
                let lasts = identity(&kubelet).is_ok_and(|now| now == registered_with)
                    && identity(&ours).is_ok_and(|now| now == bound);
                if !lasts {
                    tracing::info!(
                        resource = self.resource,
                        "the kubelet was restarted, or another handler took the socket"
                    );
                    return Ok(());
                }
                changed.await;
            }
        };
        tokio::select! {
            ended = serving => Ok(ended?),
            ended = life => ended,
        }
    }

    async fn register(&self, kubelet: &Path) -> anyhow::Result<()> {
        let kubelet = kubelet.to_owned();
        // The address is not used: the connector knows the only way there is.
        let channel = Endpoint::from_static("http://kubelet")
            .timeout(ANSWER)
            .connect_with_connector(tower::service_fn(move |_| {
                let kubelet = kubelet.clone();
                async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(kubelet).await?)) }
            }))
            .await?;
        let request = RegisterRequest {
            version: API_VERSION.to_owned(),
            endpoint: self.socket_name(),
            resource_name: self.resource.to_owned(),
            options: Some(DevicePluginOptions::default()),
        };
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/v1beta1.Registration/Register");
        let codec = ProstCodec::<RegisterRequest, Empty>::default();
        client
            .unary(tonic::Request::new(request), path, codec)
            .await?;
        Ok(())
    }
}

/// Tells one file from another of the same name.
fn identity(path: &Path) -> io::Result<(u64, u64, i64, i64)> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
