//! A qcow2 of 2 GiB, 30 % of it full, into a raw disk: our importer over HTTP on loopback beside
//! qemu-img on the local file. And an upload: curl to our server beside curl to one that only
//! writes what it gets.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use kube_kit::certs::{self, Leaf, Usage};

use crate::report::Report;

/// The disk's size, and how many of its MiB are full.
const SIZE: u64 = 2 << 30;
const FULL: u64 = 614;
/// Runs of each, of which the best counts: noise only ever adds.
const RUNS: usize = 7;
/// The name that the upload server lets in.
const CLIENT: &str = "client.upload-server.cdi.kubevirt.io";

/// The program of all components: target/release/edgevirt-bin, or `EDGEVIRT_BIN`.
fn program() -> PathBuf {
    std::env::var_os("EDGEVIRT_BIN")
        .map_or_else(|| "target/release/edgevirt-bin".into(), PathBuf::from)
}

fn timed(what: &str, command: &mut Command) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let output = command
        .stdout(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {what}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {}: {said}", output.status);
    Ok(begun.elapsed())
}

/// The best of theirs and of ours, in turns: a machine that slows down does so for both.
fn best(
    mut theirs: impl FnMut() -> anyhow::Result<Duration>,
    mut ours: impl FnMut() -> anyhow::Result<Duration>,
) -> anyhow::Result<(f64, f64)> {
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        best = (best.0.min(theirs()?), best.1.min(ours()?));
    }
    Ok((best.0.as_secs_f64(), best.1.as_secs_f64()))
}

/// The raw disk: full and empty MiB in turns.
fn disk(path: &Path) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    file.set_len(SIZE)?;
    let mut random = File::open("/dev/urandom")?;
    let mut bytes = vec![0; 1 << 20];
    for index in 0..FULL {
        random.read_exact(&mut bytes)?;
        file.seek(SeekFrom::Start((index * 10 / 3) << 20))?;
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// `import`: both ways of conversion.
pub(crate) fn import(report: &mut Report) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name);
    disk(&path("in.raw"))?;
    let qemu = |from: &str, format: &str, to: &str| {
        let mut command = Command::new("qemu-img");
        command.args(["convert", "-t", "writeback", "-O", format]);
        command.arg(path(from)).arg(path(to));
        timed("qemu-img", &mut command)
    };
    qemu("in.raw", "qcow2", "in.qcow2")?;
    let url = serve(&path("in.qcow2"))?;
    let mut memory = 0;
    let import = || {
        let begun = Instant::now();
        let mut child = Command::new(program())
            .args(["cdi-importer", "--source", "http", "--endpoint", &url])
            .args(["--size", &SIZE.to_string(), "--target"])
            .arg(path("ours.raw"))
            .arg("--termination-log")
            .arg(path("end"))
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run the importer")?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            memory = memory.max(peak(child.id()));
            std::thread::sleep(Duration::from_millis(5));
        };
        ensure!(status.success(), "the importer: {status}");
        Ok(begun.elapsed())
    };
    let (theirs, ours) = best(|| qemu("in.qcow2", "raw", "theirs.raw"), import)?;
    timed(
        "cmp",
        Command::new("cmp")
            .arg(path("ours.raw"))
            .arg(path("in.raw")),
    )?;
    report.compare(
        "import: qcow2 of 2 GiB, 30 % full, over HTTP",
        "s",
        ours,
        theirs / 0.8,
        ("qemu-img convert, local file", theirs),
    );
    report.compare(
        "import: memory of the importer",
        "MiB",
        memory as f64 / 1024.0,
        64.0,
        ("upstream, without its helpers", 85.0),
    );
    Ok(())
}

/// The most memory a process had so far, in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// A server of ranges of one file, for as long as this process lives.
fn serve(path: &Path) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/in.qcow2", listener.local_addr()?);
    let path = path.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let path = path.clone();
            // A client that goes away ends its connection only.
            std::thread::spawn(move || ranges(&stream, &path));
        }
    });
    Ok(url)
}

fn ranges(mut stream: &TcpStream, path: &Path) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::new(stream);
    while let Some(head) = head(&mut reader)? {
        let (from, last) = head
            .split_once("range: bytes=")
            .and_then(|(_, rest)| rest.lines().next()?.trim().split_once('-'))
            .unwrap_or(("0", ""));
        let from: u64 = from.parse().unwrap_or(0);
        let until = last
            .parse()
            .map_or(length, |last: u64| (last + 1).min(length));
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\netag: \"1\"\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{length}\r\n\r\n",
            until - from,
            until - 1
        )?;
        file.seek(SeekFrom::Start(from))?;
        // From file to socket without a copy through here.
        std::io::copy(&mut (&mut file).take(until - from), &mut stream)?;
    }
    Ok(())
}

/// A request's head in lower case; none when the client is gone.
fn head(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            return Ok(Some(head));
        }
        head.push_str(&line.to_ascii_lowercase());
    }
}

/// `upload`: a raw disk over TLS beside the same bytes to a server that writes them.
pub(crate) fn upload(report: &mut Report) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name);
    let mut random = File::open("/dev/urandom")?.take(1 << 30);
    std::io::copy(&mut random, &mut File::create(path("in.raw"))?)?;
    certificates(dir.path())?;
    let curl = |url: &str| {
        let mut command = Command::new("curl");
        command.args(["-sSf", "-X", "POST", "-H", "Expect:", "--cacert"]);
        command.arg(path("ca-bundle.crt"));
        command.arg("--cert").arg(path("client.crt"));
        command.arg("--key").arg(path("client.key"));
        command.args(["-H", "Content-Type: application/octet-stream", "-T"]);
        command.arg(path("in.raw")).arg(url);
        command
    };
    let plain = || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/", listener.local_addr()?);
        let to = path("theirs.raw");
        let server = std::thread::spawn(move || sink(&listener, &to));
        let took = timed("curl", &mut curl(&url))?;
        server
            .join()
            .ok()
            .context("the server that writes failed")??;
        Ok(took)
    };
    let tls = || {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut child = Command::new(program())
            .args(["cdi-uploadserver", "--listen", &format!("127.0.0.1:{port}")])
            .args([
                "--tls-dir",
                &dir.path().display().to_string(),
                "--client-ca",
            ])
            .arg(path("ca-bundle.crt"))
            .args(["--size", &(1u64 << 30).to_string(), "--target"])
            .arg(path("ours.raw"))
            .arg("--termination-log")
            .arg(path("end"))
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run the upload server")?;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(child.try_wait()?.is_none(), "the upload server ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        let url = format!("https://localhost:{port}/v1beta1/upload");
        let took = timed("curl", &mut curl(&url));
        let status = child.wait()?;
        ensure!(
            took.is_err() || status.success(),
            "the upload server: {status}"
        );
        took
    };
    let (theirs, ours) = best(plain, tls)?;
    timed(
        "cmp",
        Command::new("cmp")
            .arg(path("ours.raw"))
            .arg(path("in.raw")),
    )?;
    report.compare(
        "upload: 1 GiB over TLS, safely on disk",
        "s",
        ours,
        theirs / 0.8,
        ("curl to a server that writes, no TLS, synced", theirs),
    );
    Ok(())
}

/// Writes one request's body to a file and syncs it, as whoever answers 200 must.
fn sink(listener: &TcpListener, to: &Path) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut reader = BufReader::with_capacity(256 << 10, stream.try_clone()?);
    let head = head(&mut reader)?.unwrap_or_default();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0);
    let mut file = File::create(to)?;
    std::io::copy(&mut reader.take(length), &mut file)?;
    file.sync_all()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn certificates(dir: &Path) -> anyhow::Result<()> {
    let (now, life) = (Timestamp::now(), SignedDuration::from_hours(1));
    let authority = certs::authority("bench", now, life)?;
    std::fs::write(dir.join("ca-bundle.crt"), &authority.certificate)?;
    let names = ["localhost".to_owned()];
    for (file, name, names, usage) in [
        ("tls", "localhost", &names[..], Usage::Server),
        ("client", CLIENT, &[], Usage::Client),
    ] {
        let leaf = Leaf {
            common_name: name,
            dns_names: names,
            usage,
        };
        let pair = certs::leaf(&authority, &leaf, now, life)?;
        std::fs::write(dir.join(format!("{file}.crt")), pair.certificate)?;
        std::fs::write(dir.join(format!("{file}.key")), pair.key)?;
    }
    Ok(())
}
