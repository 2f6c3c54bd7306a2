//! The connection to the API server.
//!
//! It differs from the library's default in what an idle component pays:
//! HTTP/1 buffers start small, unused connections are closed soon, a dead
//! peer is noticed by TCP keepalive instead of by a read timeout (which would
//! break quiet watches), and only the head of an answer has a deadline.

use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use tower::{BoxError, ServiceBuilder, ServiceExt};

/// From request to the head of the answer. Above the API server's own 34 s
/// admission budget, so its reason arrives before our deadline.
const ANSWER: Duration = Duration::from_secs(45);
/// To open a TCP connection and to negotiate TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept. Longer than a lease's renewal period
/// so that leaders do not open a connection for each renewal.
const IDLE: Duration = Duration::from_secs(30);

/// A client from the pod's service account, or from `KUBECONFIG` or
/// `~/.kube/config` outside a cluster.
///
/// # Errors
/// When neither is there or readable, or a certificate in it is bad.
pub fn client() -> anyhow::Result<kube::Client> {
    crate::start::install_crypto_provider();
    let config = match (
        std::env::var_os("KUBECONFIG"),
        std::env::var_os("KUBERNETES_SERVICE_HOST"),
    ) {
        (None, Some(_)) => {
            kube::Config::incluster().context("reading the pod's service account")?
        }
        _ => {
            let options = kube::config::KubeConfigOptions::default();
            let kubeconfig = kube::config::Kubeconfig::read()
                .context("expected a service account (in a pod) or KUBECONFIG or ~/.kube/config")?;
            // The library's function is async by form only: it awaits nothing.
            kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                .now_or_never()
                .context("expected a kubeconfig that can be read without waiting")?
                .context("reading the kubeconfig")?
        }
    };
    client_for(&config)
}

/// A client for `config`.
///
/// # Errors
/// When a certificate or token of the configuration is bad.
pub fn client_for(config: &kube::Config) -> anyhow::Result<kube::Client> {
    crate::start::install_crypto_provider();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.set_keepalive_interval(Some(Duration::from_secs(10)));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(Duration::from_secs(30)));
    let connector = config
        .rustls_https_connector_with_connector(tcp)
        .context("TLS to the API server")?;
    let http: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(2)
            .http1_max_buf_size(64 * 1024)
            .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(
            config
                .auth_layer()
                .context("credentials for the API server")?,
        )
        .map_err(BoxError::from)
        .service(http)
        .map_future(|answer| async move {
            match tokio::time::timeout(ANSWER, answer).await {
                Ok(result) => result,
                Err(_) => Err(BoxError::from(format!(
                    "the API server did not answer within {} s",
                    ANSWER.as_secs()
                ))),
            }
        });
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// The HTTP status with which the API server refused, if it did.
#[must_use]
pub fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The object does not exist (404).
#[must_use]
pub fn is_not_found(error: &kube::Error) -> bool {
    status_code(error) == Some(404)
}

/// Somebody was faster (409): read afresh and decide again.
#[must_use]
pub fn is_conflict(error: &kube::Error) -> bool {
    status_code(error) == Some(409)
}

/// The resource version is too old for a watch (410): list again.
#[must_use]
pub fn is_gone(error: &kube::Error) -> bool {
    status_code(error) == Some(410)
}

/// An error in words for people: the API server's own, or the chain of causes.
#[must_use]
pub fn reason(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
