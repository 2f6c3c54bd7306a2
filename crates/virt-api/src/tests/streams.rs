//! Requests that become streams, with a real websocket client.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::world::{World, front_proxy, handler, vm, vmi};

/// A websocket to `path`, opened as the front proxy would.
async fn connect(world: &World, path: &str) -> WebSocketStream<DuplexStream> {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let app = Arc::clone(&world.app);
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(front_proxy());
            let app = Arc::clone(&app);
            async move { Ok::<_, std::convert::Infallible>(app.answer(request).await) }
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(server), service)
            .with_upgrades()
            .await
            .unwrap();
    });
    let mut request = format!("ws://virt-api{path}")
        .into_client_request()
        .unwrap();
    for (name, value) in [
        ("x-remote-user", "alice"),
        ("x-remote-group", "dev"),
        ("sec-websocket-protocol", "plain.kubevirt.io"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (socket, answer) = tokio_tungstenite::client_async(request, client)
        .await
        .unwrap();
    assert_eq!(
        answer.headers()["sec-websocket-protocol"],
        "plain.kubevirt.io"
    );
    socket
}

const VMI: &str = "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachineinstances/x";

#[tokio::test]
async fn console_and_vnc_carry_frames_untouched_until_the_node_ends_them() {
    let (world, heard) = handler(None).await;
    let world = world.with("virtualmachineinstances", vmi("Running"));
    for path in ["console", "vnc?preserveSession=true"] {
        let mut socket = connect(&world, &format!("{VMI}/{path}")).await;
        socket
            .send(Message::Binary(Bytes::from_static(b"login: ")))
            .await
            .unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::Binary(Bytes::from_static(b"login: "))
        );
        socket
            .send(Message::Binary(Bytes::from_static(b"bye")))
            .await
            .unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    }
    assert_eq!(
        *heard.lock().unwrap(),
        [
            "GET /v1/namespaces/ns/virtualmachineinstances/x/console",
            "GET /v1/namespaces/ns/virtualmachineinstances/x/vnc?preserveSession=true",
        ]
    );
}

#[tokio::test]
async fn port_forward_carries_bytes_to_the_guest_and_back() {
    let guest = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = guest.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = guest.accept().await.unwrap();
        let mut buffer = [0; 5];
        stream.read_exact(&mut buffer).await.unwrap();
        stream.write_all(b"pong!").await.unwrap();
    });
    let world = World::new(1)
        .with("virtualmachines", vm("Always"))
        .with("virtualmachineinstances", vmi("Running"));
    let path = format!(
        "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachines/x/portforward/{port}/tcp"
    );
    let mut socket = connect(&world, &path).await;
    socket
        .send(Message::Binary(Bytes::from_static(b"ping!")))
        .await
        .unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Binary(Bytes::from_static(b"pong!"))
    );
    // The guest closed: so does the tunnel, politely.
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    let mut metrics = String::new();
    drop(socket);
    for _ in 0..100 {
        metrics.clear();
        world.app.sessions.render(&mut metrics);
        if !metrics.contains("vmi=\"x\"") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the tunnel is still counted: {metrics}");
}

#[tokio::test]
async fn port_forward_carries_datagrams() {
    let guest = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = guest.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        let (length, from) = guest.recv_from(&mut buffer).await.unwrap();
        guest.send_to(&buffer[..length], from).await.unwrap();
    });
    let world = World::new(1).with("virtualmachineinstances", vmi("Running"));
    let mut socket = connect(&world, &format!("{VMI}/portforward/{port}/udp")).await;
    socket
        .send(Message::Binary(Bytes::from_static(b"dgram")))
        .await
        .unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Binary(Bytes::from_static(b"dgram"))
    );
}
