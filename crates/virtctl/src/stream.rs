//! A websocket through the API server to a VM's stream.
//!
//! The client library's own websockets speak other subprotocols, so the
//! handshake (RFC 6455, section 4.1) is ours.

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::cluster::{Cluster, refusal};

/// Bytes in a message (upstream's size of buffers).
const BUFFER: usize = 10 * 1024;

/// The writing half of a stream.
pub(crate) struct Sender(SplitSink<WebSocketStream<TokioIo<Upgraded>>, Message>);

/// The reading half of a stream.
pub(crate) struct Receiver(SplitStream<WebSocketStream<TokioIo<Upgraded>>>);

/// Why a stream ended in the middle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// Without a farewell: the guest is gone, or another took the console.
    #[error("websocket: close 1006 (abnormal closure): unexpected EOF")]
    Abnormal,
    /// The server said why.
    #[error("websocket: close {code}{reason}")]
    Closed {
        /// Close code of RFC 6455.
        code: u16,
        /// Its words, after a colon.
        reason: String,
    },
    /// The connection failed.
    #[error("websocket: {0}")]
    Failed(Error),
}

/// Opens the stream at `path` (with query).
///
/// # Errors
/// A [`crate::cluster::Refusal`] when the server does not switch protocols.
pub(crate) async fn open(cluster: &Cluster, path: &str) -> anyhow::Result<(Sender, Receiver)> {
    let key = generate_key();
    let request = Request::get(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .header(
            header::SEC_WEBSOCKET_PROTOCOL,
            api::names::PLAIN_STREAM_PROTOCOL,
        )
        .body(Body::empty())?;
    let answer = cluster.client.send(request).await?;
    let code = answer.status();
    if code != StatusCode::SWITCHING_PROTOCOLS {
        let body = answer.into_body().collect_bytes().await?;
        return Err(refusal(code, &body).into());
    }
    let accept = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
    {
        anyhow::bail!(
            "expected an answer to our websocket handshake, found another one's; is a proxy in between?"
        );
    }
    let io = TokioIo::new(hyper::upgrade::on(answer).await?);
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    let (sender, receiver) = socket.split();
    Ok((Sender(sender), Receiver(receiver)))
}

impl Sender {
    /// Sends bytes in one binary message.
    pub(crate) async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Broken> {
        self.0
            .send(Message::Binary(Bytes::from(bytes)))
            .await
            .map_err(broken)
    }

    /// Says farewell; that the other side is gone already is no error.
    pub(crate) async fn close(&mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = self.0.send(Message::Close(Some(frame))).await;
    }
}

impl Receiver {
    /// The next bytes; `None` after a farewell.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
                Some(Ok(Message::Close(frame))) => return farewell(frame.as_ref()),
                // Text is dropped, as upstream does; pings are answered below us.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(Broken::Abnormal),
            }
        }
    }
}

/// Carries bytes both ways until either side ends.
///
/// # Errors
/// When either side fails, or the stream ends without a farewell.
pub(crate) async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut sender: Sender,
    mut receiver: Receiver,
) -> anyhow::Result<()> {
    let down = async {
        while let Some(bytes) = receiver.next().await? {
            to.write_all(&bytes).await?;
        }
        to.shutdown().await?;
        anyhow::Ok(())
    };
    let up = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                sender.close().await;
                return anyhow::Ok(());
            }
            sender.send(buffer[..length].to_vec()).await?;
        }
    };
    tokio::select! {
        ended = down => ended,
        ended = up => ended,
    }
}

fn farewell(frame: Option<&CloseFrame>) -> Result<Option<Bytes>, Broken> {
    match frame {
        Some(frame) if frame.code == CloseCode::Normal => Ok(None),
        Some(frame) => Err(Broken::Closed {
            code: frame.code.into(),
            reason: format!(": {}", frame.reason),
        }),
        // RFC 6455, section 7.1.5: a close frame without a code is 1005.
        None => Err(Broken::Closed {
            code: 1005,
            reason: " (no status)".to_owned(),
        }),
    }
}

fn broken(error: Error) -> Broken {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Broken::Abnormal,
        Error::Io(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::BrokenPipe
            ) =>
        {
            Broken::Abnormal
        }
        error => Broken::Failed(error),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::Response;
    use http_body_util::Full;
    use hyper::body::Incoming;

    /// A cluster that refuses with these codes, in order, and then echoes.
    /// Gives the paths that were asked for, too.
    pub(crate) async fn cluster(refusals: &[u16]) -> (Cluster, Arc<Mutex<Vec<String>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let refusals = Arc::new(Mutex::new(refusals.to_vec()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let (refusals, seen) = (Arc::clone(&refusals), Arc::clone(&seen));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    seen.lock().unwrap().push(request.uri().to_string());
                    let mut left = refusals.lock().unwrap();
                    let refusal = (!left.is_empty()).then(|| left.remove(0));
                    async move { Ok::<_, Infallible>(answer(request, refusal)) }
                });
                let server = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(connection), service)
                    .with_upgrades();
                tokio::spawn(server);
            }
        });
        let config = kube::Config::new(url.parse().unwrap());
        let client = kube::Client::try_from(config).unwrap();
        let namespace = "ns".to_owned();
        (Cluster { client, namespace }, asked)
    }

    fn answer(
        mut request: Request<Incoming>,
        refusal: Option<u16>,
    ) -> Response<Full<hyper::body::Bytes>> {
        let mut answer = Response::new(Full::default());
        if let Some(code) = refusal {
            *answer.status_mut() = StatusCode::from_u16(code).unwrap();
            *answer.body_mut() = Full::new(r#"{"kind":"Status","message":"not now"}"#.into());
            return answer;
        }
        let headers = request.headers();
        assert_eq!(headers["sec-websocket-protocol"], "plain.kubevirt.io");
        let accept = derive_accept_key(headers["sec-websocket-key"].as_bytes());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", accept.as_str()),
        ] {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        tokio::spawn(async move {
            let io = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
            let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                match message {
                    Message::Binary(bytes) if bytes == "hang up" => return,
                    Message::Binary(bytes) => socket.send(Message::Binary(bytes)).await.unwrap(),
                    // A farewell is answered when we read on.
                    _ => {}
                }
            }
        });
        answer
    }

    #[tokio::test]
    async fn a_stream_carries_bytes_and_tells_a_farewell_from_a_breakdown() {
        let (cluster, asked) = cluster(&[]).await;
        let (mut sender, mut receiver) = open(&cluster, "/some/path?a=b").await.unwrap();
        sender.send(b"hello".to_vec()).await.unwrap();
        assert_eq!(receiver.next().await.unwrap().unwrap(), "hello");
        sender.close().await;
        assert!(matches!(receiver.next().await, Ok(None)));
        let (mut sender, mut receiver) = open(&cluster, "/other").await.unwrap();
        sender.send(b"hang up".to_vec()).await.unwrap();
        assert!(matches!(receiver.next().await, Err(Broken::Abnormal)));
        assert_eq!(*asked.lock().unwrap(), ["/some/path?a=b", "/other"]);
    }

    #[tokio::test]
    async fn bytes_are_carried_both_ways_until_the_local_side_ends() {
        let (cluster, _) = cluster(&[]).await;
        let (sender, receiver) = open(&cluster, "/path").await.unwrap();
        let (ours, theirs) = tokio::io::duplex(64);
        let (from, to) = tokio::io::split(theirs);
        let carried = tokio::spawn(carry(from, to, sender, receiver));
        let (mut reader, mut writer) = tokio::io::split(ours);
        let sent = vec![7; 3 * BUFFER];
        let expected = sent.clone();
        let write = tokio::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer
        });
        let mut got = vec![0; expected.len()];
        let _ = reader.read_exact(&mut got).await.unwrap();
        assert_eq!(got, expected);
        write.await.unwrap().shutdown().await.unwrap();
        carried.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_its_code_and_words() {
        let (cluster, _) = cluster(&[409]).await;
        let Err(error) = open(&cluster, "/path").await else {
            panic!("opened");
        };
        let refusal: &crate::cluster::Refusal = error.downcast_ref().unwrap();
        assert_eq!((refusal.code, refusal.message.as_str()), (409, "not now"));
    }
}
