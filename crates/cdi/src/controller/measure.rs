//! Asks a worker how far it is.

use std::net::IpAddr;
use std::time::Duration;

use api::cdi::names::{METRICS_PORT, PROGRESS_METRIC, RETRY_METRIC};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A worker that does not answer in this time is busy; the next look is soon.
const PATIENCE: Duration = Duration::from_millis(800);
/// An answer is a few lines.
const LONGEST: u64 = 16 << 10;

/// What a worker tells of its work.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// How much of it is done.
    pub(super) percent: Option<f64>,
    /// Why it stands still for now.
    pub(super) retrying: Option<String>,
}

/// What the worker at `address` tells, if it answers.
pub(super) async fn ask_worker(address: &str) -> Option<Told> {
    let address: IpAddr = address.parse().ok()?;
    tokio::time::timeout(PATIENCE, ask(address)).await.ok()?
}

async fn ask(address: IpAddr) -> Option<Told> {
    let mut stream = TcpStream::connect((address, METRICS_PORT)).await.ok()?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream
        .take(LONGEST)
        .read_to_string(&mut answer)
        .await
        .ok()?;
    Some(read(&answer))
}

/// What the metrics in an answer say.
fn read(answer: &str) -> Told {
    let line = |metric| answer.lines().find(|line| line.starts_with(metric));
    let retrying = line(RETRY_METRIC)
        .and_then(|line| line.split_once("{reason=\""))
        .and_then(|(_, rest)| rest.split_once("\"}"))
        .map(|(reason, _)| reason.to_owned());
    Told {
        percent: line(PROGRESS_METRIC)
            .and_then(|line| line.rsplit(' ').next()?.trim().parse().ok())
            .filter(|percent: &f64| percent.is_finite()),
        retrying,
    }
}

#[cfg(test)]
mod tests {
    use super::{Told, read};

    #[test]
    fn the_reason_of_a_failure_is_found_beside_the_number() {
        let answer = "edgevirt_cdi_import_retrying{reason=\"GET http://h/a: host not found\"} 1\n\
                      kubevirt_cdi_import_progress_total{ownerUID=\"a\"} 0.00\n";
        assert_eq!(
            read(answer),
            Told {
                percent: Some(0.0),
                retrying: Some("GET http://h/a: host not found".to_owned()),
            }
        );
    }

    #[test]
    fn the_number_is_found_among_other_lines() {
        let answer = "HTTP/1.1 200 OK\r\n\r\n# TYPE kubevirt_cdi_import_progress_total counter\n\
                      kubevirt_cdi_import_progress_total{ownerUID=\"a\"} 12.50\n";
        assert_eq!(read(answer).percent, Some(12.5));
        assert_eq!(read("HTTP/1.1 404 Not Found\r\n\r\n"), Told::default());
        assert_eq!(
            read("kubevirt_cdi_import_progress_total{} NaN").percent,
            None
        );
    }
}
