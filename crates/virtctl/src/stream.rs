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
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::cluster::{Cluster, refusal};

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
