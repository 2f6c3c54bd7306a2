//! portforward: a websocket of binary messages on the client's side, a TCP or
//! UDP connection to the guest's address on the other.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use decide::subresource::{self as decision, Refusal};
use futures::{SinkExt, StreamExt};
use http::Request;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode,
};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::answer::Answer;
use crate::app::App;
use crate::catalog::Resource;
use crate::router::Target;
use crate::websocket::Handshake;

/// Bytes in one message, upstream's buffer.
const BUFFER: usize = 10 * 1024;
/// Larger messages of a client are refused.
const LARGEST: usize = 4 << 20;
/// Time to open the connection to the guest.
const DIAL: Duration = Duration::from_secs(30);
/// Between pings; a fifth of what upstream sends, for the same end.
const PING: Duration = Duration::from_secs(5);
/// A client that does not answer pings for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// The connection to the guest.
enum Guest {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

pub(crate) async fn serve<B>(
    app: &Arc<App>,
    target: &Target<'_>,
    mut request: Request<B>,
) -> Result<Answer, Refusal> {
    let vmi = instance(app, target).await?;
    let address = decision::port_forward(&vmi)?;
    let port = target.rest.first().copied().unwrap_or_default();
    let protocol = target.rest.get(1).copied().unwrap_or("tcp");
    let guest = dial(address, port, protocol).await?;
    let handshake = Handshake::read(request.headers())?;
    let session = app.sessions.tunnel(target.namespace, target.name);
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match client.await {
            Ok(client) => tunnel(client, guest).await,
            Err(error) => tracing::debug!("the client did not stay for its tunnel: {error}"),
        }
        drop(session);
    });
    Ok(handshake.answer())
}

async fn instance(app: &App, target: &Target<'_>) -> Result<Value, Refusal> {
    match target.resource {
        Resource::Instance => app.instance(target).await,
        Resource::Machine => {
            let vm = app.machine(target).await?;
            let vmi = app.find(Resource::Instance, target).await?;
            decision::of_machine(&vm, vmi.as_ref()).cloned()
        }
    }
}

async fn dial(address: &str, port: &str, protocol: &str) -> Result<Guest, Refusal> {
    let failed = |why: String| {
        Refusal::internal(format!(
            "dialing VM: dial {protocol} {address}:{port}: {why}"
        ))
    };
    let ip: IpAddr = address
        .parse()
        .map_err(|_| failed("the address is none".to_owned()))?;
    let port: u16 = match port.parse() {
        Ok(port) if port > 0 => port,
        _ => return Err(failed("invalid port".to_owned())),
    };
    let connect = async {
        match protocol {
            "tcp" => TcpStream::connect((ip, port))
                .await
                .map(Guest::Tcp)
                .map_err(|error| failed(error.to_string())),
            "udp" => {
                let any: IpAddr = if ip.is_ipv4() {
                    [0, 0, 0, 0].into()
                } else {
                    [0u16; 8].into()
                };
                let socket = UdpSocket::bind((any, 0))
                    .await
                    .map_err(|error| failed(error.to_string()))?;
                socket
                    .connect((ip, port))
                    .await
                    .map_err(|error| failed(error.to_string()))?;
                Ok(Guest::Udp(socket))
            }
            _ => Err(failed(format!("unknown network {protocol}"))),
        }
    };
    tokio::time::timeout(DIAL, connect)
        .await
        .unwrap_or_else(|_| Err(failed("i/o timeout".to_owned())))
}

async fn tunnel(client: Upgraded, guest: Guest) {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST));
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, Some(config)).await;
    let outcome = match guest {
        Guest::Tcp(stream) => {
            let (reader, writer) = stream.into_split();
            join(socket, Reader::Tcp(reader), Writer::Tcp(writer)).await
        }
        Guest::Udp(datagrams) => {
            let datagrams = Arc::new(datagrams);
            join(
                socket,
                Reader::Udp(Arc::clone(&datagrams)),
                Writer::Udp(datagrams),
            )
            .await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("tunnel ended: {error:#}");
    }
}

enum Reader {
    Tcp(tokio::net::tcp::OwnedReadHalf),
    Udp(Arc<UdpSocket>),
}

enum Writer {
    Tcp(tokio::net::tcp::OwnedWriteHalf),
    Udp(Arc<UdpSocket>),
}

impl Reader {
    async fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer).await,
            Self::Udp(socket) => socket.recv(buffer).await,
        }
    }
}

impl Writer {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Udp(socket) => socket.send(bytes).await.map(|_| ()),
        }
    }
}

/// Carries bytes both ways until either side ends, with pings in between. The
/// two ways do not wait for one another.
async fn join(
    socket: WebSocketStream<TokioIo<Upgraded>>,
    mut reader: Reader,
    mut writer: Writer,
) -> anyhow::Result<()> {
    let (mut sink, mut source) = socket.split();
    let heard = std::sync::Mutex::new(Instant::now());
    let hear = || {
        *heard
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now()
    };
    let silent = || {
        heard
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .elapsed()
            > SILENCE
    };

    let to_guest = async {
        while let Some(message) = source.next().await {
            let message = message?;
            hear();
            match message {
                Message::Binary(bytes) => writer.write(&bytes).await?,
                Message::Close(_) => break,
                // Text is dropped, as upstream does; pings are answered below us.
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    let to_client = async {
        let mut buffer = vec![0; BUFFER];
        let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                read = reader.read(&mut buffer) => {
                    let length = read?;
                    // A datagram may be empty, a stream's end is.
                    if length == 0 && matches!(reader, Reader::Tcp(_)) {
                        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                        sink.send(Message::Close(Some(frame))).await?;
                        break;
                    }
                    sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..length]))).await?;
                }
                _ = ping.tick() => {
                    anyhow::ensure!(!silent(), "the client was silent for {} s", SILENCE.as_secs());
                    sink.send(Message::Ping(Bytes::from_static(b"keep alive"))).await?;
                }
            }
        }
        anyhow::Ok(())
    };
    let (to_guest, to_client) = (pin!(to_guest), pin!(to_client));
    tokio::select! {
        ended = to_guest => ended,
        ended = to_client => ended,
    }
}
