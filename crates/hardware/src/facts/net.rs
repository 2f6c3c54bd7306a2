//! Network interfaces, routes, the connection that carries us, listening sockets.

use serde::{Deserialize, Serialize};

/// The network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Interfaces of /sys/class/net, by name.
    pub interfaces: Vec<Interface>,
    /// Default routes, IPv4 (/proc/net/route) and IPv6 (/proc/net/ipv6_route).
    pub default_routes: Vec<DefaultRoute>,
    /// The SSH connection over which the facts are gathered, if any.
    pub ssh: Option<SshPath>,
    /// Listening TCP sockets and bound UDP sockets. `None`: not read.
    pub listeners: Option<Vec<Listener>>,
}

/// An interface of /sys/class/net.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Hardware address.
    pub mac: Option<String>,
    /// Address of the PCI function behind it: link `device`.
    pub pci: Option<String>,
    /// `mtu`, bytes.
    pub mtu: Option<u32>,
    /// `speed`, Mbit/s; -1 unknown. Unreadable while the interface is down.
    pub speed: Option<i64>,
    /// `carrier`. Unreadable while the interface is down.
    pub carrier: Option<bool>,
    /// `operstate`.
    pub operstate: Option<String>,
    /// The bridge or bond it is a member of: link `master`.
    pub master: Option<String>,
    /// `bridge`, `bond`, `vlan`, `tun`, `loopback`, `physical`, `other`: from the folders it has.
    pub kind: String,
    /// Interfaces below it: links lower_*.
    pub lower: Vec<String>,
    /// Interfaces above it: links upper_*.
    pub upper: Vec<String>,
    /// Its addresses with prefix length, where they could be read.
    pub addresses: Vec<String>,
}

/// A default route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DefaultRoute {
    /// The interface it leaves by.
    pub interface: String,
    /// The gateway, if there is one.
    pub gateway: Option<String>,
    /// Metric.
    pub metric: u32,
    /// The file it was read from.
    pub path: String,
}

/// The SSH connection over which the facts are gathered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SshPath {
    /// Address of the client.
    pub client: String,
    /// Address of the node that it reached.
    pub server: String,
    /// The interface that carries it: the one with that address, or the one that routes to the client.
    pub interface: Option<String>,
}

/// A socket that listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The address it is bound to; `0.0.0.0` and `::` are all.
    pub address: String,
    /// The port.
    pub port: u16,
    /// Name of the process that holds it (`comm`), if it was found; looked for where the
    /// cluster wants the port.
    pub process: Option<String>,
    /// Process id, if it was found.
    pub pid: Option<u32>,
}

impl Network {
    /// The interface `name`.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces
            .iter()
            .find(|interface| interface.name == name)
    }
}
