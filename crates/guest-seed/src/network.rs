//! Network configuration of a seed -> a shell script of `ip` commands. Pure.
//!
//! Acted on: version 2 (`ethernets` with match.macaddress, dhcp4, addresses, gateway4, routes, nameservers, mtu) and
//! version 1 (`physical` with subnets static, dhcp). Interfaces that are not named come up by DHCP as without it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde_yaml::Value;

use crate::value::{items, member, texts, truth};

/// One interface's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Interface {
    addresses: Vec<String>,
    routes: Vec<(String, String)>,
    dns: Vec<String>,
    search: Vec<String>,
    mtu: Option<u32>,
    dhcp: bool,
}

/// The script, and the interfaces DHCP is to leave alone. `devices` maps MAC addresses in lower case to names.
pub(crate) fn script(
    text: &str,
    devices: &BTreeMap<String, String>,
) -> Result<(String, Vec<String>), String> {
    let document: Value =
        serde_yaml::from_str(text).map_err(|error| format!("it is no YAML: {error}"))?;
    let document = document.get("network").unwrap_or(&document);
    let interfaces = match member(document, "version").as_deref() {
        Some("2") => version_2(document, devices),
        Some("1") => version_1(document, devices),
        other => return Err(format!("expected version 1 or 2, found {other:?}")),
    };
    let mut out = "#!/bin/sh\n".to_owned();
    let mut fixed = Vec::new();
    for (name, interface) in interfaces {
        write_interface(&mut out, &name, &interface);
        if !interface.dhcp {
            fixed.push(name);
        }
    }
    Ok((out, fixed))
}

fn write_interface(out: &mut String, name: &str, interface: &Interface) {
    // Writing into a String cannot fail.
    let _ = writeln!(out, "ip link set {name} up");
    if let Some(mtu) = interface.mtu {
        let _ = writeln!(out, "ip link set {name} mtu {mtu}");
    }
    for address in interface
        .addresses
        .iter()
        .filter(|address| is_cidr(address))
    {
        let _ = writeln!(out, "ip addr add {address} dev {name}");
    }
    for (to, via) in &interface.routes {
        let known = (is_cidr(to) || to == "default") && via.parse::<IpAddr>().is_ok();
        if known {
            let _ = writeln!(out, "ip route replace {to} via {via} dev {name}");
        }
    }
    let dns: Vec<_> = interface
        .dns
        .iter()
        .filter(|server| server.parse::<IpAddr>().is_ok())
        .collect();
    if dns.is_empty() {
        return;
    }
    let plain = |domain: &&String| {
        domain
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
    };
    let search: Vec<_> = interface
        .search
        .iter()
        .filter(plain)
        .map(String::as_str)
        .collect();
    let _ = writeln!(out, ": > /run/resolv.{name}");
    if !search.is_empty() {
        let _ = writeln!(
            out,
            "echo search {} >> /run/resolv.{name}",
            search.join(" ")
        );
    }
    for server in dns {
        let _ = writeln!(out, "echo nameserver {server} >> /run/resolv.{name}");
    }
    let _ = writeln!(out, "cat /run/resolv.* > /etc/resolv.conf");
}

/// ADDRESS/PREFIX. The script is run by a shell, so nothing else may get into it.
fn is_cidr(text: &str) -> bool {
    let prefix = |p: &str| p.parse::<u8>().is_ok_and(|p| p <= 128);
    text.split_once('/')
        .is_some_and(|(address, p)| address.parse::<IpAddr>().is_ok() && prefix(p))
}

fn version_2(document: &Value, devices: &BTreeMap<String, String>) -> Vec<(String, Interface)> {
    let Some(Value::Mapping(ethernets)) = document.get("ethernets") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (key, entry) in ethernets {
        let mac = entry
            .get("match")
            .and_then(|m| member(m, "macaddress"))
            .map(|mac| mac.to_ascii_lowercase());
        let name = match mac {
            Some(mac) => devices.get(&mac),
            None => {
                crate::value::text(key).and_then(|key| devices.values().find(|name| **name == key))
            }
        };
        let Some(name) = name else { continue };
        let nameservers = entry.get("nameservers");
        let mut routes: Vec<(String, String)> = items(entry.get("routes"))
            .iter()
            .filter_map(|route| Some((destination(&member(route, "to")?), member(route, "via")?)))
            .collect();
        routes.extend(member(entry, "gateway4").map(|gateway| ("default".to_owned(), gateway)));
        let interface = Interface {
            addresses: texts(entry.get("addresses")),
            routes,
            dns: texts(nameservers.and_then(|n| n.get("addresses"))),
            search: texts(nameservers.and_then(|n| n.get("search"))),
            mtu: member(entry, "mtu").and_then(|mtu| mtu.parse().ok()),
            dhcp: truth(entry.get("dhcp4")).unwrap_or(false),
        };
        found.push((name.clone(), interface));
    }
    found
}

fn version_1(document: &Value, devices: &BTreeMap<String, String>) -> Vec<(String, Interface)> {
    let mut found = Vec::new();
    for entry in items(document.get("config")) {
        if member(entry, "type").as_deref() != Some("physical") {
            continue;
        }
        let by_mac =
            member(entry, "mac_address").and_then(|mac| devices.get(&mac.to_ascii_lowercase()));
        let by_name =
            || member(entry, "name").and_then(|name| devices.values().find(|n| **n == name));
        let Some(name) = by_mac.or_else(by_name) else {
            continue;
        };
        let mut interface = Interface {
            mtu: member(entry, "mtu").and_then(|mtu| mtu.parse().ok()),
            ..Interface::default()
        };
        for subnet in items(entry.get("subnets")) {
            interface.dhcp |= matches!(member(subnet, "type").as_deref(), Some("dhcp" | "dhcp4"));
            let prefix = member(subnet, "netmask")
                .and_then(|mask| prefix_of(&mask))
                .unwrap_or(24);
            interface
                .addresses
                .extend(member(subnet, "address").map(|a| {
                    if a.contains('/') {
                        a
                    } else {
                        format!("{a}/{prefix}")
                    }
                }));
            interface
                .routes
                .extend(member(subnet, "gateway").map(|gateway| ("default".to_owned(), gateway)));
            interface.dns.extend(texts(subnet.get("dns_nameservers")));
            interface.search.extend(texts(subnet.get("dns_search")));
        }
        found.push((name.clone(), interface));
    }
    found
}

fn destination(to: &str) -> String {
    if to == "0.0.0.0/0" {
        "default".to_owned()
    } else {
        to.to_owned()
    }
}

fn prefix_of(mask: &str) -> Option<u32> {
    mask.parse::<std::net::Ipv4Addr>()
        .ok()
        .map(|mask| u32::from(mask).leading_ones())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn devices() -> BTreeMap<String, String> {
        [
            ("02:00:00:00:00:01".to_owned(), "eth0".to_owned()),
            ("02:00:00:00:00:02".to_owned(), "eth1".to_owned()),
        ]
        .into()
    }

    #[test]
    fn version_2_finds_interfaces_by_mac_or_name() {
        let text = "network:\n  version: 2\n  ethernets:\n    a:\n      match: {macaddress: '02:00:00:00:00:02'}\n      addresses: [192.0.2.5/24]\n      gateway4: 192.0.2.1\n      mtu: 1400\n      nameservers: {addresses: [192.0.2.53], search: [x.test]}\n    eth0: {dhcp4: true}\n";
        let (script, fixed) = script(text, &devices()).unwrap();
        assert_eq!(fixed, ["eth1"]);
        assert!(script.contains("ip link set eth1 mtu 1400\nip addr add 192.0.2.5/24 dev eth1\nip route replace default via 192.0.2.1 dev eth1\n"), "{script}");
        assert!(
            script.contains("echo nameserver 192.0.2.53 >> /run/resolv.eth1"),
            "{script}"
        );
    }

    #[test]
    fn version_1_takes_a_netmask() {
        let text = "version: 1\nconfig:\n- type: physical\n  name: eth0\n  subnets:\n  - {type: static, address: 192.0.2.5, netmask: 255.255.255.128, gateway: 192.0.2.1}\n";
        let (script, fixed) = script(text, &devices()).unwrap();
        assert_eq!(fixed, ["eth0"]);
        assert!(
            script.contains("ip addr add 192.0.2.5/25 dev eth0"),
            "{script}"
        );
    }

    #[test]
    fn nothing_but_addresses_gets_into_the_script() {
        let text = "version: 2\nethernets:\n  eth0:\n    addresses: ['$(reboot)/24']\n    gateway4: '1.2.3.4; reboot'\n    nameservers: {addresses: ['`reboot`'], search: ['$(reboot)']}\n";
        assert!(!script(text, &devices()).unwrap().0.contains("reboot"));
        assert!(script("version: 3", &devices()).is_err());
    }
}
