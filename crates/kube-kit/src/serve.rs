//! An HTTP/1.1 server over TCP or TLS, with upgrades (websockets) and a quiet end.
//!
//! Each request carries a [`Peer`] among its extensions: who connected, and
//! the certificate it proved. HTTP/2 is not offered: the aggregator needs
//! HTTP/1.1 for upgrades anyway and h2's flow-control state is memory.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::Shutdown;
use crate::health::Health;
use crate::tls::ServerTls;

/// TLS must be negotiated in this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A request's head must arrive in this time; also how long a connection may
/// stay idle. Above the 90 s after which the API server closes idle
/// connections itself, so it never writes into one that we are closing.
const HEAD: Duration = Duration::from_secs(120);
/// How long requests may go on after shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// How long requests are still accepted after SIGTERM: until kube-proxy has
/// taken this pod out of its service.
const LEAVE: Duration = Duration::from_secs(3);

/// Who sent a request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The other end of the connection.
    pub address: SocketAddr,
    /// The client's certificate chain, verified; empty without one.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// The common name of the first certificate, if there is one.
    pub common_name: Option<String>,
}

/// A listener for all addresses of this machine. Dual stack: an IPv6 socket takes
/// IPv4 too, where the node has IPv6.
///
/// # Errors
/// When the port cannot be had.
pub async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            .await
            .with_context(|| format!("listening on port {port}")),
    }
}

/// When a server behind a service should stop: not ready at once when `shutdown`
/// is asked for, stopped when the service sends it no more requests.
pub fn leave(shutdown: Shutdown, health: Health) -> Shutdown {
    let stop = Shutdown::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        health.set_ready(false);
        tokio::time::sleep(LEAVE).await;
        stopped.cancel();
    });
    stop
}

/// Serves `service` on `listener` until shutdown; then stops to accept and
/// gives running requests five seconds. Upgraded connections are dropped.
///
/// An axum `Router` is passed as `hyper_util::service::TowerToHyperService::new(router)`.
///
/// # Errors
/// None at present: a connection that fails is logged, the others go on.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    service: S,
    shutdown: Shutdown,
) -> anyhow::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tracker = TaskTracker::new();
    loop {
        let (stream, address) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to close.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (tls, service, shutdown) = (tls.clone(), service.clone(), shutdown.clone());
        tracker.spawn(async move {
            if let Err(error) = connection(stream, address, tls, service, shutdown).await {
                tracing::debug!(%address, "connection ended: {error:#}");
            }
        });
    }
    tracker.close();
    if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
        tracing::debug!("connections were still open at shutdown");
    }
    Ok(())
}

async fn connection<S, B>(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    service: S,
    shutdown: Shutdown,
) -> anyhow::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let peer = Peer {
            address,
            certificates: Arc::from([]),
            common_name: None,
        };
        return http(TokioIo::new(stream), peer, service, shutdown).await;
    };
    let stream = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await??;
    let certificates: Arc<[CertificateDer<'static>]> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    let common_name = certificates
        .first()
        .and_then(|certificate| crate::tls::common_name(certificate));
    http(
        TokioIo::new(stream),
        Peer {
            address,
            certificates,
            common_name,
        },
        service,
        shutdown,
    )
    .await
}

async fn http<I, S, B>(io: I, peer: Peer, service: S, shutdown: Shutdown) -> anyhow::Result<()>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let with_peer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        service.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 * 1024)
        .serve_connection(io, with_peer)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => return Ok(outcome?),
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}
