//! The console server: HTTPS for virt-api only.
//!
//! `GET /v1/namespaces/{ns}/virtualmachineinstances/{name}/{console|vnc}` opens
//! a websocket that is joined to the guest's serial port or display; `PUT
//! …/{pause|unpause|softreboot|reset}` asks the launcher. Failures come before
//! the upgrade, as a Kubernetes `Status`.

mod handshake;
mod pump;
mod route;
mod sessions;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use kube_kit::Shutdown;
use kube_kit::health::Health;
use kube_kit::tls::ServerTls;
use tokio::net::{TcpListener, UnixStream};

use crate::Settings;
use crate::guest::{CommandError, Guests};
use handshake::Handshake;
use route::{Route, Stream, Target};
use sessions::Sessions;

/// Common name of virt-api's client certificate (contract, section 3).
const CLIENT: &str = "kubevirt.io:system:client:virt-handler";

type Answer = Response<Full<Bytes>>;

/// A request that was refused.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn into_answer(self) -> Answer {
        let reason = match self.status {
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            _ => "InternalError",
        };
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": reason, "code": self.status.as_u16(),
        });
        let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
        *answer.status_mut() = self.status;
        answer.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        answer
    }
}

struct Server {
    guests: Arc<Guests>,
    sessions: Arc<Sessions>,
    shutdown: Shutdown,
}

/// Serves until shutdown.
pub(crate) async fn serve(
    settings: &Settings,
    guests: Arc<Guests>,
    health: Health,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let tls = ServerTls::from_dir(&settings.cert_dir, Some(settings.ca_dir.clone()))
        .context("reading the console server's certificates")?
        .only_clients([CLIENT]);
    let address = SocketAddr::from(([0, 0, 0, 0], settings.port));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))?;
    metrics(&health, Arc::clone(&guests));
    health.set_ready(true);
    let server = Arc::new(Server {
        guests,
        sessions: Arc::default(),
        shutdown: shutdown.clone(),
    });
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let server = Arc::clone(&server);
        async move {
            Ok::<_, Infallible>(
                server
                    .answer(request)
                    .await
                    .unwrap_or_else(Refusal::into_answer),
            )
        }
    });
    kube_kit::serve(listener, Some(Arc::new(tls)), service, shutdown).await
}

fn metrics(health: &Health, guests: Arc<Guests>) {
    health.metrics().source(move |out| {
        let help = "Launchers whose guests this node's handler follows.";
        kube_kit::metrics::write(
            out,
            "kubevirt_handler_launchers",
            "gauge",
            help,
            guests.count(),
        );
    });
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        match Route::of(request.method(), request.uri())? {
            Route::Stream(target, stream) => self.open(request, &target, stream),
            Route::Command(target, op) => {
                self.guests
                    .command(&target.namespace, &target.name, op)
                    .await
                    .map_err(|error| {
                        let status = match error {
                            CommandError::NotHere { .. } => StatusCode::NOT_FOUND,
                            _ => StatusCode::INTERNAL_SERVER_ERROR,
                        };
                        Refusal::new(status, error.to_string())
                    })?;
                Ok(Response::new(Full::default()))
            }
        }
    }

    /// Joins the connection to the guest's socket once it was upgraded.
    fn open(
        &self,
        mut request: Request<Incoming>,
        target: &Target,
        stream: Stream,
    ) -> Result<Answer, Refusal> {
        let handshake = Handshake::read(request.headers())?;
        let key = (
            target.namespace.clone(),
            target.name.clone(),
            stream.socket(),
        );
        if stream.yields() && self.sessions.is_open(&key) {
            let message =
                "the display is in use and the request preserves the session that uses it";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        let directory = self
            .guests
            .sockets(&target.namespace, &target.name)
            .ok_or_else(|| {
                let message = format!(
                    "no guest of VMI {}/{} is on this node",
                    target.namespace, target.name
                );
                Refusal::new(StatusCode::NOT_FOUND, message)
            })?;
        // The one that is there goes first: QEMU talks to one client at a time.
        let session = self.sessions.take(key);
        let socket = host::unix::connect(&directory, std::ffi::OsStr::new(stream.socket()))
            .and_then(UnixStream::from_std)
            .map_err(|error| {
                let message = format!("connecting to {} of the guest: {error}", stream.socket());
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            })?;
        let upgrade = hyper::upgrade::on(&mut request);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let upgraded = match upgrade.await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(error) => return tracing::debug!("a stream was not upgraded: {error}"),
            };
            tokio::select! {
                () = pump::join(upgraded, socket) => {}
                () = session.replaced() => tracing::debug!("a stream was replaced by a newer one"),
                () = shutdown.cancelled() => {}
            }
        });
        Ok(handshake.answer())
    }
}
