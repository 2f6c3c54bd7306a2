//! Masquerade binding: the pod keeps its address, and nft translates.

use std::fmt::Write;
use std::net::Ipv4Addr;

use host::links::Links;

use super::plan::{Binding, Port, Wish};
use super::record::Record;
use super::{BRIDGE, NetworkError, UPLINK, find, quiet, tap};

/// MAC address of the guest's gateway; only the guest sees it. Upstream's.
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];

/// Joins; every step looks first.
pub(super) fn join(links: &Links, record: &Record, wish: &Wish) -> Result<(), NetworkError> {
    let Binding::Masquerade {
        gateway,
        guest,
        prefix_len,
        ports,
    } = &wish.binding
    else {
        return Ok(());
    };
    if links.find(BRIDGE)?.is_none() {
        links.add_bridge(BRIDGE, GATEWAY_MAC, record.uplink.mtu)?;
    }
    let bridge = find(links, BRIDGE)?;
    quiet(BRIDGE)?;
    links.add_address(bridge.index, *gateway, *prefix_len)?;
    tap(links, &record.nic, bridge.index)?;
    host::sysctl::set("net/ipv4/ip_forward", "1").map_err(NetworkError::Kernel)?;
    // Answers to connections that were opened on the pod's loopback come back
    // through the bridge with a loopback address.
    host::sysctl::set(&format!("net/ipv4/conf/{BRIDGE}/route_localnet"), "1")
        .map_err(NetworkError::Kernel)?;
    host::nft::apply(&ruleset(*gateway, *guest, ports)).map_err(NetworkError::Kernel)
}

/// Replaces our table whole.
///
/// What comes in on the pod's interface goes to the guest, all or the listed
/// ports; so does what is opened on the pod's loopback (kubectl port-forward);
/// what the guest sends out has the pod's address.
fn ruleset(gateway: Ipv4Addr, guest: Ipv4Addr, ports: &[Port]) -> String {
    let mut inbound = String::new();
    let mut local = String::new();
    for matched in matches(ports) {
        // Writing to a string cannot fail.
        let _ = writeln!(inbound, "    iifname \"{UPLINK}\" {matched}dnat to {guest}");
        let _ = writeln!(local, "    ip daddr 127.0.0.1 {matched}dnat to {guest}");
    }
    format!(
        "table ip kubevirt {{}}\n\
         delete table ip kubevirt\n\
         table ip kubevirt {{\n\
         \x20 chain prerouting {{\n\
         \x20   type nat hook prerouting priority -100;\n\
         {inbound}\
         \x20 }}\n\
         \x20 chain output {{\n\
         \x20   type nat hook output priority -100;\n\
         {local}\
         \x20 }}\n\
         \x20 chain postrouting {{\n\
         \x20   type nat hook postrouting priority 100;\n\
         \x20   oifname \"{BRIDGE}\" ip saddr 127.0.0.1 snat to {gateway}\n\
         \x20   oifname \"{UPLINK}\" ip saddr {guest} masquerade\n\
         \x20 }}\n\
         }}\n"
    )
}

/// The match of each kind of traffic that is let in; the empty one lets in all.
fn matches(ports: &[Port]) -> Vec<String> {
    if ports.is_empty() {
        return vec![String::new()];
    }
    let mut found = Vec::new();
    for (protocol, udp) in [("tcp", false), ("udp", true)] {
        let numbers: Vec<String> = ports
            .iter()
            .filter(|port| port.udp == udp)
            .map(|port| port.number.to_string())
            .collect();
        if !numbers.is_empty() {
            found.push(format!("{protocol} dport {{ {} }} ", numbers.join(", ")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ports_or_the_listed_ones_are_let_in() {
        assert_eq!(matches(&[]), [""]);
        let ports = [
            Port {
                udp: false,
                number: 80,
            },
            Port {
                udp: true,
                number: 53,
            },
            Port {
                udp: false,
                number: 22,
            },
        ];
        assert_eq!(
            matches(&ports),
            ["tcp dport { 80, 22 } ", "udp dport { 53 } "]
        );
    }
}
