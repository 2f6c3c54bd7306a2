//! Asks a worker how far it is.

use std::net::IpAddr;
use std::time::Duration;

use api::cdi::names::{METRICS_PORT, PROGRESS_METRIC};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A worker that does not answer in this time is busy; the next look is soon.
const PATIENCE: Duration = Duration::from_millis(800);
/// An answer is a few lines.
const LONGEST: u64 = 16 << 10;

/// Percent of its work that the worker at `address` has done, if it says so.
pub(super) async fn progress(address: &str) -> Option<f64> {
    let address: IpAddr = address.parse().ok()?;
    tokio::time::timeout(PATIENCE, ask(address)).await.ok()?
}

async fn ask(address: IpAddr) -> Option<f64> {
    let mut stream = TcpStream::connect((address, METRICS_PORT)).await.ok()?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream
        .take(LONGEST)
        .read_to_string(&mut answer)
        .await
        .ok()?;
    read(&answer)
}

/// The number behind the metric in an answer.
fn read(answer: &str) -> Option<f64> {
    answer
        .lines()
        .find(|line| line.starts_with(PROGRESS_METRIC))
        .and_then(|line| line.rsplit(' ').next()?.trim().parse().ok())
        .filter(|percent: &f64| percent.is_finite())
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_number_is_found_among_other_lines() {
        let answer = "HTTP/1.1 200 OK\r\n\r\n# TYPE kubevirt_cdi_import_progress_total counter\n\
                      kubevirt_cdi_import_progress_total{ownerUID=\"a\"} 12.50\n";
        assert_eq!(read(answer), Some(12.5));
        assert_eq!(read("HTTP/1.1 404 Not Found\r\n\r\n"), None);
        assert_eq!(read("kubevirt_cdi_import_progress_total{} NaN"), None);
    }
}
