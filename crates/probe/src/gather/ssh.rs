//! The SSH connection that carries us, found even behind sudo.

use std::net::IpAddr;

use hardware::facts::{Interface, SshPath};
use hardware::parse::net::{self, Route, Socket, ssh_connection, way_to};
use hardware::parse::system::{environ, parent};

use crate::Options;
use crate::tree::Tree;

/// Parents looked at: shells and sudo between us and sshd are a handful.
const PARENTS: usize = 16;
/// Where sshd listens when nobody says otherwise.
const PORT: u16 = 22;

/// The connection and the interface it uses; `None` when nobody came over SSH.
pub(super) fn path(
    tree: &Tree,
    options: &Options,
    interfaces: &[Interface],
    routes: &[Route],
) -> Option<SshPath> {
    if !tree.live() {
        return None;
    }
    let (client, server) = ends(tree, options).or_else(|| {
        // Somebody is connected to sshd: whether it is us is not known, and
        // cutting off a stranger is as bad.
        let sockets = connections(tree);
        let socket = sockets
            .into_iter()
            .find(|socket| socket.established && socket.local.1 == PORT)?;
        Some((socket.remote.0, socket.local.0))
    })?;
    Some(SshPath {
        client: client.to_string(),
        server: server.to_string(),
        interface: interface(client, server, interfaces, routes),
    })
}

/// Every TCP socket.
fn connections(tree: &Tree) -> Vec<Socket> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| tree.text(path))
        .flat_map(|text| net::sockets(&text))
        .collect()
}

fn ends(tree: &Tree, options: &Options) -> Option<(IpAddr, IpAddr)> {
    let value = options
        .ssh_connection
        .clone()
        .or_else(|| std::env::var("SSH_CONNECTION").ok())
        .or_else(|| of_parents(tree))?;
    let ((client, _), (server, _)) = ssh_connection(&value)?;
    Some((client, server))
}

/// sudo takes the variable away; the shell that called it still has it.
fn of_parents(tree: &Tree) -> Option<String> {
    let mut pid = rustix::process::getppid()?
        .as_raw_nonzero()
        .get()
        .cast_unsigned();
    for _ in 0..PARENTS {
        let environment = tree.bytes_within(&format!("/proc/{pid}/environ"), 1 << 20);
        if let Some(value) = environ(&environment.unwrap_or_default(), "SSH_CONNECTION") {
            return Some(value);
        }
        pid = parent(&tree.quiet_line(&format!("/proc/{pid}/status"))?)?;
        if pid == 0 {
            return None;
        }
    }
    None
}

/// The interface with the server's address; else the one on the way to the client.
fn interface(
    client: IpAddr,
    server: IpAddr,
    interfaces: &[Interface],
    routes: &[Route],
) -> Option<String> {
    let owner = interfaces.iter().find(|interface| {
        interface.addresses.iter().any(|address| {
            let address = address.split('/').next().unwrap_or_default();
            address.parse() == Ok(server)
        })
    });
    owner
        .map(|interface| interface.name.clone())
        .or_else(|| way_to(routes, client).map(|route| route.interface.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_decides_and_else_the_way_back() {
        let interfaces = [Interface {
            name: "eth1".to_owned(),
            addresses: vec!["10.0.2.15/24".to_owned()],
            ..Interface::default()
        }];
        let routes = [Route {
            interface: "eth0".to_owned(),
            network: IpAddr::from([0, 0, 0, 0]),
            prefix: 0,
            gateway: None,
            metric: 0,
        }];
        let client = IpAddr::from([9, 9, 9, 9]);
        for (server, expected) in [([10, 0, 2, 15], "eth1"), ([10, 0, 2, 16], "eth0")] {
            let found = interface(client, IpAddr::from(server), &interfaces, &routes);
            assert_eq!(found.as_deref(), Some(expected));
        }
    }
}
