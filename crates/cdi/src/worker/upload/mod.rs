//! cdi-uploadserver: takes one image over mutual TLS and writes it into the claim.
//!
//! ```text
//!   connection ── pieces of 256 KiB ──► channel ──► thread: imaging ──► the claim
//! ```
//! The thread outlives a connection: when one breaks, the bytes that arrived stay where they
//! are, HEAD tells how many there are, and a later request goes on from there. A request that
//! begins anew ends the thread and starts another.
//!
//! Paths, methods and statuses are upstream's (pkg/uploadserver); going on is ours.

mod answer;
mod body;
mod session;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use kube_kit::Shutdown;
use kube_kit::args::Args;
use kube_kit::tls::ServerTls;
use tokio::net::TcpListener;

use super::Claim;
use super::end::Done;
use answer::Server;

pub(super) use answer::CLONE_PATH;

/// What the controller's clients look for.
const COMPLETE: &str = "Upload Complete";
/// The same for a clone.
const CLONED: &str = "Clone Complete";
/// The last answer needs a moment to reach its client before the process ends.
const FAREWELL: Duration = Duration::from_millis(300);

/// What the server itself needs to know.
#[derive(Debug)]
pub(super) struct Settings {
    listen: SocketAddr,
    tls_dir: PathBuf,
    client_ca: PathBuf,
    client_name: String,
    /// The one client is a worker that sends a clone.
    clone: bool,
}

impl Settings {
    /// Reads the server's own options.
    pub(super) fn parse(args: &mut Args) -> anyhow::Result<Self> {
        Ok(Self {
            listen: args.or("--listen", SocketAddr::from(([0, 0, 0, 0], 8443)))?,
            tls_dir: args.required::<String>("--tls-dir")?.into(),
            client_ca: args.required::<String>("--client-ca")?.into(),
            client_name: args.or(
                "--client-name",
                "client.upload-server.cdi.kubevirt.io".to_owned(),
            )?,
            clone: args.flag("--clone"),
        })
    }
}

/// Serves until the claim is filled, an image is found that never will be one, or shutdown.
pub(super) async fn run(
    settings: Settings,
    claim: Claim,
    shutdown: Shutdown,
) -> anyhow::Result<imaging::Result<Done>> {
    let tls = ServerTls::from_dir(&settings.tls_dir, None).context("the server's certificate")?;
    // A client without a certificate is answered 401 rather than dropped.
    let ca = std::fs::read(&settings.client_ca)
        .with_context(|| format!("cannot read {}", settings.client_ca.display()))?;
    tls.set_optional_client_ca(Some(ca))
        .context("the authority of clients")?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    tracing::info!(address = %listener.local_addr()?, "waiting for an upload");
    let server = Server::new(claim, settings.client_name, settings.clone);
    let server = Arc::new(server);
    let closing = shutdown.child_token();
    let serving = tokio::spawn(kube_kit::serve(
        listener,
        Some(Arc::new(tls)),
        service_fn({
            let server = Arc::clone(&server);
            move |request: Request<Incoming>| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            }
        }),
        closing.clone(),
    ));
    let outcome = tokio::select! {
        outcome = server.ended() => outcome,
        () = shutdown.cancelled() => {
            server.cancel();
            Err(imaging::Error::Cancelled)
        }
    };
    tokio::time::sleep(FAREWELL).await;
    closing.cancel();
    serving.await??;
    Ok(outcome)
}
