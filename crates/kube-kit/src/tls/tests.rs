//! Handshakes over loopback, with certificates made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::{CA_FILE, CERTIFICATE_FILE, ClientTls, KEY_FILE, ServerTls, TlsError};
use crate::certs::{Leaf, Pair, Usage, authority, leaf};

const SERVER: &str = "kubevirt.io:system:node:virt-handler";
const CLIENT: &str = "kubevirt.io:system:client:virt-handler";

fn ca() -> Pair {
    authority(
        "kubevirt.io",
        Timestamp::now(),
        SignedDuration::from_hours(1),
    )
    .unwrap()
}

fn write(dir: &Path, ca: &Pair, name: &str, usage: Usage) {
    let spec = Leaf {
        common_name: name,
        dns_names: &[],
        usage,
    };
    let pair = leaf(ca, &spec, Timestamp::now(), SignedDuration::from_hours(1)).unwrap();
    std::fs::write(dir.join(KEY_FILE), pair.key).unwrap();
    std::fs::write(dir.join(CERTIFICATE_FILE), pair.certificate).unwrap();
    std::fs::write(dir.join(CA_FILE), &ca.certificate).unwrap();
}

/// Connects once; what the server and the client say of it.
async fn meet(
    server: &ServerTls,
    client: &ClientTls,
) -> (Result<(), TlsError>, Result<(), TlsError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async {
        server
            .accept(listener.accept().await.unwrap().0)
            .await
            .map(drop)
    };
    let dialling = async {
        let mut stream = client
            .connect(TcpStream::connect(address).await.unwrap())
            .await?;
        // In TLS 1.3 the client learns of a refusal when it reads.
        match stream.read(&mut [0]).await {
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error.into()),
            _ => Ok(()),
        }
    };
    tokio::join!(serving, dialling)
}

#[tokio::test]
async fn both_sides_prove_their_role() {
    let (dir_s, dir_c) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ca = ca();
    write(dir_s.path(), &ca, SERVER, Usage::Server);
    write(dir_c.path(), &ca, CLIENT, Usage::Client);
    let server = ServerTls::from_dir(dir_s.path(), Some(dir_s.path().into()))
        .unwrap()
        .only_clients([CLIENT]);
    let client = ClientTls::from_dir(dir_c.path(), dir_c.path(), SERVER).unwrap();
    let (served, dialled) = meet(&server, &client).await;
    served.unwrap();
    dialled.unwrap();

    // The wrong role is refused on either side.
    let strict =
        ClientTls::from_dir(dir_c.path(), dir_c.path(), "kubevirt.io:system:node:other").unwrap();
    assert!(meet(&server, &strict).await.1.is_err());
    let choosy = ServerTls::from_dir(dir_s.path(), Some(dir_s.path().into()))
        .unwrap()
        .only_clients(["other"]);
    assert!(matches!(
        meet(&choosy, &client).await.0,
        Err(TlsError::Name { .. })
    ));
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let (dir_s, dir_c) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mine, other) = (ca(), ca());
    write(dir_s.path(), &mine, SERVER, Usage::Server);
    write(dir_c.path(), &other, CLIENT, Usage::Client);
    std::fs::write(dir_c.path().join(CA_FILE), &mine.certificate).unwrap();
    let server = ServerTls::from_dir(dir_s.path(), Some(dir_s.path().into())).unwrap();
    let client = ClientTls::from_dir(dir_c.path(), dir_c.path(), SERVER).unwrap();
    let (served, dialled) = meet(&server, &client).await;
    assert!(served.is_err() && dialled.is_err());
}

#[tokio::test]
async fn replaced_files_are_used_and_bad_ones_are_not() {
    let (dir_s, dir_c) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (ca(), ca());
    write(dir_s.path(), &first, SERVER, Usage::Server);
    write(dir_c.path(), &first, CLIENT, Usage::Client);
    let server = Arc::new(ServerTls::from_dir(dir_s.path(), Some(dir_s.path().into())).unwrap());
    let client = ClientTls::from_dir(dir_c.path(), dir_c.path(), SERVER).unwrap();

    write(dir_s.path(), &second, SERVER, Usage::Server);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(
        meet(&server, &client).await.0.is_err(),
        "the server has moved on, the client has not"
    );
    write(dir_c.path(), &second, CLIENT, Usage::Client);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    meet(&server, &client).await.0.unwrap();

    std::fs::write(dir_s.path().join(CERTIFICATE_FILE), "junk").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    meet(&server, &client).await.0.unwrap();
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = ServerTls::from_dir(dir.path(), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("tls.crt"), "{error}");
}
