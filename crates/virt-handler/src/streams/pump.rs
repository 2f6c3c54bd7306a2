//! Joins a websocket to a unix socket: binary messages one way, bytes the other.

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Size of messages to the client, bytes; upstream's streams use the same.
const CHUNK: usize = 10240;
/// Longest message from the client, bytes: a paste into a console, no more.
const MAX_MESSAGE: usize = 1 << 20;

/// Pumps both ways until either side ends.
pub(super) async fn join<S>(stream: S, socket: UnixStream)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // The library's own buffers are 128 KiB each: too much for a console.
    let config = WebSocketConfig::default()
        .read_buffer_size(CHUNK)
        .write_buffer_size(0)
        .max_write_buffer_size(CHUNK * 4)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let websocket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut to_client, mut from_client) = websocket.split();
    let (mut from_guest, mut to_guest) = socket.into_split();
    let inward = async {
        while let Some(Ok(message)) = from_client.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => return,
                // Pings are answered by the library when it next writes or reads.
                _ => continue,
            };
            if to_guest.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0_u8; CHUNK];
        while let Ok(count) = from_guest.read(&mut buffer).await {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            if to_client
                .send(Message::Binary(Bytes::copy_from_slice(bytes)))
                .await
                .is_err()
            {
                return;
            }
        }
        // The guest's side ended: say so in the protocol's way.
        let _ = to_client.send(Message::Close(None)).await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_the_end_too() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (handler, mut guest) = UnixStream::pair().unwrap();
        let pump = tokio::spawn(join(server, handler));
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client
            .send(Message::Binary(Bytes::from_static(b"login\n")))
            .await
            .unwrap();
        let mut buffer = [0; 6];
        guest.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"login\n");
        guest.write_all(b"ok").await.unwrap();
        assert_eq!(
            client.next().await.unwrap().unwrap(),
            Message::Binary(Bytes::from_static(b"ok"))
        );
        drop(guest);
        assert!(matches!(
            client.next().await.unwrap().unwrap(),
            Message::Close(_)
        ));
        pump.await.unwrap();
    }
}
