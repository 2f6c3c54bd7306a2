//! Interfaces, default routes, the connection that carries us, listeners: from
//! /sys/class/net and /proc/net, so that a captured tree tells the same.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hardware::facts::{DefaultRoute, Interface, Listener, Network};
use hardware::parse::net::{self, Route, Socket};
use hardware::parse::pci;

use super::process::{self, Process};
use super::ssh;
use crate::Options;
use crate::tree::Tree;

const CLASS: &str = "/sys/class/net";

pub(super) fn network(tree: &Tree, processes: &[Process], options: &Options) -> Network {
    let v4 = net::routes_v4(&tree.expected("/proc/net/route").unwrap_or_default());
    // Absent when IPv6 is off.
    let v6 = net::routes_v6(&tree.text("/proc/net/ipv6_route").unwrap_or_default());
    let default_routes = [(&v4, "/proc/net/route"), (&v6, "/proc/net/ipv6_route")]
        .into_iter()
        .flat_map(|(routes, path)| {
            routes
                .iter()
                .filter(|route| route.is_default())
                .map(move |route| DefaultRoute {
                    interface: route.interface.clone(),
                    gateway: route.gateway.map(|gateway| gateway.to_string()),
                    metric: route.metric,
                    path: path.to_owned(),
                })
        })
        .collect();
    let routes: Vec<Route> = v4.into_iter().chain(v6).collect();
    let addresses = addresses(tree, &routes);
    let interfaces: Vec<Interface> = tree
        .list(CLASS)
        .unwrap_or_default()
        .into_iter()
        // A file there is no interface: bonding_masters.
        .filter(|name| name != "bonding_masters")
        .map(|name| interface(tree, name, &addresses))
        .collect();
    let (sockets, read) = sockets(tree);
    Network {
        ssh: ssh::path(tree, options, &interfaces, &routes),
        interfaces,
        default_routes,
        listeners: read.then(|| listeners(tree, processes, &sockets)),
    }
}

fn interface(tree: &Tree, name: String, addresses: &[(String, String)]) -> Interface {
    let folder = format!("{CLASS}/{name}");
    let file = |entry: &str| format!("{folder}/{entry}");
    // Speed and carrier of an interface that is down answer EINVAL.
    let quiet = |entry: &str| tree.quiet_line(&file(entry));
    let entries = tree.list(&folder).unwrap_or_default();
    let beside = |prefix: &str| -> Vec<String> {
        entries
            .iter()
            .filter_map(|entry| entry.strip_prefix(prefix).map(str::to_owned))
            .collect()
    };
    Interface {
        mac: quiet("address"),
        pci: behind(tree, &folder),
        mtu: quiet("mtu").and_then(|text| text.parse().ok()),
        speed: quiet("speed").and_then(|text| text.parse().ok()),
        carrier: quiet("carrier").and_then(|text| hardware::parse::text::flag(&text)),
        operstate: quiet("operstate"),
        master: tree.link_name(&file("master")),
        kind: kind(tree, &folder),
        lower: beside("lower_"),
        upper: beside("upper_"),
        addresses: addresses
            .iter()
            .filter(|(interface, _)| *interface == name)
            .map(|(_, address)| address.clone())
            .collect(),
        name,
    }
}

/// The PCI function behind an interface: the last address in the path of its
/// own folder, whatever stands between (virtio, USB).
fn behind(tree: &Tree, folder: &str) -> Option<String> {
    let target = tree.link(folder)?;
    target
        .rsplit('/')
        .find(|part| pci::address(part).is_some())
        .map(str::to_owned)
}

/// What an interface is: the kernel's own word for some (`DEVTYPE` in uevent),
/// the entries it has for the rest.
fn kind(tree: &Tree, folder: &str) -> String {
    let has = |entry: &str| tree.exists(&format!("{folder}/{entry}"));
    let uevent = tree.text(&format!("{folder}/uevent")).unwrap_or_default();
    let devtype = hardware::parse::text::assignment(&uevent, "DEVTYPE");
    // ARPHRD_LOOPBACK.
    let loopback = tree.quiet_line(&format!("{folder}/type")).as_deref() == Some("772");
    match devtype.as_deref() {
        _ if loopback => "loopback",
        _ if has("bridge") => "bridge",
        _ if has("bonding") => "bond",
        _ if has("tun_flags") => "tun",
        Some("vlan") => "vlan",
        _ if has("device") => "physical",
        _ => "other",
    }
    .to_owned()
}

/// Interface and address with its prefix length. In a captured tree from the
/// kernel's tables: own addresses are in fib_trie without their interface, which
/// is the one whose network, as a route on the link, holds it.
fn addresses(tree: &Tree, routes: &[Route]) -> Vec<(String, String)> {
    let trie = tree.text("/proc/net/fib_trie").unwrap_or_default();
    let v6 = tree.text("/proc/net/if_inet6").unwrap_or_default();
    if tree.live()
        && let Ok(found) = nix::ifaddrs::getifaddrs()
    {
        return found.filter_map(|entry| asked(&entry)).collect();
    }
    let on_link: Vec<Route> = routes
        .iter()
        .filter(|route| route.gateway.is_none() && !route.is_default())
        .cloned()
        .collect();
    let v4 = net::local_addresses_v4(&trie)
        .into_iter()
        .filter_map(|address| {
            let route = net::way_to(&on_link, IpAddr::V4(address))?;
            Some((
                route.interface.clone(),
                format!("{address}/{}", route.prefix),
            ))
        });
    let v6 = net::addresses_v6(&v6)
        .into_iter()
        .map(|(interface, address, prefix)| (interface, format!("{address}/{prefix}")));
    v4.chain(v6).collect()
}

fn asked(entry: &nix::ifaddrs::InterfaceAddress) -> Option<(String, String)> {
    let address = entry.address?;
    let mask = entry.netmask?;
    let text = match (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
        (Some(address), Some(mask)) => {
            let prefix = u32::from(mask.ip()).leading_ones();
            format!("{}/{prefix}", address.ip())
        }
        _ => {
            let prefix = u128::from(mask.as_sockaddr_in6()?.ip()).leading_ones();
            format!("{}/{prefix}", address.as_sockaddr_in6()?.ip())
        }
    };
    Some((entry.interface_name.clone(), text))
}

/// Listeners, and all of UDP, with their protocol, and whether the tables could be read.
fn sockets(tree: &Tree) -> (Vec<(&'static str, Socket)>, bool) {
    let mut found = Vec::new();
    let (mut read, mut noise) = (false, false);
    for (protocol, file) in [
        ("tcp", "tcp"),
        ("tcp", "tcp6"),
        ("udp", "udp"),
        ("udp", "udp6"),
    ] {
        let path = format!("/proc/net/{file}");
        let text = match protocol {
            "tcp" => tree.lines_while(&path, net::heads_or_listens),
            _ => tree.text(&path),
        };
        if let Some(text) = text {
            read = true;
            if !net::heads_sockets(&text) {
                noise = true;
                tree.note(&path, &"no table of sockets");
            }
            let sockets = net::sockets(&text).into_iter();
            found.extend(sockets.map(|socket| (protocol, socket)));
        }
    }
    (found, read && !noise)
}

fn listeners(
    tree: &Tree,
    processes: &[Process],
    sockets: &[(&'static str, Socket)],
) -> Vec<Listener> {
    let listening = || sockets.iter().filter(|(_, socket)| socket.listening);
    // Every open file of the node is looked at for them, so only when it matters.
    let inodes: BTreeSet<u64> = listening()
        .filter(|(protocol, socket)| {
            *protocol == "tcp" && hardware::is_port_of_cluster(socket.local.1)
        })
        .map(|(_, socket)| socket.inode)
        .collect();
    let holders = process::holders(tree, processes, &inodes);
    let mut found: Vec<Listener> = listening()
        .map(|(protocol, socket)| {
            let holder = holders.get(&socket.inode);
            Listener {
                protocol: (*protocol).to_owned(),
                address: socket.local.0.to_string(),
                port: socket.local.1,
                process: holder.map(|process| process.name.clone()),
                pid: holder.map(|process| process.pid),
            }
        })
        .collect();
    found.sort_by(|a, b| (&a.protocol, a.port, &a.address).cmp(&(&b.protocol, b.port, &b.address)));
    found.dedup();
    found
}
