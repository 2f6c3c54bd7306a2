//! cdi-apiserver: tokens for uploads, and admission of CDI's kinds.
//!
//! ```text
//!  kubectl, virtctl --> API server --(front proxy certificate)--> upload.cdi.kubevirt.io
//!                            |                                     uploadtokenrequests: create
//!                            +--(webhooks)--> crate `decide`
//! ```
//! The signing key is in a Secret that is made here when it is not there.

mod app;
mod claims;
mod completion;
mod discovery;
mod openapi;
mod signing_key;
mod webhooks;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use futures::StreamExt;
use kube_kit::Shutdown;
use kube_kit::args::Args;
use kube_kit::front_proxy;
use kube_kit::tls::ServerTls;

use app::App;

struct Options {
    port: u16,
    cert_dir: PathBuf,
    namespace: Option<String>,
}

impl Options {
    fn parse(args: Vec<OsString>) -> anyhow::Result<Self> {
        let mut args = Args::new(args);
        let options = Self {
            port: args.or("--port", 8443)?,
            cert_dir: args.or(
                "--cert-dir",
                PathBuf::from("/var/run/certs/cdi-apiserver-server-cert"),
            )?,
            namespace: args.option("--namespace")?,
        };
        args.finish()?;
        Ok(options)
    }
}

/// Runs cdi-apiserver with the arguments after the component's name: `--port`,
/// `--cert-dir` (tls.crt and tls.key of the server) and `--namespace` (of the control
/// plane; the pod's own when absent).
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("cdi-apiserver", |shutdown| async move {
        run(Options::parse(args)?, shutdown).await
    })
}

async fn run(options: Options, shutdown: Shutdown) -> anyhow::Result<()> {
    let client = kube_kit::client()?;
    let namespace = options
        .namespace
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let tls = Arc::new(
        ServerTls::from_dir(&options.cert_dir, None).context("certificate of the server")?,
    );
    let listener = kube_kit::serve::listen(options.port).await?;
    let key = signing_key::get_or_make(&client, &namespace).await?;
    let app = Arc::new(App::new(client.clone(), key));
    tokio::spawn({
        let (app, mut known) = (
            Arc::clone(&app),
            front_proxy::follow(client, Arc::clone(&tls)),
        );
        async move {
            while let Some(front_proxy) = known.next().await {
                app.set_front_proxy(front_proxy);
                app.health.set_ready(true);
            }
        }
    });
    let stop = kube_kit::serve::leave(shutdown, app.health.clone());
    let service = hyper::service::service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, std::convert::Infallible>(app.answer(request).await) }
    });
    kube_kit::serve(listener, Some(tls), service, stop).await
}

#[cfg(test)]
mod tests;
