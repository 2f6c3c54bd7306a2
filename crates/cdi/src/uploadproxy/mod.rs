//! cdi-uploadproxy: the door for uploads from outside of the cluster.
//!
//! ```text
//!  client ──(TLS, token)──► route ► token ► is the claim's server ready? ► stream
//!                                                                            │ mTLS
//!                                        cdi-upload-<claim>.<namespace>.svc ◄┘
//! ```
//! Nothing is buffered: what the client sends goes on as it comes, at the speed at
//! which the upload server takes it. The token's public key and all certificates are
//! read again when their files change.

mod claim;
mod cors;
mod forward;
mod proxy;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use kube_kit::Shutdown;
use kube_kit::args::Args;
use kube_kit::tls::{ClientTls, ServerTls};

use forward::Servers;
use proxy::Proxy;

struct Options {
    port: u16,
    cert_dir: PathBuf,
    client_cert_dir: PathBuf,
    server_ca: PathBuf,
    signing_key: PathBuf,
}

impl Options {
    fn parse(args: Vec<OsString>) -> anyhow::Result<Self> {
        let mut args = Args::new(args);
        let certs = |name: &str| PathBuf::from("/var/run/certs").join(name);
        let options = Self {
            port: args.or("--port", 8443)?,
            cert_dir: args.or("--cert-dir", certs("cdi-uploadproxy-server-cert"))?,
            client_cert_dir: args.or("--client-cert-dir", certs("cdi-uploadserver-client-cert"))?,
            server_ca: args.or(
                "--server-ca",
                certs("cdi-uploadserver-signer-bundle").join(api::cdi::names::CA_BUNDLE_KEY),
            )?,
            signing_key: args.or("--signing-key", certs("cdi-api-signing-key/id_rsa.pub"))?,
        };
        args.finish()?;
        Ok(options)
    }
}

/// Runs cdi-uploadproxy with the arguments after the component's name: `--port`,
/// `--cert-dir` (tls.crt and tls.key for clients), `--client-cert-dir` (tls.crt and
/// tls.key for upload servers), `--server-ca` (file with the upload servers'
/// authorities) and `--signing-key` (file with the public key of tokens). Without that
/// file the key is taken from the environment's `APISERVER_PUBLIC_KEY`, as upstream does.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("cdi-uploadproxy", |shutdown| async move {
        run(Options::parse(args)?, shutdown).await
    })
}

async fn run(options: Options, shutdown: Shutdown) -> anyhow::Result<()> {
    let client = kube_kit::client()?;
    let tls = Arc::new(
        ServerTls::from_dir(&options.cert_dir, None).context("certificate of the server")?,
    );
    let to_servers = ClientTls::to_hosts(&options.client_cert_dir, options.server_ca)
        .context("certificate for upload servers")?;
    let proxy = Arc::new(Proxy::new(
        client,
        options.signing_key,
        Servers::new(to_servers),
    ));
    proxy.key().context("public key of tokens")?;
    let listener = kube_kit::serve::listen(options.port).await?;
    proxy.health.set_ready(true);
    let stop = kube_kit::serve::leave(shutdown, proxy.health.clone());
    let service = hyper::service::service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, std::convert::Infallible>(proxy.answer(request).await) }
    });
    kube_kit::serve(listener, Some(tls), service, stop).await
}

#[cfg(test)]
mod tests;
