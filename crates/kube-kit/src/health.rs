//! `/healthz`, `/readyz` and `/metrics`.
//!
//! A component that has its own server asks [`Health::answer`] first; one that
//! has none runs [`serve`] on a port of its own, without TLS: what it tells is
//! no secret and the kubelet then needs no certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;

use crate::Shutdown;
use crate::metrics::Metrics;

/// What the probes see. Starts alive and not ready. Clones share their state.
#[derive(Clone, Default)]
pub struct Health {
    state: Arc<State>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    ready: AtomicBool,
    broken: AtomicBool,
}

impl Health {
    /// Alive, not ready, no metrics but the process' own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether requests may be sent to us (`/readyz`).
    pub fn set_ready(&self, ready: bool) {
        self.state.ready.store(ready, Ordering::Relaxed);
    }

    /// Says that only a restart helps (`/healthz` fails).
    pub fn set_broken(&self) {
        self.state.broken.store(true, Ordering::Relaxed);
    }

    /// Whether `/readyz` succeeds now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.ready.load(Ordering::Relaxed)
    }

    /// Where a component adds its metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The answer for `path`, or `None` when it is not one of ours.
    #[must_use]
    pub fn answer(&self, path: &str) -> Option<Response<Full<Bytes>>> {
        let probe = |good: bool| {
            if good {
                (StatusCode::OK, "ok".to_owned())
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "no".to_owned())
            }
        };
        let (status, text) = match path {
            "/healthz" | "/livez" => probe(!self.state.broken.load(Ordering::Relaxed)),
            "/readyz" => probe(self.is_ready()),
            "/metrics" => (StatusCode::OK, self.metrics.render()),
            _ => return None,
        };
        Some(plain(status, text))
    }
}

/// Serves the three paths on `address` until shutdown.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(address: SocketAddr, health: Health, shutdown: Shutdown) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("listening for health probes on {address}"))?;
    let service =
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let answer = health.answer(request.uri().path());
            async move {
                Ok::<_, std::convert::Infallible>(
                    answer.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "not found".to_owned())),
                )
            }
        });
    crate::serve::serve(listener, None, service, shutdown).await
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn readiness_and_liveness_follow_what_is_said() {
        let health = Health::new();
        let code = |path: &str| health.answer(path).unwrap().status().as_u16();
        assert_eq!(
            (code("/healthz"), code("/readyz"), code("/metrics")),
            (200, 503, 200)
        );
        health.set_ready(true);
        assert_eq!(code("/readyz"), 200);
        health.set_broken();
        assert_eq!(code("/healthz"), 503);
        assert!(health.answer("/other").is_none());
    }
}
