//! Routes, sockets and addresses from /proc/net, which a captured tree can hold.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route, of either family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface it leads over.
    pub interface: String,
    /// Its network.
    pub network: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
    /// Next hop; `None` on the link itself.
    pub gateway: Option<IpAddr>,
    /// Lower is better.
    pub metric: u32,
}

impl Route {
    /// It leads everywhere.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.prefix == 0
    }

    fn covers(&self, address: IpAddr) -> bool {
        let first_bits = |bytes: &[u8]| -> u128 {
            bytes
                .iter()
                .fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
        };
        let (mine, other, width) = match (self.network, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (first_bits(&a.octets()), first_bits(&b.octets()), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (first_bits(&a.octets()), first_bits(&b.octets()), 128)
            }
            _ => return false,
        };
        match width - u32::from(self.prefix).min(width) {
            128 => true,
            shift => mine >> shift == other >> shift,
        }
    }
}

/// RTF_UP and RTF_REJECT of linux/route.h.
const UP: u32 = 1;
const REJECT: u32 = 0x200;

/// Reads /proc/net/route: hexadecimal, addresses as the machine stores them.
#[must_use]
pub fn routes_v4(text: &str) -> Vec<Route> {
    let address = |text: &str| {
        let number = u32::from_str_radix(text, 16).ok()?;
        // x86 and arm64 are little-endian; the kernel prints a __be32 with %08X.
        Some(Ipv4Addr::from(number.to_le_bytes()))
    };
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let flags = u32::from_str_radix(words.get(3)?, 16).ok()?;
            if flags & UP == 0 || flags & REJECT != 0 {
                return None;
            }
            let gateway = address(words.get(2)?)?;
            let mask = u32::from(address(words.get(7)?)?);
            Some(Route {
                interface: (*words.first()?).to_owned(),
                network: address(words.get(1)?)?.into(),
                prefix: u8::try_from(mask.leading_ones()).ok()?,
                gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
                metric: words.get(6)?.parse().ok()?,
            })
        })
        .collect()
}

/// Reads /proc/net/ipv6_route: destination, prefix, source, its prefix, next
/// hop, metric, references, uses, flags, interface; all hexadecimal.
#[must_use]
pub fn routes_v6(text: &str) -> Vec<Route> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
            let interface = *words.get(9)?;
            // The kernel keeps a reject route for "everywhere else" on lo.
            if flags & UP == 0 || flags & REJECT != 0 || interface == "lo" {
                return None;
            }
            let gateway = v6(words.get(4)?)?;
            Some(Route {
                interface: interface.to_owned(),
                network: v6(words.first()?)?.into(),
                prefix: u8::from_str_radix(words.get(1)?, 16).ok()?,
                gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
                metric: u32::from_str_radix(words.get(5)?, 16).ok()?,
            })
        })
        .collect()
}

fn v6(text: &str) -> Option<Ipv6Addr> {
    let full = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    full.then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
        .map(Ipv6Addr::from)
}

/// The interface over which packets to `address` leave: the longest prefix,
/// then the lowest metric. Policy routing is not looked at.
#[must_use]
pub fn way_to(routes: &[Route], address: IpAddr) -> Option<&Route> {
    routes
        .iter()
        .filter(|route| route.covers(address))
        .max_by_key(|route| (route.prefix, std::cmp::Reverse(route.metric)))
}

/// Reads /proc/net/if_inet6 (address, index, prefix, scope, flags, interface):
/// interface, address, bits of its network.
#[must_use]
pub fn addresses_v6(text: &str) -> Vec<(String, Ipv6Addr, u8)> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let prefix = u8::from_str_radix(words.get(2)?, 16).ok()?;
            Some(((*words.get(5)?).to_owned(), v6(words.first()?)?, prefix))
        })
        .collect()
}

/// The IPv4 addresses that are the node's own, from /proc/net/fib_trie: a leaf
/// `|-- 10.0.0.2` whose next line says `/32 host LOCAL`.
#[must_use]
pub fn local_addresses_v4(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf = None;
    for line in fib_trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = leaf
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// A socket of /proc/net/tcp, tcp6, udp or udp6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its own address.
    pub local: (IpAddr, u16),
    /// The other end's; 0 when there is none.
    pub remote: (IpAddr, u16),
    /// It waits for whoever comes: TCP in state 0A, UDP without a peer (state 07).
    pub listening: bool,
    /// It has one (state 01).
    pub established: bool,
    /// Its inode, which names it in /proc/PID/fd.
    pub inode: u64,
}

/// A line of /proc/net/tcp or tcp6 is the heading or a listener's. The kernel puts these first and
/// then walks its table of connections, which takes milliseconds however few there are.
#[must_use]
pub fn heads_or_listens(line: &str) -> bool {
    let state = line.split_whitespace().nth(3);
    matches!(state, Some("st" | "0A"))
}

/// Begins as /proc/net/tcp and its like do: without that, nothing follows from a table without sockets.
#[must_use]
pub fn heads_sockets(text: &str) -> bool {
    let heading = text.lines().next().unwrap_or_default();
    heading.split_whitespace().nth(1) == Some("local_address")
}

/// Reads /proc/net/tcp, tcp6, udp or udp6.
#[must_use]
pub fn sockets(text: &str) -> Vec<Socket> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let state = *words.get(3)?;
            Some(Socket {
                local: endpoint(words.get(1)?)?,
                remote: endpoint(words.get(2)?)?,
                listening: matches!(state, "0A" | "07"),
                established: state == "01",
                inode: words.get(9)?.parse().ok()?,
            })
        })
        .collect()
}

fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.len() {
        8 => IpAddr::from(u32::from_str_radix(address, 16).ok()?.to_le_bytes()),
        // Four words, each as the machine stores it.
        32 => {
            let mut octets = [0; 16];
            for (to, from) in octets.chunks_exact_mut(4).zip(0..4) {
                let word = u32::from_str_radix(address.get(from * 8..from * 8 + 8)?, 16).ok()?;
                to.copy_from_slice(&word.to_le_bytes());
            }
            IpAddr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

/// The two ends of `SSH_CONNECTION`: the client's address and port, then ours
/// (ssh(1), ENVIRONMENT).
#[must_use]
pub fn ssh_connection(value: &str) -> Option<((IpAddr, u16), (IpAddr, u16))> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let address = |at: usize| -> Option<IpAddr> {
        // A link-local address carries its interface after %.
        let text = words.get(at)?.split('%').next()?;
        text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
    };
    let port = |at: usize| words.get(at)?.parse().ok();
    Some(((address(0)?, port(1)?), (address(2)?, port(3)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n\
        eth2\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\ngarbage\n";

    #[test]
    fn the_way_is_the_longest_prefix() {
        let routes = routes_v4(ROUTES);
        assert_eq!(routes.len(), 3);
        assert!(routes[0].is_default());
        assert_eq!(routes[0].gateway, "10.0.2.2".parse().ok());
        for (address, expected) in [
            ("10.0.2.9", Some("eth0")),
            ("10.9.9.9", Some("eth1")),
            ("192.168.1.1", Some("eth0")),
            ("::1", None),
        ] {
            let way = address.parse().ok().and_then(|ip| way_to(&routes, ip));
            assert_eq!(way.map(|r| r.interface.as_str()), expected, "{address}");
        }
    }

    #[test]
    fn ipv6_routes_leave_out_what_rejects() {
        let zero = "0".repeat(32);
        let gateway = format!("fe80{}1", "0".repeat(27));
        let text = format!(
            "{zero} 00 {zero} 00 {gateway} 00000400 00000001 00000000 00000003 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\nshort\n"
        );
        let routes = routes_v6(&text);
        assert_eq!(routes.len(), 1);
        assert!(routes[0].is_default());
        assert_eq!(routes[0].gateway, "fe80::1".parse().ok());
        let way = "2001:db8::1"
            .parse()
            .ok()
            .and_then(|ip| way_to(&routes, ip));
        assert_eq!(way.map(|route| route.interface.as_str()), Some("eth0"));
    }

    #[test]
    fn own_addresses_are_the_local_leaves_of_the_trie() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.2.15\n        /32 host LOCAL\nLocal:\n     |-- 10.0.2.15\n        /32 host LOCAL\n";
        assert_eq!(local_addresses_v4(text), [Ipv4Addr::new(10, 0, 2, 15)]);
    }

    #[test]
    fn sockets_of_both_families_are_read() {
        let text = "  sl  local_address rem_address   st\n   \
            0: 0F02000A:0016 0202000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 123 1\n   \
            1: 00000000000000000000000000000000:192B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 124 1\n   \
            2: 0000000000000000FFFF00000F02000A:0016 0000000000000000FFFF00000202000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 125 1\n x\n";
        let found = sockets(text);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].local, (IpAddr::from([10, 0, 2, 15]), 22));
        assert!(found[0].established && !found[0].listening);
        assert!(found[1].listening);
        assert_eq!(found[1].local.1, 6443);
        assert_eq!(found[2].remote.0, IpAddr::from([10, 0, 2, 2]));
    }

    #[test]
    fn the_ends_of_an_ssh_connection_are_told() {
        let ends = ssh_connection("10.0.2.2 41234 10.0.2.15 22");
        assert_eq!(ends.map(|(_, own)| own.0), "10.0.2.15".parse().ok());
        assert!(ssh_connection("fe80::1%eth0 1 fe80::2%eth0 22").is_some());
        assert_eq!(ssh_connection("10.0.2.2 41234"), None);
    }
}
