//! What the VMI asks for, and what the guest gets for it.

use std::net::Ipv4Addr;

use api::VirtualMachineInstance;
use api::launcher::{DhcpLease, Nic};

use super::record::Record;
use super::resolv::Resolv;
use super::uplink::{Uplink, subnet};
use super::{BRIDGE, NetworkError, TAP};

/// Address of the DHCP server on the bridge of a bridge binding: link-local, so
/// it cannot be anybody's. The one upstream uses.
const BRIDGE_SERVER: Ipv4Addr = Ipv4Addr::new(169, 254, 75, 10);
/// Subnet of a masquerade binding that names none (upstream's default).
const DEFAULT_CIDR: &str = "10.0.2.0/24";

/// A port that masquerade lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// UDP instead of TCP.
    pub(super) udp: bool,
    /// 1 to 65535.
    pub(super) number: u16,
}

/// How the guest is joined to the pod's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// The guest has the pod's address.
    Bridge,
    /// The guest is behind the pod's address.
    Masquerade {
        /// Gateway and DHCP server: the bridge.
        gateway: Ipv4Addr,
        /// The guest.
        guest: Ipv4Addr,
        /// Prefix length of both.
        prefix_len: u8,
        /// Ports let in; all when empty.
        ports: Vec<Port>,
    },
}

/// The interface on the pod network that a VMI asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Network name.
    pub(super) network: String,
    /// How.
    pub(super) binding: Binding,
    /// MAC address of the guest, if it is to have a certain one.
    pub(super) mac: Option<String>,
    /// Queues of the interface.
    pub(super) queues: u32,
    /// Host name of the guest.
    pub(super) hostname: String,
    /// First search domain, before the pod's.
    pub(super) subdomain: Option<String>,
}

/// Reads the wish; `None` when the VMI has no interface.
pub(super) fn wish(vmi: &VirtualMachineInstance) -> Result<Option<Wish>, NetworkError> {
    let devices = &vmi.spec.domain.devices;
    let Some(interface) = devices.interfaces.first() else {
        return Ok(None);
    };
    if devices.interfaces.len() > 1 {
        return Err(NetworkError::Spec {
            path: "spec.domain.devices.interfaces",
            expected: "at most one interface",
            found: devices.interfaces.len().to_string(),
        });
    }
    let network = vmi
        .spec
        .networks
        .iter()
        .find(|network| network.name == interface.name);
    let Some(pod_network) = network.and_then(|network| network.pod.as_ref()) else {
        return Err(NetworkError::Spec {
            path: "spec.domain.devices.interfaces[0].name",
            expected: "the name of a pod network in spec.networks",
            found: interface.name.clone(),
        });
    };
    let binding = if interface.masquerade.is_some() {
        let ports = interface.ports.iter().map(|port| {
            Ok(Port {
                udp: port.protocol.eq_ignore_ascii_case("udp"),
                number: port_number(port.port)?,
            })
        });
        let ports = ports.collect::<Result<_, NetworkError>>()?;
        let (gateway, guest, prefix_len) = pair(
            pod_network
                .vm_network_cidr
                .as_deref()
                .unwrap_or(DEFAULT_CIDR),
        )?;
        Binding::Masquerade {
            gateway,
            guest,
            prefix_len,
            ports,
        }
    } else {
        Binding::Bridge
    };
    let cpu = vmi.spec.domain.cpu.clone().unwrap_or_default();
    let vcpus = cpu.cores.unwrap_or(1).max(1)
        * cpu.sockets.unwrap_or(1).max(1)
        * cpu.threads.unwrap_or(1).max(1);
    let virtio = interface
        .model
        .as_deref()
        .is_none_or(|model| model.starts_with("virtio"));
    let several = devices.network_interface_multi_queue.unwrap_or(false) && virtio;
    Ok(Some(Wish {
        network: interface.name.clone(),
        binding,
        mac: interface
            .mac_address
            .as_ref()
            .map(|mac| mac.to_ascii_lowercase().replace('-', ":")),
        // 256 is the kernel's limit for queues of a tap (drivers/net/tun.c).
        queues: if several { vcpus.min(256) } else { 1 },
        hostname: decide::pod::hostname(vmi),
        subdomain: vmi
            .spec
            .subdomain
            .clone()
            .filter(|subdomain| !subdomain.is_empty()),
    }))
}

fn port_number(number: i32) -> Result<u16, NetworkError> {
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| NetworkError::Spec {
            path: "spec.domain.devices.interfaces[0].ports",
            expected: "a port of 1 to 65535",
            found: number.to_string(),
        })
}

/// First and second host address of a subnet.
fn pair(cidr: &str) -> Result<(Ipv4Addr, Ipv4Addr, u8), NetworkError> {
    let parsed = cidr.split_once('/').and_then(|(address, prefix_len)| {
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix_len: u8 = prefix_len
            .parse()
            .ok()
            .filter(|length| (1..=30).contains(length))?;
        let base = subnet(address, prefix_len).to_bits();
        Some((
            Ipv4Addr::from_bits(base + 1),
            Ipv4Addr::from_bits(base + 2),
            prefix_len,
        ))
    });
    parsed.ok_or_else(|| NetworkError::Spec {
        path: "spec.networks[0].pod.vmNetworkCIDR",
        expected: "an IPv4 subnet such as 10.0.2.0/24 with room for two hosts",
        found: cidr.to_owned(),
    })
}

/// What the guest gets.
pub(super) fn decide(wish: &Wish, uplink: Uplink, resolv: &Resolv, pod_uid: &str) -> Record {
    let mut search = resolv.search.clone();
    if let (Some(subdomain), Some(first)) = (&wish.subdomain, resolv.search.first()) {
        search.insert(0, format!("{subdomain}.{first}"));
    }
    let mut lease = DhcpLease {
        bridge: BRIDGE.to_owned(),
        server: BRIDGE_SERVER,
        address: uplink.address,
        prefix_len: uplink.prefix_len,
        gateway: uplink.gateway(),
        routes: uplink.further_routes(),
        dns: resolv.servers.clone(),
        search,
        hostname: wish.hostname.clone(),
        mtu: uplink.mtu,
    };
    let mut mac = wish.mac.clone().unwrap_or_else(|| mac_text(uplink.mac));
    let translated = matches!(wish.binding, Binding::Masquerade { .. });
    if let Binding::Masquerade {
        gateway,
        guest,
        prefix_len,
        ..
    } = wish.binding
    {
        lease.server = gateway;
        lease.gateway = Some(gateway);
        lease.address = guest;
        lease.prefix_len = prefix_len;
        lease.routes = Vec::new();
        mac = wish
            .mac
            .clone()
            .unwrap_or_else(|| mac_text(made_mac(pod_uid, 1)));
    }
    let nic = Nic {
        network: wish.network.clone(),
        tap: TAP.to_owned(),
        mac,
        mtu: uplink.mtu,
        queues: wish.queues,
        dhcp: Some(lease),
    };
    Record {
        uplink,
        nic,
        translated,
    }
}

/// The usual form.
fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// A locally administered address (IEEE 802: second bit of the first byte)
/// from the pod's UID, the same whenever it is asked for.
pub(super) fn made_mac(pod_uid: &str, salt: u8) -> [u8; 6] {
    // FNV-1a, 64 bits: spreads well, and nothing here needs more.
    let hash = pod_uid
        .bytes()
        .chain([salt])
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
    [0x02, a, b, c, d, e]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{from_value, json};

    fn vmi(interface: &serde_json::Value, network: &serde_json::Value) -> VirtualMachineInstance {
        from_value(json!({
            "metadata": {"name": "a"},
            "spec": {
                "subdomain": "sub",
                "domain": {
                    "cpu": {"cores": 2},
                    "devices": {"interfaces": [interface], "networkInterfaceMultiqueue": true}
                },
                "networks": [{"name": "default", "pod": network}]
            }
        }))
        .unwrap()
    }

    fn uplink() -> Uplink {
        Uplink {
            mac: [0x0a, 0, 0, 0, 0, 1],
            mtu: 1450,
            address: Ipv4Addr::new(10, 244, 1, 5),
            prefix_len: 24,
            routes: vec![(Ipv4Addr::UNSPECIFIED, 0, Some(Ipv4Addr::new(10, 244, 1, 1)))],
        }
    }

    fn resolv() -> Resolv {
        Resolv {
            servers: vec![Ipv4Addr::new(10, 96, 0, 10)],
            search: vec!["n.svc.cluster.local".to_owned()],
        }
    }

    #[test]
    fn a_bridged_guest_takes_address_and_mac_of_the_pod() {
        let wish = wish(&vmi(&json!({"name": "default", "bridge": {}}), &json!({})))
            .unwrap()
            .unwrap();
        let record = decide(&wish, uplink(), &resolv(), "p");
        assert_eq!(record.nic.mac, "0a:00:00:00:00:01");
        assert_eq!(
            (record.nic.mtu, record.nic.queues, record.translated),
            (1450, 2, false)
        );
        let lease = record.nic.dhcp.unwrap();
        assert_eq!(lease.address, Ipv4Addr::new(10, 244, 1, 5));
        assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 244, 1, 1)));
        assert_eq!(
            lease.search,
            ["sub.n.svc.cluster.local", "n.svc.cluster.local"]
        );
        assert_eq!(lease.hostname, "a");
    }

    #[test]
    fn a_masqueraded_guest_is_the_second_host_of_its_subnet() {
        let interface = json!({"name": "default", "masquerade": {}, "model": "e1000",
            "macAddress": "DE-AD-00-00-BE-EF", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]});
        let wish = wish(&vmi(
            &interface,
            &json!({"vmNetworkCIDR": "192.168.7.0/24"}),
        ))
        .unwrap()
        .unwrap();
        let Binding::Masquerade { ports, .. } = &wish.binding else {
            unreachable!()
        };
        assert_eq!(
            ports,
            &[
                Port {
                    udp: false,
                    number: 80
                },
                Port {
                    udp: true,
                    number: 53
                }
            ]
        );
        let record = decide(&wish, uplink(), &resolv(), "p");
        assert_eq!(
            (record.nic.mac.as_str(), record.nic.queues),
            ("de:ad:00:00:be:ef", 1)
        );
        let lease = record.nic.dhcp.unwrap();
        assert_eq!(lease.address, Ipv4Addr::new(192, 168, 7, 2));
        assert_eq!(
            (lease.gateway, lease.server),
            (Some(lease.server), Ipv4Addr::new(192, 168, 7, 1))
        );
    }

    #[test]
    fn made_addresses_are_local_stable_and_differ() {
        assert_eq!(made_mac("p", 1), made_mac("p", 1));
        assert_ne!(made_mac("p", 1), made_mac("p", 2));
        assert_ne!(made_mac("p", 1), made_mac("q", 1));
        assert_eq!(made_mac("p", 1)[0], 2);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_path() {
        for (interface, network, path) in [
            (
                json!({"name": "other", "bridge": {}}),
                json!({}),
                "interfaces[0].name",
            ),
            (
                json!({"name": "default", "masquerade": {}}),
                json!({"vmNetworkCIDR": "10.0.0.0/31"}),
                "vmNetworkCIDR",
            ),
            (
                json!({"name": "default", "masquerade": {}, "ports": [{"port": 0}]}),
                json!({}),
                "ports",
            ),
        ] {
            let error = wish(&vmi(&interface, &network)).unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
    }
}
