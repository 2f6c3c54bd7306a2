//! The importer against a server that has every fault, and the upload server over mutual TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use server::{Answer, Fault, serve};

fn run(main: fn(Vec<OsString>) -> ExitCode, dir: &Path, words: &[&str]) -> (bool, Value) {
    let log = dir.join("end");
    let args = words
        .iter()
        .map(|word| word.replace("DIR", &dir.display().to_string()))
        .chain(["--termination-log".to_owned(), log.display().to_string()])
        .map(OsString::from)
        .collect();
    let code = main(args);
    let text = std::fs::read_to_string(&log).unwrap_or_else(|_| "null".to_owned());
    (
        format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS),
        serde_json::from_str(&text).unwrap(),
    )
}

fn import(url: &str, more: &[&str]) -> (bool, Value, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut words = vec![
        "--source",
        "http",
        "--endpoint",
        url,
        "--target",
        "DIR/disk.img",
        "--size",
        "8388608",
        "--backoff-millis",
        "1",
    ];
    words.extend(more);
    let (good, end) = run(super::importer, dir.path(), &words);
    (good, end, dir)
}

fn disk() -> Vec<u8> {
    (0..5_000_000u32)
        .map(|i| {
            if i / 100_000 % 3 == 0 {
                0
            } else {
                (i / 11) as u8
            }
        })
        .collect()
}

fn check(dir: &TempDir, disk: &[u8]) {
    let mut read = std::fs::read(dir.path().join("disk.img")).unwrap();
    assert_eq!(read.len(), 8 << 20);
    assert!(read.split_off(disk.len()).iter().all(|b| *b == 0));
    assert!(read == disk);
}

#[test]
fn a_source_that_is_busy_or_breaks_is_taken_up_again() {
    let sum = "sha256:a".to_owned() + &"0".repeat(63);
    for (name, fault) in [
        ("good", (|_| Answer::Good) as Fault),
        ("busy", |n| {
            if n % 2 == 0 {
                Answer::Busy
            } else {
                Answer::Good
            }
        }),
        ("halves", |n| {
            if n % 2 == 1 {
                Answer::Half
            } else {
                Answer::Good
            }
        }),
        ("no ranges", |_| Answer::Whole),
        ("no ranges and breaks once", |n| {
            if n == 1 {
                Answer::WholeHalf
            } else {
                Answer::Whole
            }
        }),
    ] {
        let server = serve(disk(), fault);
        let (good, end, dir) = import(&server.url, &[]);
        assert!(good, "{name}: {end}");
        assert_eq!(end["message"], "Import Complete");
        assert_eq!(end["virtualSize"], 5_000_000);
        check(&dir, &disk());
        let (good, end, _) = import(&server.url, &["--checksum", &sum]);
        assert!(!good && end["permanent"] == true, "{name}: {end}");
        assert!(end["error"].as_str().unwrap().contains("checksum mismatch"));
    }
}

#[test]
fn a_source_that_changes_midway_is_never_a_disk() {
    let server = serve(
        disk(),
        |n| if n < 2 { Answer::Good } else { Answer::Changed },
    );
    let (good, end, _) = import(&server.url, &[]);
    assert!(!good && end["permanent"] == false, "{end}");
    assert!(
        end["error"]
            .as_str()
            .unwrap()
            .contains("changed while it was read"),
        "{end}"
    );
    let asked = server.asked.lock().unwrap();
    assert!(asked[1].contains("if-range: \"1\""), "{}", asked[1]);
}

#[test]
fn a_source_that_stays_away_is_told_with_its_status() {
    for (fault, text) in [
        ((|_| Answer::Busy) as Fault, "503"),
        (|_| Answer::Denied, "404 Not Found: look at the path"),
    ] {
        let server = serve(disk(), fault);
        let (good, end, _) = import(&server.url, &[]);
        assert!(!good && end["permanent"] == false);
        assert!(end["error"].as_str().unwrap().contains(text), "{end}");
    }
}

#[test]
fn credentials_and_headers_are_sent() {
    let server = serve(disk(), |_| Answer::Good);
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("accessKeyId"), "user\n").unwrap();
    std::fs::write(secret.path().join("secretKey"), "pass").unwrap();
    std::fs::write(secret.path().join("headers"), "X-Token: t\n").unwrap();
    let path = |name: &str| secret.path().join(name).display().to_string();
    let (good, ..) = import(
        &server.url,
        &[
            "--secret-dir",
            &path(""),
            "--header-file",
            &path("headers"),
            "--header",
            "X-Other: o",
        ],
    );
    assert!(good);
    let first = server.asked.lock().unwrap()[0].clone();
    for line in [
        "authorization: basic dxnlcjpwyxnz",
        "x-token: t",
        "x-other: o",
    ] {
        assert!(first.contains(line), "{first}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (good, _) = run(
        super::importer,
        dir.path(),
        &[
            "--source",
            "s3",
            "--endpoint",
            &server.url,
            "--secret-dir",
            &path(""),
            "--target",
            "DIR/disk.img",
            "--size",
            "8388608",
        ],
    );
    assert!(good);
    check(&dir, &disk());
    let last = server.asked.lock().unwrap().last().unwrap().clone();
    assert!(
        last.contains("authorization: aws4-hmac-sha256 credential=user/"),
        "{last}"
    );
}

/// A server that sends everybody elsewhere.
fn redirect(to: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/here", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 0 {
                if line == "\r\n" && stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
                line.clear();
            }
        }
    });
    url
}

#[test]
fn secrets_stay_with_the_host_that_was_asked() {
    let server = serve(disk(), |_| Answer::Good);
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("accessKeyId"), "user").unwrap();
    std::fs::write(secret.path().join("secretKey"), "pass").unwrap();
    let dir = secret.path().display().to_string();
    let more = ["--secret-dir", &dir, "--header", "X-Token: t"];
    let (good, end, _) = import(&redirect(&server.url), &more);
    assert!(good, "{end}");
    for asked in server.asked.lock().unwrap().iter() {
        assert!(
            !asked.contains("authorization") && !asked.contains("x-token"),
            "{asked}"
        );
        assert!(asked.contains("range: bytes="), "{asked}");
    }
    for nowhere in ["file:///etc/passwd", "ftp://h/disk.img"] {
        let (good, end, _) = import(&redirect(nowhere), &[]);
        let error = end["error"].as_str().unwrap();
        assert!(!good && error.contains("found 302 Found"), "{error}");
    }
}

/// A server of TLS whose certificate is for another name and of an authority of its own; counts
/// who came, and gives the directory with the authority.
fn tls() -> (u16, TempDir, Arc<AtomicUsize>) {
    let authority = crate::testing::authority();
    let usage = kube_kit::certs::Usage::Server;
    let dir = crate::testing::certificate(&authority, "right.svc", usage);
    let config = kube_kit::tls::ServerTls::from_dir(dir.path(), None)
        .unwrap()
        .config();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            seen.fetch_add(1, Ordering::SeqCst);
            let mut connection =
                tokio_rustls::rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let _ = connection.complete_io(&mut stream.unwrap());
        }
    });
    std::fs::remove_file(dir.path().join("tls.key")).unwrap();
    (port, dir, count)
}

#[test]
fn a_certificate_that_is_not_accepted_is_told_at_once() {
    let (port, dir, count) = tls();
    let url = format!("https://localhost:{port}/disk.img");
    let (good, end, _) = import(&url, &[]);
    let error = end["error"].as_str().unwrap();
    assert!(!good && end["permanent"] == false, "{end}");
    assert!(
        error.contains("the server's certificate is not accepted: UnknownIssuer: put its"),
        "{error}"
    );
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let (_, end, _) = import(&url, &["--ca-dir", &dir.path().display().to_string()]);
    let error = end["error"].as_str().unwrap();
    assert!(
        error.contains("not accepted") && error.contains("not valid for name \"localhost\""),
        "{error}"
    );
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn who_cannot_be_reached_is_told_by_name() {
    for (url, why) in [
        (
            "http://nobody.invalid/disk.img",
            "GET http://nobody.invalid/disk.img: ",
        ),
        (
            "http://127.0.0.1:1/disk.img",
            "GET http://127.0.0.1:1/disk.img: ",
        ),
    ] {
        let (good, end, _) = import(url, &[]);
        let error = end["error"].as_str().unwrap();
        assert!(!good && end["permanent"] == false, "{end}");
        let said = error.strip_prefix(why).unwrap_or_default();
        assert!(
            said.contains("efused") || said.contains("ame") || said.contains("host"),
            "{error}"
        );
    }
}

#[test]
fn a_disk_too_large_fails_for_good_with_upstreams_words() {
    let server = serve(vec![1; 9 << 20], |_| Answer::Good);
    let (good, end, _) = import(&server.url, &[]);
    assert!(!good && end["permanent"] == true);
    assert!(
        end["error"]
            .as_str()
            .unwrap()
            .contains("A larger PVC is required"),
        "{end}"
    );
}

#[test]
fn blank_disks_and_clones_are_made() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("source.img"), disk()).unwrap();
    let (good, end) = run(
        super::cloner,
        dir.path(),
        &[
            "--from",
            "DIR/source.img",
            "--target",
            "DIR/disk.img",
            "--size",
            "8388608",
        ],
    );
    assert!(good && end["message"] == "Clone Complete", "{end}");
    check(&dir, &disk());
    let (good, _) = run(
        super::importer,
        dir.path(),
        &[
            "--source",
            "blank",
            "--target",
            "DIR/disk.img",
            "--size",
            "8388608",
        ],
    );
    assert!(good);
    check(&dir, &[]);
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir_all(from.join("a/b")).unwrap();
    std::fs::create_dir(&to).unwrap();
    std::fs::write(from.join("a/b/f"), "text").unwrap();
    let (good, end) = run(
        super::cloner,
        dir.path(),
        &[
            "--from",
            "DIR/from",
            "--target",
            "DIR/to",
            "--content-type",
            "archive",
        ],
    );
    assert!(good, "{end}");
    assert_eq!(std::fs::read_to_string(to.join("a/b/f")).unwrap(), "text");
}

#[test]
fn arguments_nobody_knows_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        vec!["--source", "ftp", "--endpoint", "x", "--target", "DIR/x"],
        vec!["--source", "http", "--target", "DIR/x"],
        vec!["--source", "blank", "--target", "DIR/x", "--bogus"],
    ] {
        assert!(!run(super::importer, dir.path(), &words).0);
    }
}

/// A container image with a disk, in a registry that wants a token.
#[test]
fn a_registrys_disk_is_found_and_its_digest_verified() {
    let mut layer = tar::Builder::new(Vec::new());
    let disk = disk();
    for (name, bytes) in [("etc/x", &b"x"[..]), ("disk/disk.img", &disk)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        layer.append_data(&mut header, name, bytes).unwrap();
    }
    let layer = layer.into_inner().unwrap();
    for honest in [true, false] {
        let digest = if honest {
            oci::Digest::of(&layer).to_string()
        } else {
            format!("sha256:{}", "0".repeat(64))
        };
        let manifest = format!(
            "{{\"schemaVersion\":2,\"layers\":[{{\"digest\":\"{digest}\",\"size\":{}}}]}}",
            layer.len()
        );
        let wanted = manifest.clone();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let layer = layer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 8192];
                let n = stream.read(&mut buffer).unwrap();
                let head = String::from_utf8_lossy(&buffer[..n]).into_owned();
                let (status, body): (String, &[u8]) = if head.starts_with("GET /token") {
                    ("200 OK".to_owned(), b"{\"token\":\"secret\"}")
                } else if !head.contains("Bearer secret") {
                    let realm = format!("http://{address}/token");
                    (
                        format!(
                            "401 No\r\nwww-authenticate: Bearer realm=\"{realm}\",service=\"s\""
                        ),
                        b"",
                    )
                } else if head.contains("/manifests/v1") {
                    ("200 OK".to_owned(), manifest.as_bytes())
                } else {
                    ("200 OK".to_owned(), &layer)
                };
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(body);
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let endpoint = format!("docker://{address}/a/b:v1");
        // What a cron asks is the manifest's digest, whatever the layers are.
        let log = dir.path().join("look");
        let look = [
            "poll",
            "--source",
            "registry",
            "--endpoint",
            &endpoint,
            "--insecure",
        ];
        let mut look: Vec<OsString> = look.map(OsString::from).into();
        look.extend(["--termination-log".into(), log.clone().into()]);
        assert_eq!(super::importer(look), ExitCode::SUCCESS);
        let said: Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
        let expected = oci::Digest::of(wanted.as_bytes()).to_string();
        assert_eq!(said["digest"], expected.as_str(), "{said}");
        let (good, end) = run(
            super::importer,
            dir.path(),
            &[
                "--source",
                "registry",
                "--endpoint",
                &endpoint,
                "--insecure",
                "--target",
                "DIR/disk.img",
                "--size",
                "8388608",
                "--backoff-millis",
                "1",
            ],
        );
        assert_eq!(good, honest, "{end}");
        if honest {
            check(&dir, &disk);
        } else {
            assert!(
                end["error"]
                    .as_str()
                    .unwrap()
                    .contains("expected that digest"),
                "{end}"
            );
        }
    }
}
