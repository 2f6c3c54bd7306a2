//! The DHCP server's socket: port 67 on one bridge.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket as StdUdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
use tokio::net::UdpSocket;

use super::Offer;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Longest packet taken; Ethernet's largest.
const MAX_PACKET: usize = 1500;

/// Opens the socket and answers from now on.
///
/// # Errors
/// When the port cannot be had (it takes CAP_NET_BIND_SERVICE) or the bridge is
/// not there.
pub(crate) fn serve(offer: Offer) -> io::Result<()> {
    let socket = open(&offer.lease.bridge)?;
    tokio::spawn(async move {
        let mut packet = vec![0; MAX_PACKET];
        loop {
            match socket.recv_from(&mut packet).await {
                Ok((length, from)) => {
                    let Some(reply) = packet.get(..length).and_then(|p| offer.reply(p)) else {
                        continue;
                    };
                    // A client that has its address is answered there; one that has
                    // none yet hears broadcasts only.
                    let to = match from.ip() {
                        std::net::IpAddr::V4(ip) if ip == offer.lease.address => ip,
                        _ => Ipv4Addr::BROADCAST,
                    };
                    let to = SocketAddrV4::new(to, CLIENT_PORT);
                    if let Err(error) = socket.send_to(&reply, to).await {
                        tracing::warn!("a DHCP reply was not sent: {error}");
                    }
                }
                Err(error) => {
                    tracing::error!("the DHCP server stops: {error}");
                    return;
                }
            }
        }
    });
    Ok(())
}

fn open(bridge: &str) -> io::Result<UdpSocket> {
    let fd: OwnedFd = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(ipproto::UDP),
    )?;
    // Several bridges have a server each, on the same port.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_broadcast(&fd, true)?;
    bind(&fd, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, SERVER_PORT))?;
    let socket = UdpSocket::from_std(StdUdpSocket::from(fd))?;
    socket.bind_device(Some(bridge.as_bytes()))?;
    Ok(socket)
}
