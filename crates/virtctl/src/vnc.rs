//! vnc: a guest's display, for a viewer on this machine.
//!
//! The stream is opened first, so that what is wrong with the VM is said
//! before a viewer starts. Then one viewer is let in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Bytes;

use crate::cli::{Connection, VncArgs};
use crate::cluster::{Cluster, subresource};
use crate::console::Signals;
use crate::output::out;
use crate::stream::{self, Receiver, Sender};
use crate::target::Kind;

/// A viewer of our own must connect in this time.
const LISTEN: Duration = Duration::from_secs(60);

pub(crate) async fn run(connection: &Connection, args: VncArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(connection).await?;
    let query = if args.preserve_session {
        "?preserveSession=true"
    } else {
        ""
    };
    let path = subresource(
        &cluster.namespace,
        Kind::Instance.plural(),
        &args.name,
        "vnc",
    );
    let (sender, receiver) = stream::open(&cluster, &format!("{path}{query}"))
        .await
        .map_err(|error| anyhow::anyhow!("can't access VMI {}: {error:#}", args.name))?;
    // Anybody who reaches the port sees the screen: only a proxy may be told
    // to listen elsewhere.
    let address = if args.proxy_only {
        args.address.as_str()
    } else {
        "127.0.0.1"
    };
    let listener = TcpListener::bind((address, args.port))
        .await
        .with_context(|| format!("can't listen on {address}:{}", args.port))?;
    let local = listener.local_addr()?;
    let viewer = if args.proxy_only {
        out(json!({ "port": local.port() }));
        None
    } else {
        Some(start_viewer(&args, local)?)
    };
    let mut signals = Signals::new()?;
    tokio::select! {
        outcome = session(listener, sender, receiver, viewer) => outcome,
        () = signals.any() => Ok(()),
    }
}

async fn session(
    listener: TcpListener,
    sender: Sender,
    mut receiver: Receiver,
    viewer: Option<Child>,
) -> anyhow::Result<()> {
    let ours = viewer.is_some();
    let gone = async {
        match viewer {
            Some(mut child) => child.wait().await.context("the VNC viewer"),
            None => std::future::pending().await,
        }
    };
    let mut gone = std::pin::pin!(gone);
    // The server's greeting may come before the viewer.
    let mut early: Vec<Bytes> = Vec::new();
    let deadline = tokio::time::sleep(LISTEN);
    let mut deadline = std::pin::pin!(deadline);
    let connection = loop {
        tokio::select! {
            accepted = listener.accept() => break accepted?.0,
            bytes = receiver.next() => match bytes? {
                Some(bytes) => early.push(bytes),
                None => return Ok(()),
            },
            status = &mut gone => bail!("error encountered: the VNC viewer ended with {} before it connected", status?),
            () = &mut deadline, if ours => {
                bail!("error encountered: no VNC viewer connected within {} s", LISTEN.as_secs())
            }
        }
    };
    drop(listener);
    tokio::select! {
        outcome = carry(connection, early, sender, receiver) => {
            outcome.map_err(|error| anyhow::anyhow!("error encountered: {error:#}"))
        }
        status = &mut gone => status.map(|_| ()),
    }
}

async fn carry(
    connection: TcpStream,
    early: Vec<Bytes>,
    sender: Sender,
    receiver: Receiver,
) -> anyhow::Result<()> {
    connection.set_nodelay(true)?;
    let (from_viewer, mut to_viewer) = connection.into_split();
    for bytes in early {
        to_viewer.write_all(&bytes).await?;
    }
    stream::carry(from_viewer, to_viewer, sender, receiver).await
}

fn start_viewer(args: &VncArgs, local: SocketAddr) -> anyhow::Result<Child> {
    let (program, remote_viewer) = viewer(args)?;
    let target = if remote_viewer {
        format!("vnc://127.0.0.1:{}", local.port())
    } else {
        format!("127.0.0.1:{}", local.port())
    };
    Command::new(&program)
        .arg(target)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting the VNC viewer {}", program.display()))
}

/// The viewer's program, and whether it is remote-viewer.
fn viewer(args: &VncArgs) -> anyhow::Result<(PathBuf, bool)> {
    const REMOTE: &str = "remote-viewer";
    const TIGER: &str = "vncviewer";
    let (names, remote): (&[(&str, bool)], _) = match args.vnc_type.as_deref() {
        None => (&[(REMOTE, true), (TIGER, false)], false),
        Some("tiger") => (&[(TIGER, false)], false),
        Some(REMOTE) => (&[(REMOTE, true)], true),
        Some(other) => bail!("unsupported vnc-type: {other}"),
    };
    if let Some(path) = &args.vnc_path {
        if !path.exists() {
            bail!("specified VNC path does not exist: {}", path.display());
        }
        return Ok((path.clone(), remote));
    }
    names
        .iter()
        .find_map(|(name, remote)| Some((which::which(name).ok()?, *remote)))
        .with_context(|| {
            let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            format!("could not find {} binary in $PATH", names.join(" or "))
        })
}
