//! Name servers and search domains of the pod (resolv.conf(5)), for DHCP.

use std::net::Ipv4Addr;
use std::path::Path;

/// No sane resolv.conf is longer, bytes.
const LIMIT: u64 = 64 * 1024;

/// What the guest's DHCP lease says about names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolv {
    /// Name servers with IPv4 addresses.
    pub(super) servers: Vec<Ipv4Addr>,
    /// Search domains.
    pub(super) search: Vec<String>,
}

/// As process `pid` sees it. A guest without names is better than none.
pub(super) fn of_process(pid: u32) -> Resolv {
    match host::files::read_of_process(pid, Path::new("/etc/resolv.conf"), LIMIT) {
        Ok(bytes) => parse(&String::from_utf8_lossy(&bytes)),
        Err(error) => {
            tracing::warn!(
                pid,
                "no name servers for the guest: reading /etc/resolv.conf: {error}"
            );
            Resolv::default()
        }
    }
}

fn parse(text: &str) -> Resolv {
    let mut resolv = Resolv::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => resolv
                .servers
                .extend(words.next().and_then(|word| word.parse::<Ipv4Addr>().ok())),
            // The last one counts.
            Some("search" | "domain") => resolv.search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    // The root alone searches nothing.
    resolv.search.retain(|domain| domain != ".");
    resolv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_search_domains_are_read() {
        let text = "# x\nsearch n.svc.cluster.local svc.cluster.local .\nnameserver 10.96.0.10\n\
                    nameserver fd00::a\noptions ndots:5\n";
        let resolv = parse(text);
        assert_eq!(resolv.servers, [Ipv4Addr::new(10, 96, 0, 10)]);
        assert_eq!(resolv.search, ["n.svc.cluster.local", "svc.cluster.local"]);
    }
}
