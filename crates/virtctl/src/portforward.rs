//! port-forward: local ports, or stdin and stdout, to ports of a guest. Each
//! connection gets a websocket of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use crate::cli::{Connection, PortForwardArgs};
use crate::cluster::{Cluster, subresource};
use crate::console::{Screen, Signals, keyboard};
use crate::output::err;
use crate::stream::{self, Receiver, Sender};
use crate::target::{Port, Protocol, Target};

/// The largest datagram.
const DATAGRAM: usize = 64 * 1024;
/// Datagrams of one sender that may wait for their tunnel.
const WAITING: usize = 64;

/// Opens tunnels to one VM.
#[derive(Clone)]
struct Tunnels {
    cluster: Cluster,
    target: Arc<Target>,
}

pub(crate) async fn run(connection: &Connection, args: PortForwardArgs) -> anyhow::Result<()> {
    let target = Target::parse(&args.target)?;
    let ports = args
        .ports
        .iter()
        .map(|text| Port::parse(text))
        .collect::<anyhow::Result<Vec<Port>>>()?;
    let mut cluster = Cluster::connect(connection).await?;
    if let Some(namespace) = &target.namespace {
        cluster.namespace.clone_from(namespace);
    }
    let tunnels = Tunnels {
        cluster,
        target: Arc::new(target),
    };
    let mut signals = Signals::new()?;
    if args.stdio {
        let [port] = ports[..] else {
            bail!("only one port supported when forwarding to stdout")
        };
        return tokio::select! {
            outcome = stdio(&tunnels, port) => outcome,
            () = signals.any() => Ok(()),
        };
    }
    let address = resolve(&args.address).await?;
    for port in ports {
        listen(&tunnels, address, port).await?;
    }
    signals.any().await;
    Ok(())
}

impl Tunnels {
    async fn open(&self, port: Port) -> anyhow::Result<(Sender, Receiver)> {
        let Target { kind, name, .. } = self.target.as_ref();
        let verb = format!("portforward/{}/{}", port.remote, port.protocol.word());
        let path = subresource(&self.cluster.namespace, kind.plural(), name, &verb);
        stream::open(&self.cluster, &path).await.with_context(|| {
            format!(
                "can't access {}/{name}.{}",
                kind.short(),
                self.cluster.namespace
            )
        })
    }
}

async fn resolve(address: &str) -> anyhow::Result<IpAddr> {
    let mut found = tokio::net::lookup_host((address, 0))
        .await
        .with_context(|| format!("--address {address}"))?;
    found
        .next()
        .map(|address| address.ip())
        .with_context(|| format!("--address {address} has no address"))
}

async fn stdio(tunnels: &Tunnels, port: Port) -> anyhow::Result<()> {
    let (mut sender, mut receiver) = tunnels.open(port).await?;
    let mut keys = keyboard();
    let screen = Screen::new();
    let outcome = loop {
        tokio::select! {
            bytes = receiver.next() => match bytes {
                Ok(Some(bytes)) => {
                    if !screen.show(bytes).await {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            },
            chunk = keys.recv() => match chunk {
                Some(chunk) => sender.send(chunk).await?,
                None => {
                    sender.close().await;
                    break Ok(());
                }
            },
        }
    };
    screen.finish().await;
    outcome
}

/// Binds at once, so that a port in use is an error of the command.
async fn listen(tunnels: &Tunnels, address: IpAddr, port: Port) -> anyhow::Result<()> {
    let at = SocketAddr::from((address, port.local));
    let failed = || format!("can't listen on {} {at}", port.protocol.word());
    let local = match port.protocol {
        Protocol::Tcp => {
            let listener = TcpListener::bind(at).await.with_context(failed)?;
            let local = listener.local_addr()?;
            tokio::spawn(accept(tunnels.clone(), listener, port));
            local
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(at).await.with_context(failed)?;
            let local = socket.local_addr()?;
            tokio::spawn(datagrams(tunnels.clone(), Arc::new(socket), port));
            local
        }
    };
    err(format!(
        "forwarding {} {local} to {}",
        port.protocol.word(),
        port.remote
    ));
    Ok(())
}

async fn accept(tunnels: Tunnels, listener: TcpListener, port: Port) {
    loop {
        let (connection, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                err(format!("error accepting connection: {error}"));
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let tunnels = tunnels.clone();
        tokio::spawn(async move {
            let (sender, receiver) = match tunnels.open(port).await {
                Ok(tunnel) => tunnel,
                // One refused connection does not end the forwarding.
                Err(error) => return err(format!("{error:#}")),
            };
            let (from, to) = connection.into_split();
            if let Err(error) = stream::carry(from, to, sender, receiver).await {
                err(format!(
                    "error handling connection for {}: {error:#}",
                    port.local
                ));
            }
        });
    }
}

/// One tunnel for each sender of datagrams.
async fn datagrams(tunnels: Tunnels, socket: Arc<UdpSocket>, port: Port) {
    let mut clients: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer found nobody listening.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return err(format!("error receiving datagrams: {error}")),
        };
        clients.retain(|_, client| !client.is_closed());
        let client = clients.entry(from).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(WAITING);
            tokio::spawn(client(
                tunnels.clone(),
                Arc::clone(&socket),
                from,
                receiver,
                port,
            ));
            sender
        });
        // Datagrams may be lost: better than to wait.
        let _ = client.try_send(buffer[..length].to_vec());
    }
}

async fn client(
    tunnels: Tunnels,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
    port: Port,
) {
    let (mut sender, mut receiver) = match tunnels.open(port).await {
        Ok(tunnel) => tunnel,
        Err(error) => return err(format!("{error:#}")),
    };
    let outcome: anyhow::Result<()> = async {
        loop {
            tokio::select! {
                datagram = datagrams.recv() => match datagram {
                    Some(datagram) => sender.send(datagram).await?,
                    None => return Ok(()),
                },
                bytes = receiver.next() => match bytes? {
                    Some(bytes) => { socket.send_to(&bytes, client).await?; }
                    None => return Ok(()),
                },
            }
        }
    }
    .await;
    if let Err(error) = outcome {
        err(format!("closing client: {error:#}"));
    }
}
