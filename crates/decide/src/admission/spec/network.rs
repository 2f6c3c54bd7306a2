//! Networks and interfaces.
//!
//! Source: pkg/network/admitter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde_json::Value;

use super::super::context::ClusterConfig;
use super::super::json::{at, has, list_at, text, text_at};
use super::super::names;
use super::super::verdict::Reason;
use super::disks::is_pci_address;
use super::{Causes, Path};

/// Models of network cards; `virtio` is the default.
const MODELS: [&str; 7] = [
    "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139", "virtio",
];
/// Ways an interface can be joined to its network.
const BINDINGS: [&str; 5] = ["bridge", "masquerade", "sriov", "passtBinding", "binding"];
/// Ways that were once possible.
const DISCONTINUED: [&str; 3] = ["slirp", "passt", "macvtap"];
/// Address of the bridge inside the pod. Source: pkg/network/link/mac.go.
const BRIDGE_MAC: &str = "02:00:00:00:00:00";
/// DHCP options for private use. Source: RFC 3942.
const PRIVATE_OPTIONS: std::ops::RangeInclusive<i64> = 224..=254;

/// Networks, interfaces and how they fit.
pub(super) fn check(path: &Path, spec: &Value, config: &ClusterConfig, out: &mut Causes) {
    let networks = list_at(spec, "networks");
    let nics = list_at(spec, "domain.devices.interfaces");
    let at_networks = path.child("networks");
    let at_nics = path.child("domain.devices.interfaces");
    let by_name: BTreeMap<&str, &Value> = networks
        .iter()
        .map(|net| (text_at(net, "name"), net))
        .collect();

    sources(path, &at_networks, networks, out);
    for (index, nic) in nics.iter().enumerate() {
        let network = by_name
            .get(text_at(nic, "name"))
            .copied()
            .unwrap_or(&Value::Null);
        state(&at_nics.index(index), nic, network, out);
    }
    for (index, nic) in nics.iter().enumerate() {
        let network = by_name
            .get(text_at(nic, "name"))
            .copied()
            .unwrap_or(&Value::Null);
        binding(&at_nics.index(index), nic, network, config, out);
    }
    let mut seen = BTreeSet::new();
    for (index, network) in networks.iter().enumerate() {
        let name = text_at(network, "name");
        if !seen.insert(name) {
            out.add(
                Reason::Duplicate,
                &at_networks.index(index).child("name"),
                format!(
                    "Network with name {name:?} already exists, every network must have a unique name"
                ),
            );
        }
    }
    for (index, network) in networks.iter().enumerate() {
        let name = text_at(network, "name");
        if !nics.iter().any(|nic| text_at(nic, "name") == name) {
            let field = at_networks.index(index).child("name");
            out.add(
                Reason::Required,
                &field,
                format!("{field} '{name}' not found."),
            );
        }
    }
    let mut seen = BTreeSet::new();
    for (index, nic) in nics.iter().enumerate() {
        if !seen.insert(text_at(nic, "name")) {
            out.add(
                Reason::Duplicate,
                &at_nics.index(index).child("name"),
                "Only one interface can be connected to one specific network",
            );
        }
    }
    for (index, nic) in nics.iter().enumerate() {
        let name = text_at(nic, "name");
        if !by_name.contains_key(name) {
            let field = at_nics.index(index).child("name");
            out.invalid(&field, format!("{field} '{name}' not found."));
        }
    }
    for (index, nic) in nics.iter().enumerate() {
        let network = by_name
            .get(text_at(nic, "name"))
            .copied()
            .unwrap_or(&Value::Null);
        fields(path, &at_nics.index(index), nic, network, out);
    }
}

fn sources(path: &Path, at_networks: &Path, networks: &[Value], out: &mut Causes) {
    let pods = networks.iter().filter(|net| has(net, "pod")).count();
    if pods > 1 {
        let field = path.child("interfaces");
        out.add(
            Reason::Duplicate,
            &field,
            format!("more than one interface is connected to a pod network in {field}"),
        );
    }
    for (index, network) in networks.iter().enumerate() {
        // genie is refused as a field; counting it here would say so twice.
        let count = ["pod", "multus", "resourceClaim", "genie"]
            .iter()
            .filter(|source| has(network, source))
            .count();
        let message = match count {
            0 => "should have a network type",
            1 => continue,
            _ => "should have only one network type",
        };
        out.add(Reason::Required, &at_networks.index(index), message);
    }
    for (index, network) in networks.iter().enumerate() {
        let cidr = text_at(network, "pod.vmNetworkCIDR");
        if !cidr.is_empty() && !is_usable_cidr(cidr) {
            let field = at_networks.index(index).child("pod.vmNetworkCIDR");
            out.invalid(
                &field,
                format!("{field} '{cidr}' must be an IPv4 network with room for two hosts"),
            );
        }
    }
}

/// Masquerade takes two addresses of the network: gateway and guest.
fn is_usable_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        address.parse::<Ipv4Addr>().is_ok() && length.parse::<u8>().is_ok_and(|length| length <= 30)
    })
}

fn state(path: &Path, nic: &Value, network: &Value, out: &mut Causes) {
    let (name, state) = (text_at(nic, "name"), text_at(nic, "state"));
    let field = path.child("state");
    match state {
        "" | "up" | "down" => {}
        "absent" => {
            if !has(nic, "bridge") {
                out.invalid(
                    &field,
                    format!(
                        "{name:?} interface's state \"absent\" is supported only for bridge binding"
                    ),
                );
            }
            if has(network, "pod") {
                out.invalid(
                    &field,
                    format!(
                        "{name:?} interface's state \"absent\" is not supported on default networks"
                    ),
                );
            }
        }
        _ => out.invalid(
            &field,
            format!("logical {name} interface state value is unsupported: {state}"),
        ),
    }
}

fn binding(path: &Path, nic: &Value, network: &Value, config: &ClusterConfig, out: &mut Causes) {
    let count = BINDINGS.iter().filter(|binding| has(nic, binding)).count();
    // A discontinued binding alone is refused as a field.
    let discontinued = DISCONTINUED.iter().any(|binding| has(nic, binding));
    if count != 1 && !(count == 0 && discontinued) {
        out.invalid(
            path,
            format!(
                "logical {} interface must have exactly one binding method or binding plugin",
                text_at(nic, "name")
            ),
        );
    }
    if has(nic, "masquerade") {
        if !has(network, "pod") {
            out.invalid(
                &path.child("name"),
                "Masquerade interface only implemented with pod network",
            );
        }
        if text_at(nic, "macAddress") == BRIDGE_MAC {
            out.invalid(
                &path.child("macAddress"),
                "The requested MAC address is reserved for the in-pod bridge. Please choose another one.",
            );
        }
    }
    if has(nic, "bridge") && has(network, "pod") && !config.bridge_on_pod_network {
        out.invalid(
            &path.child("name"),
            "Bridge on pod network configuration is not enabled under kubevirt-config",
        );
    }
}

fn fields(spec_path: &Path, path: &Path, nic: &Value, network: &Value, out: &mut Causes) {
    let at_name = path.child("name");
    let name = text_at(nic, "name");
    if name.is_empty()
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    {
        out.invalid(
            &at_name,
            "Network interface name can only contain alphabetical characters, numbers, dashes (-) or underscores (_)",
        );
    }
    let model = text_at(nic, "model");
    if !model.is_empty() && !MODELS.contains(&model) {
        out.add(
            Reason::NotSupported,
            &path.child("model"),
            format!("interface {at_name} uses model {model} that is not supported."),
        );
    }
    let mac = text_at(nic, "macAddress");
    if let Some(why) = mac_mistake(mac) {
        out.invalid(
            &path.child("macAddress"),
            format!("interface {at_name} has {why} MAC address ({mac})."),
        );
    }
    let address = text_at(nic, "pciAddress");
    if !address.is_empty() && !is_pci_address(address) {
        out.invalid(
            &path.child("pciAddress"),
            format!("interface {at_name} has malformed PCI address ({address})."),
        );
    }
    if has(network, "pod") {
        ports(&path.child("ports"), list_at(nic, "ports"), out);
    }
    dhcp(
        spec_path,
        &path.child("dhcpOptions"),
        at(nic, "dhcpOptions"),
        out,
    );
}

/// What is wrong with a MAC address in one of the notations Go reads
/// (`01:23:…`, `01-23-…`, `0123.4567.89ab`); upstream takes 6 bytes at most.
fn mac_mistake(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return None;
    }
    let separated = |separator: char, width: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let good = parts
            .iter()
            .all(|part| part.len() == width && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
        good.then_some(parts.len() * width / 2)
    };
    match separated(':', 2)
        .or_else(|| separated('-', 2))
        .or_else(|| separated('.', 4))
    {
        Some(6) => None,
        Some(8 | 20) => Some("too long"),
        _ => Some("malformed"),
    }
}

fn ports(path: &Path, ports: &[Value], out: &mut Causes) {
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let name = text_at(port, "name");
        if name.is_empty() {
            continue;
        }
        let field = path.index(index).child("name");
        if !seen.insert(name) {
            out.add(
                Reason::Duplicate,
                &field,
                format!("Duplicate name of the port: {name}"),
            );
        }
        if !names::is_port_name(name) {
            out.invalid(&field, format!("Invalid name of the port: {name}"));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let field = path.index(index);
        match at(port, "port").as_i64().unwrap_or(0) {
            0 => out.add(
                Reason::Required,
                &field.child("port"),
                "Port field is mandatory.",
            ),
            1..=65535 => {}
            _ => out.invalid(
                &field.child("port"),
                "Port field must be in range 0 < x < 65536.",
            ),
        }
        if !["", "TCP", "UDP"].contains(&text_at(port, "protocol")) {
            out.invalid(
                &field.child("protocol"),
                "Unknown protocol, only TCP or UDP allowed",
            );
        }
    }
}

fn dhcp(spec_path: &Path, path: &Path, options: &Value, out: &mut Causes) {
    let codes: Vec<i64> = list_at(options, "privateOptions")
        .iter()
        .map(|option| at(option, "option").as_i64().unwrap_or(0))
        .collect();
    if codes.iter().collect::<BTreeSet<_>>().len() < codes.len() {
        out.invalid(
            spec_path,
            "Found Duplicates: you have provided duplicate DHCPPrivateOptions",
        );
    }
    for _ in codes.iter().filter(|code| !PRIVATE_OPTIONS.contains(code)) {
        out.invalid(
            spec_path,
            "provided DHCPPrivateOptions are out of range, must be in range 224 to 254",
        );
    }
    for (index, server) in list_at(options, "ntpServers").iter().map(text).enumerate() {
        if server.parse::<Ipv4Addr>().is_err() {
            out.invalid(
                &path.child("ntpServers").index(index),
                "NTP servers must be a list of valid IPv4 addresses.",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses() {
        for good in [
            "",
            "de:ad:00:00:be:af",
            "DE-AD-00-00-BE-AF",
            "dead.0000.beaf",
        ] {
            assert_eq!(mac_mistake(good), None, "{good}");
        }
        for bad in ["de:ad", "de:ad:00:00:be:ag", "de-ad:00:00:be:af", "x"] {
            assert_eq!(mac_mistake(bad), Some("malformed"), "{bad}");
        }
        assert_eq!(mac_mistake("de:ad:00:00:be:af:00:01"), Some("too long"));
    }

    #[test]
    fn networks_of_masquerade() {
        assert!(is_usable_cidr("10.0.2.0/24"));
        for bad in ["10.0.2.0", "10.0.2.0/31", "fd00::/64", "x/24"] {
            assert!(!is_usable_cidr(bad), "{bad}");
        }
    }
}
