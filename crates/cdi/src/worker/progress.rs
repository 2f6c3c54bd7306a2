//! How far a worker is, for the controller that asks every two seconds.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use api::cdi::names::{PROGRESS_METRIC as METRIC, RETRY_METRIC};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use kube_kit::Shutdown;
use tokio::net::TcpListener;

/// The longest reason that is told, in bytes.
const LONGEST: usize = 1000;

/// How far the work is.
#[derive(Debug)]
pub(super) struct Progress {
    /// Hundredths of a percent.
    done: AtomicU32,
    /// Why the work stands still for now.
    retrying: Mutex<Option<String>>,
    owner: String,
    listen: Option<SocketAddr>,
}

impl Progress {
    pub(super) fn new(owner: String, listen: Option<SocketAddr>) -> Self {
        Self {
            done: AtomicU32::new(0),
            retrying: Mutex::new(None),
            owner,
            listen,
        }
    }

    /// `part` of 1 is done.
    pub(super) fn tell(&self, part: f64) {
        // Between 0 and 10000, so nothing is cut.
        let hundredths = (part.clamp(0.0, 1.0) * 10_000.0) as u32;
        self.done.fetch_max(hundredths, Ordering::Relaxed);
    }

    /// The source fails for now, and why; or it works.
    pub(super) fn retrying(&self, reason: Option<String>) {
        let mut known = self.retrying.lock().unwrap_or_else(PoisonError::into_inner);
        *known = reason.map(|mut reason| {
            reason.truncate(reason.floor_char_boundary(LONGEST));
            // A label's value would need escapes for these, and a reader that knows them.
            reason.replace(['"', '\\', '\n'], "'")
        });
    }

    fn text(&self) -> String {
        let done = self.done.load(Ordering::Relaxed);
        let owner = self.owner.replace(['"', '\\', '\n'], "");
        let known = self.retrying.lock().unwrap_or_else(PoisonError::into_inner);
        let retrying = known.as_ref().map_or_else(String::new, |reason| {
            format!("# HELP {RETRY_METRIC} The source failed and is tried again\n# TYPE {RETRY_METRIC} gauge\n{RETRY_METRIC}{{reason=\"{reason}\"}} 1\n")
        });
        format!(
            "{retrying}# HELP {METRIC} The percentage of the data that is in the volume\n# TYPE {METRIC} counter\n{METRIC}{{ownerUID=\"{owner}\"}} {}.{:02}\n",
            done / 100,
            done % 100
        )
    }
}

/// Serves it in plain HTTP, if that is asked for. It is no secret, and no work may fail for it.
pub(super) async fn serve(progress: Arc<Progress>, shutdown: Shutdown) {
    let Some(address) = progress.listen else {
        return;
    };
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("cannot serve progress on {address}: {error}");
            return;
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let progress = Arc::clone(&progress);
        async move {
            let known = request.uri().path() == "/metrics";
            let text = if known {
                progress.text()
            } else {
                String::new()
            };
            let mut response = Response::new(Full::new(Bytes::from(text)));
            if !known {
                *response.status_mut() = StatusCode::NOT_FOUND;
            }
            Ok::<_, Infallible>(response)
        }
    });
    if let Err(error) = kube_kit::serve(listener, None, service, shutdown).await {
        tracing::warn!("progress is served no more: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_until_the_source_works() {
        let progress = Progress::new("u-1".to_owned(), None);
        progress.retrying(Some("GET h: said \"no\"".to_owned()));
        assert!(
            progress
                .text()
                .contains("\nedgevirt_cdi_import_retrying{reason=\"GET h: said 'no'\"} 1\n")
        );
        progress.retrying(None);
        assert!(!progress.text().contains("retrying"));
    }

    #[test]
    fn progress_is_a_metric_that_never_falls() {
        let progress = Progress::new("u-1".to_owned(), None);
        progress.tell(0.5);
        progress.tell(0.25);
        assert!(
            progress
                .text()
                .ends_with("kubevirt_cdi_import_progress_total{ownerUID=\"u-1\"} 50.00\n")
        );
        progress.tell(7.0);
        assert!(progress.text().ends_with(" 100.00\n"));
    }
}
