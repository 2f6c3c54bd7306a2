//! The connection to a claim's upload server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use hyper::body::{Body, Bytes, Incoming};
use hyper_util::rt::TokioIo;
use kube_kit::tls::{ClientTls, TlsError};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::passage::Passage;

/// A ready pod's service may take a moment until it leads there.
const CONNECT: Duration = Duration::from_secs(10);
/// One try of it.
const TRY: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// What belongs to one connection and not to the request (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// Where upload servers are.
pub(super) struct Servers {
    tls: ClientTls,
    /// The address to dial for `host:port`.
    address: Arc<dyn Fn(&str) -> String + Send + Sync>,
}

/// Why an upload did not reach its server, or its answer us.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("cannot reach the upload server {host}: {source}")]
    Connect {
        host: String,
        source: std::io::Error,
    },
    #[error("the upload server {host} does not prove who it is, or does not believe us: {source}")]
    Tls { host: String, source: TlsError },
    #[error("the upload server {host} broke the connection: {reason}")]
    Broken { host: String, reason: String },
    #[error("a header cannot be passed on: {0}")]
    Header(#[from] http::Error),
}

impl Servers {
    pub(super) fn new(tls: ClientTls) -> Self {
        Self {
            tls,
            address: Arc::new(str::to_owned),
        }
    }

    /// Servers that are all behind one address.
    #[cfg(test)]
    pub(super) fn at(tls: ClientTls, address: std::net::SocketAddr) -> Self {
        Self {
            tls,
            address: Arc::new(move |_| address.to_string()),
        }
    }

    /// Sends a request on to `path` of the server at `host` and gives its answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn send<B>(
        &self,
        host: &str,
        path: &str,
        request: Request<B>,
    ) -> Result<Response<Incoming>, Failed>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let authority = format!("{host}:{}", api::cdi::names::UPLOAD_PORT);
        let mut out = Request::builder()
            .method(parts.method)
            .uri(Uri::try_from(path).map_err(http::Error::from)?)
            .header(
                header::HOST,
                HeaderValue::try_from(&authority).map_err(http::Error::from)?,
            )
            .body(Passage::new(body))?;
        out.headers_mut().extend(end_to_end(parts.headers));
        let broken = |error: hyper::Error| Failed::Broken {
            host: host.to_owned(),
            reason: chain(&error),
        };
        let stream = self.connect(host, &authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(256 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection to an upload server ended: {error}");
            }
        });
        sender.send_request(out).await.map_err(broken)
    }

    async fn connect(&self, host: &str, authority: &str) -> Result<TlsStream<TcpStream>, Failed> {
        let address = (self.address)(authority);
        let stream = patiently(|| TcpStream::connect(&address))
            .await
            .and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(stream)
            })
            .map_err(|source| Failed::Connect {
                host: host.to_owned(),
                source,
            })?;
        self.tls
            .connect_host(host, stream)
            .await
            .map_err(|source| Failed::Tls {
                host: host.to_owned(),
                source,
            })
    }
}

/// Tries again until it works or ten seconds are over.
async fn patiently<F, T>(attempt: impl Fn() -> F) -> std::io::Result<T>
where
    F: Future<Output = std::io::Result<T>>,
{
    let until = Instant::now() + CONNECT;
    loop {
        let error = match tokio::time::timeout(TRY, attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error,
            Err(_) => std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "no answer; does a network policy keep cdi-uploadproxy from the namespace's \
                 upload pods?",
            ),
        };
        if Instant::now() + PAUSE >= until {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What of a client's headers goes on. The token does not: the server knows us by our
/// certificate.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in named.iter().filter(|name| !name.is_empty()) {
        headers.remove(name.as_str());
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // How the body is framed, and when it may be sent, is each connection's own matter.
    // Its length is not: a server tells by it whether an upload is whole.
    for name in [
        header::TRANSFER_ENCODING,
        header::EXPECT,
        header::HOST,
        header::AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    headers
}

/// Headers of the server's answer that go on to the client.
pub(super) fn answer_headers(headers: HeaderMap) -> HeaderMap {
    let mut headers = end_to_end(headers);
    headers.remove(header::DATE);
    headers
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_of_the_connection_and_the_token_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-length", "5"),
            ("content-type", "application/octet-stream"),
            ("x-cdi-content-type", "blockdevice-clone"),
            ("upload-offset", "7"),
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("authorization", "Bearer t"),
            ("host", "proxy"),
        ] {
            headers.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        let mut left: Vec<String> = end_to_end(headers)
            .keys()
            .map(|name| name.as_str().to_owned())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "content-length",
                "content-type",
                "upload-offset",
                "x-cdi-content-type"
            ]
        );
    }
}
