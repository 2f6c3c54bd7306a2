//! From claim to claim over mutual TLS, with all that breaks in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::thread::JoinHandle;

use jiff::{SignedDuration, Timestamp};
use kube_kit::certs::{Leaf, Pair, Usage, leaf};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::testing::{authority, certificate};

const NAME: &str = "clone-u1";

/// The server of one clone, and what it needs.
struct Server {
    dir: TempDir,
    authority: Pair,
    port: u16,
    running: JoinHandle<ExitCode>,
}

impl Server {
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority();
        let names = ["localhost".to_owned()];
        let wanted = Leaf {
            common_name: "server",
            dns_names: &names,
            usage: Usage::Server,
        };
        let life = SignedDuration::from_hours(1);
        let pair = leaf(&authority, &wanted, Timestamp::now(), life).unwrap();
        for (file, text) in [
            ("tls.crt", &pair.certificate),
            ("tls.key", &pair.key),
            ("ca", &authority.certificate),
        ] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let at = dir.path().display();
        let args = format!(
            "--listen 127.0.0.1:{port} --tls-dir {at} --client-ca {at}/ca --client-name {NAME} \
             --clone --termination-log {at}/end {}",
            more.join(" ").replace("DIR", &at.to_string())
        );
        let args = args.split_whitespace().map(OsString::from).collect();
        let running = std::thread::spawn(move || super::super::uploadserver(args));
        Self {
            dir,
            authority,
            port,
            running,
        }
    }

    fn client(&self, name: &str) -> TempDir {
        certificate(&self.authority, name, Usage::Client)
    }

    fn work(&self, from: &Path, archive: bool, tls: &TempDir) -> Work {
        Work {
            from: from.to_owned(),
            archive,
            to: format!("localhost:{}", self.port),
            tls_dir: tls.path().to_owned(),
            progress: Arc::new(Progress::new(String::new(), None)),
        }
    }

    fn end(self) -> (Value, TempDir) {
        let _ = self.running.join().unwrap();
        let text = std::fs::read_to_string(self.dir.path().join("end")).unwrap();
        (serde_json::from_str(&text).unwrap(), self.dir)
    }
}

/// A sparse disk that begins like a qcow2 image.
fn disk(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("source.img");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(32 << 20).unwrap();
    file.write_all_at(b"QFI\xfb\0\0\0\x03", 0).unwrap();
    let bytes: Vec<u8> = (0..6_000_000_u32).map(|i| (i / 7) as u8).collect();
    file.write_all_at(&bytes, 9_000_001).unwrap();
    path
}

/// Tries until the server's answer is heard: it may not listen yet, may still have somebody
/// else's request, and one that refuses while bytes are on their way may be heard to hang up.
async fn patiently(work: &Work) -> Result<u64> {
    let mut last = None;
    for _ in 0..100 {
        match work.attempt().await {
            Err(error)
                if ["refused", "broke", "503"]
                    .iter()
                    .any(|one| error.to_string().contains(one)) =>
            {
                last = Some(error);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
    panic!("the server does not answer: {last:?}");
}

#[tokio::test]
async fn a_disk_arrives_whole_whoever_tried_before() {
    let server = Server::start(&["--target", "DIR/disk.img", "--size", "41943040"]);
    let dir = tempfile::tempdir().unwrap();
    let source = disk(&dir);
    let (own, proxy) = (server.client(NAME), server.client("client.upload-server"));
    // Another client, though its certificate is good, and one that has none of the authority's.
    let error = patiently(&server.work(&source, false, &proxy)).await;
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("401") && !error.is_permanent(),
        "{error}"
    );
    let stranger = certificate(&authority(), NAME, Usage::Client);
    std::fs::write(
        stranger.path().join("ca-bundle.crt"),
        &server.authority.certificate,
    )
    .unwrap();
    assert!(
        server
            .work(&source, false, &stranger)
            .attempt()
            .await
            .is_err()
    );
    // A source that cannot be read: the stream breaks, and is not taken for its end.
    let none = server.work(&dir.path().join("none"), false, &own);
    let error = none.attempt().await.unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
    // Half of the stream, as a killed source pod leaves it.
    let tls = ClientTls::to_hosts(own.path(), own.path().join("ca-bundle.crt")).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", server.port))
        .await
        .unwrap();
    let mut stream = tls.connect_host("localhost", stream).await.unwrap();
    let head = format!(
        "POST {CLONE_PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n8\r\nEVSPARS1\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes())
        .await
        .unwrap();
    drop(stream);
    let sent = patiently(&server.work(&source, false, &own)).await;
    assert_eq!(sent.unwrap(), 32 << 20);
    let (end, kept) = server.end();
    assert_eq!(end["message"], "Clone Complete", "{end}");
    let mut found = std::fs::read(kept.path().join("disk.img")).unwrap();
    let wanted = std::fs::read(&source).unwrap();
    assert!(found.split_off(wanted.len()).iter().all(|byte| *byte == 0));
    assert!(found == wanted);
}

#[tokio::test]
async fn a_disk_that_does_not_fit_is_refused_for_good_on_both_sides() {
    let server = Server::start(&["--target", "DIR/disk.img", "--size", "1048576"]);
    let dir = tempfile::tempdir().unwrap();
    let own = server.client(NAME);
    let error = patiently(&server.work(&disk(&dir), false, &own)).await;
    let error = error.unwrap_err();
    assert!(
        error.is_permanent() && error.to_string().contains("larger"),
        "{error}"
    );
    let (end, _) = server.end();
    assert_eq!(end["permanent"], true, "{end}");
}

#[tokio::test]
async fn a_tree_of_files_arrives_as_one() {
    let server = Server::start(&["--target", "DIR/tree", "--content-type", "archive"]);
    std::fs::create_dir(server.dir.path().join("tree")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("deep")).unwrap();
    std::fs::write(dir.path().join("deep/file"), [7; 300_000]).unwrap();
    let own = server.client(NAME);
    let sent = patiently(&server.work(dir.path(), true, &own)).await;
    assert!(sent.unwrap() > 300_000);
    let (end, kept) = server.end();
    assert_eq!(end["message"], "Clone Complete", "{end}");
    let found = std::fs::read(kept.path().join("tree/deep/file")).unwrap();
    assert!(found == [7; 300_000]);
}
