//! virt-api: the door of the control plane.
//!
//! ```text
//!  kubectl, virtctl --> API server --(front proxy certificate)--> subresources.kubevirt.io
//!                            |                                     start stop restart: JSON patches
//!                            |                                     pause unpause:      virt-handler
//!                            |                                     console vnc:        virt-handler (spliced)
//!                            |                                     portforward:        the guest
//!                            +--(webhooks)--> mutate, validate
//! ```
//!
//! One request goes `route -> authenticate -> authorize -> read the objects ->
//! decide (pure, crate `decide`) -> do`. Nothing is cached but what every
//! request needs: the KubeVirt object's configuration and the front proxy's
//! authority, both watched. VMs and VMIs are read when asked for.

mod answer;
mod app;
mod auth;
mod catalog;
mod discovery;
mod handler;
mod lifecycle;
mod objects;
mod openapi;
mod portforward;
mod router;
mod sessions;
mod stream;
mod watches;
mod webhooks;
mod websocket;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use api::subresource::VersionInfo;
use kube_kit::Shutdown;
use kube_kit::args::Args;
use kube_kit::tls::{ClientTls, ServerTls};

pub use catalog::{Refused, refused};

use app::App;
use handler::Handlers;

/// Common name that virt-handler's server proves.
const HANDLER_NAME: &str = "kubevirt.io:system:node:virt-handler";

struct Options {
    port: u16,
    cert_dir: PathBuf,
    client_cert_dir: PathBuf,
    ca_dir: PathBuf,
    namespace: Option<String>,
    handler_port: u16,
}

impl Options {
    fn parse(args: Vec<OsString>) -> anyhow::Result<Self> {
        let mut args = Args::new(args);
        let options = Self {
            port: args.or("--port", 8443)?,
            cert_dir: args.or("--cert-dir", PathBuf::from("/etc/virt-api/certificates"))?,
            client_cert_dir: args.or(
                "--client-cert-dir",
                PathBuf::from("/etc/virt-api/clientcertificates"),
            )?,
            ca_dir: args.or("--ca-dir", PathBuf::from("/etc/kubevirt/ca"))?,
            namespace: args.option("--namespace")?,
            handler_port: args.or("--handler-port", api::names::HANDLER_PORT)?,
        };
        args.finish()?;
        Ok(options)
    }
}

/// Runs virt-api with the arguments after the component's name:
/// `--port`, `--cert-dir` (tls.crt and tls.key of the server),
/// `--client-cert-dir` (tls.crt and tls.key for virt-handler), `--ca-dir`
/// (ca-bundle), `--namespace` (of the control plane; the pod's own when absent)
/// and `--handler-port`.
///
/// `version` is what the program says of its build.
#[must_use]
pub fn main(args: Vec<OsString>, version: VersionInfo) -> ExitCode {
    kube_kit::start("virt-api", |shutdown| async move {
        run(Options::parse(args)?, version, shutdown).await
    })
}

async fn run(options: Options, version: VersionInfo, shutdown: Shutdown) -> anyhow::Result<()> {
    let client = kube_kit::client()?;
    let namespace = options.namespace.unwrap_or_else(|| {
        let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        if in_cluster {
            client.default_namespace().to_owned()
        } else {
            api::names::DEFAULT_NAMESPACE.to_owned()
        }
    });
    let tls = Arc::new(
        ServerTls::from_dir(&options.cert_dir, None).context("certificate of the server")?,
    );
    let to_handlers = ClientTls::from_dir(&options.client_cert_dir, &options.ca_dir, HANDLER_NAME)
        .context("certificate for virt-handler")?;
    let handlers = Handlers::new(
        client.clone(),
        &namespace,
        to_handlers,
        options.handler_port,
    );
    let app = Arc::new(App::new(client.clone(), namespace, handlers, version));
    let listener = kube_kit::serve::listen(options.port).await?;
    tokio::spawn(watches::follow(Arc::clone(&app), Arc::clone(&tls), client));
    let stop = kube_kit::serve::leave(shutdown, app.health.clone());
    let service = hyper::service::service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, std::convert::Infallible>(app.answer(request).await) }
    });
    kube_kit::serve(listener, Some(tls), service, stop).await
}

#[cfg(test)]
mod tests;
