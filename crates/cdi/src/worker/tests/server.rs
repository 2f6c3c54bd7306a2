//! A web server with every fault.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How the server answers request number N (from 0) for a range.
pub(super) type Fault = fn(usize) -> Answer;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Answer {
    Good,
    /// 503.
    Busy,
    /// Half of the body, then the connection ends.
    Half,
    /// Another entity tag and the whole file, as If-Range has it.
    Changed,
    /// The whole file, whatever range is asked for.
    Whole,
    /// Half of the whole file.
    WholeHalf,
    Denied,
}

pub(super) struct Server {
    pub(super) url: String,
    /// Heads of the requests, in small letters.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

/// Serves `file` on a port of its own, as long as the test's process lives.
pub(super) fn serve(file: Vec<u8>, fault: Fault) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/b/disk.img", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (heard, file, count) = (
        Arc::clone(&asked),
        Arc::new(file),
        Arc::new(AtomicUsize::new(0)),
    );
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (heard, file, count) = (Arc::clone(&heard), Arc::clone(&file), Arc::clone(&count));
            std::thread::spawn(move || {
                while connection(stream.as_ref().unwrap(), &heard, &file, &count, fault) {}
            });
        }
    });
    Server { url, asked }
}

fn connection(
    mut stream: &TcpStream,
    heard: &Mutex<Vec<String>>,
    file: &[u8],
    count: &AtomicUsize,
    fault: Fault,
) -> bool {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line.to_ascii_lowercase());
    }
    heard.lock().unwrap().push(head.clone());
    let answer = fault(count.fetch_add(1, Ordering::SeqCst));
    let whole = matches!(answer, Answer::Whole | Answer::WholeHalf | Answer::Changed);
    let (from, until) =
        head.split_once("range: bytes=")
            .filter(|_| !whole)
            .map_or((0, file.len()), |(_, rest)| {
                let (from, rest) = rest.split_once('-').unwrap();
                let last = rest.split('\r').next().unwrap();
                (
                    from.parse().unwrap(),
                    last.parse::<usize>()
                        .map_or(file.len(), |l| (l + 1).min(file.len())),
                )
            });
    let body = &file[from..until];
    let (status, tag) = match answer {
        Answer::Busy => ("503 Busy", "\"1\""),
        Answer::Denied => ("404 Not Found", "\"1\""),
        Answer::Changed => ("200 OK", "\"2\""),
        Answer::Whole | Answer::WholeHalf => ("200 OK", "\"1\""),
        _ => ("206 Partial Content", "\"1\""),
    };
    let body = if status.starts_with('2') { body } else { b"" };
    let range = format!(
        "content-range: bytes {from}-{}/{}\r\n",
        until.max(1) - 1,
        file.len()
    );
    let head = format!(
        "HTTP/1.1 {status}\r\netag: {tag}\r\ncontent-length: {}\r\n{}\r\n",
        body.len(),
        if status.starts_with("206") {
            range.as_str()
        } else {
            ""
        }
    );
    let half = matches!(answer, Answer::Half | Answer::WholeHalf);
    let sent = if half { &body[..body.len() / 2] } else { body };
    let sent = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(sent));
    if half {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    sent.is_ok() && !half
}
