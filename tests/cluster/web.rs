//! A web server on the node's own address that has what the tests import, and every fault a source can have.
//!
//! It serves as long as the test's process lives.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use kube_kit::certs::{Leaf, Usage, authority, leaf};
use kube_kit::tls::ServerTls;

/// The node's address on its own bridge, under which pods reach the machine.
pub(crate) const HOST: &str = "10.99.0.1";
/// What a rate is kept with: so many pauses a second.
const TICKS: usize = 10;

/// What a request asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// How many requests for the file came before.
    pub(crate) number: usize,
    /// The header `authorization`.
    pub(crate) authorization: Option<String>,
}

/// How it is answered.
#[derive(Clone)]
pub(crate) struct Reply {
    /// 200 gives the file, or the range of it; any other status nothing.
    pub(crate) status: &'static str,
    pub(crate) file: Arc<Vec<u8>>,
    pub(crate) tag: &'static str,
    /// Whether it is given in ranges.
    pub(crate) ranges: bool,
    /// Bytes a second.
    pub(crate) rate: Option<usize>,
    /// Says nothing more after half of the body.
    pub(crate) stalls: bool,
}

impl Reply {
    pub(crate) fn of(file: &Arc<Vec<u8>>) -> Self {
        Self {
            status: "200 OK",
            file: Arc::clone(file),
            tag: "\"1\"",
            ranges: true,
            rate: None,
            stalls: false,
        }
    }

    pub(crate) fn whole(self) -> Self {
        Self {
            ranges: false,
            ..self
        }
    }

    pub(crate) fn status(self, status: &'static str) -> Self {
        Self { status, ..self }
    }
}

type Handler = Box<dyn Fn(&Asked) -> Reply + Send + Sync>;

struct File {
    handler: Handler,
    asked: AtomicUsize,
    sent: AtomicU64,
}

/// Files under `http://10.99.0.1:PORT/NAME`.
pub(crate) struct Web {
    port: u16,
    files: Arc<BTreeMap<String, File>>,
}

/// Collects the files of a [`Web`].
#[derive(Default)]
pub(crate) struct Files(BTreeMap<String, File>);

impl Files {
    /// A file that every request gets.
    pub(crate) fn file(self, name: &str, bytes: Vec<u8>) -> Self {
        let bytes = Arc::new(bytes);
        self.handled(name, move |_| Reply::of(&bytes))
    }

    /// A file whose requests are answered one by one.
    pub(crate) fn handled(
        mut self,
        name: &str,
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let file = File {
            handler: Box::new(handler),
            asked: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
        };
        self.0.insert(name.to_owned(), file);
        self
    }

    pub(crate) fn serve(self) -> Web {
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let files = Arc::new(self.0);
        let served = Arc::clone(&files);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, files) = (stream.unwrap(), Arc::clone(&served));
                std::thread::spawn(move || while connection(&stream, &files) {});
            }
        });
        Web { port, files }
    }
}

impl Web {
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{HOST}:{}/{name}", self.port)
    }

    /// Bytes of the file that were sent, to all clients together.
    pub(crate) fn sent(&self, name: &str) -> u64 {
        self.files[name].sent.load(Ordering::SeqCst)
    }

    /// Requests for the file.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.files[name].asked.load(Ordering::SeqCst)
    }

    /// The same files over TLS, by the name `host`.
    pub(crate) fn over_tls(&self, host: &str) -> Front {
        let dir = tempfile::tempdir().unwrap();
        let ca = certificates(dir.path(), host);
        let tls = ServerTls::from_dir(dir.path(), None).unwrap();
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let to = self.port;
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&refused);
        std::thread::spawn(move || {
            let _dir = dir;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let tls = Arc::new(tls);
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (tls, counted) = (Arc::clone(&tls), Arc::clone(&counted));
                    tokio::spawn(async move {
                        // A client that does not trust us goes away.
                        let Ok(mut front) = tls.accept(stream).await else {
                            counted.fetch_add(1, Ordering::SeqCst);
                            return;
                        };
                        let mut back = tokio::net::TcpStream::connect((HOST, to)).await.unwrap();
                        let _ = tokio::io::copy_bidirectional(&mut front, &mut back).await;
                    });
                }
            });
        });
        Front { port, ca, refused }
    }
}

/// TLS in front of a [`Web`].
pub(crate) struct Front {
    pub(crate) port: u16,
    /// The authority's certificate.
    pub(crate) ca: String,
    refused: Arc<AtomicUsize>,
}

impl Front {
    /// Connections that came to nothing, as those of clients that do not trust the authority.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

/// Writes `tls.crt` and `tls.key` for `host` into `dir`; the authority's certificate.
fn certificates(dir: &Path, host: &str) -> String {
    let (now, life) = (jiff::Timestamp::now(), jiff::SignedDuration::from_hours(1));
    let ca = authority("the authority of a test", now, life).unwrap();
    let names = [host.to_owned()];
    let wanted = Leaf {
        common_name: "source",
        dns_names: &names,
        usage: Usage::Server,
    };
    let pair = leaf(&ca, &wanted, now, life).unwrap();
    std::fs::write(dir.join("tls.crt"), &pair.certificate).unwrap();
    std::fs::write(dir.join("tls.key"), &pair.key).unwrap();
    ca.certificate
}

/// Answers one request; whether another one may come.
fn connection(mut stream: &TcpStream, files: &BTreeMap<String, File>) -> bool {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let name = lines[0].split(' ').nth(1).unwrap_or_default();
    let Some(file) = files.get(name.trim_start_matches('/')) else {
        let none = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        return stream.write_all(none.as_bytes()).is_ok();
    };
    let reply = (file.handler)(&Asked {
        number: file.asked.fetch_add(1, Ordering::SeqCst),
        authorization: header("authorization"),
    });
    if !reply.status.starts_with("200") {
        let head = format!("HTTP/1.1 {}\r\ncontent-length: 0\r\n\r\n", reply.status);
        return stream.write_all(head.as_bytes()).is_ok();
    }
    let length = reply.file.len();
    // Bytes are promised by If-Range for the tag that the client knows only.
    let same = header("if-range").is_none_or(|tag| tag == reply.tag);
    let range = header("range")
        .filter(|_| reply.ranges && same)
        .and_then(|range| {
            let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            let until = last.parse::<usize>().map_or(length, |last| last + 1);
            Some((from.parse().ok()?, until.min(length)))
        });
    let (from, until): (usize, usize) = range.unwrap_or((0, length));
    let status = match range {
        Some(_) => format!(
            "206 Partial Content\r\ncontent-range: bytes {from}-{}/{length}",
            until.max(1) - 1
        ),
        None => reply.status.to_owned(),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\netag: {}\r\ncontent-length: {}\r\n\r\n",
        reply.tag,
        until - from
    );
    if stream.write_all(head.as_bytes()).is_err() {
        return false;
    }
    let body = &reply.file[from..until];
    let now = if reply.stalls {
        &body[..body.len() / 2]
    } else {
        body
    };
    let piece = reply.rate.map_or(1 << 20, |rate| rate / TICKS);
    for part in now.chunks(piece) {
        if stream.write_all(part).is_err() {
            return false;
        }
        file.sent.fetch_add(part.len() as u64, Ordering::SeqCst);
        if reply.rate.is_some() {
            std::thread::sleep(Duration::from_secs(1) / TICKS as u32);
        }
    }
    if reply.stalls {
        // Until the client has had enough.
        let _ = std::io::Read::read(&mut stream, &mut [0]);
        return false;
    }
    true
}
