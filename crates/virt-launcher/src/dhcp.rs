//! DHCP for the one guest: what a request is answered with.
//!
//! ```text
//!   DISCOVER -> OFFER      REQUEST (ours) -> ACK       INFORM -> ACK without address
//!                          REQUEST (another address) -> NAK
//!   anything else, or another MAC -> silence
//! ```
//! The lease never ends: the address is the pod's, and lives as long as it.
//! Source: RFC 2131, 2132, 3397 (search domains), 3442 (routes).

mod packet;
mod server;

pub(crate) use server::serve;

use std::net::Ipv4Addr;

use api::launcher::DhcpLease;
use api::vmi::DhcpOptions as WishedOptions;

use packet::{Kind, Reply, Request, code};

/// What one guest is told.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// The guest's MAC address.
    pub(crate) mac: [u8; 6],
    /// Addresses and routes.
    pub(crate) lease: DhcpLease,
    /// Options of the specification.
    pub(crate) wished: WishedOptions,
}

impl Offer {
    /// The answer to a packet, if it deserves one.
    pub(crate) fn reply(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let request = Request::parse(packet)?;
        let lease = &self.lease;
        let for_another = request.server.is_some_and(|s| s != lease.server);
        if request.mac != self.mac || for_another {
            return None;
        }
        let wanted = match request.requested {
            None if request.ciaddr.is_unspecified() => lease.address,
            None => request.ciaddr,
            Some(wanted) => wanted,
        };
        let kind = match request.kind {
            Kind::Discover => Kind::Offer,
            Kind::Request if wanted != lease.address => Kind::Nak,
            Kind::Request | Kind::Inform => Kind::Ack,
            Kind::Offer | Kind::Ack | Kind::Nak => return None,
        };
        // Who informs itself has an address already.
        let leases = kind != Kind::Nak && request.kind != Kind::Inform;
        let yours = if leases {
            lease.address
        } else {
            Ipv4Addr::UNSPECIFIED
        };
        let mut reply = Reply::new(&request, kind, lease.server, yours);
        if leases {
            reply.option(code::LEASE_TIME, &u32::MAX.to_be_bytes());
        }
        if kind != Kind::Nak {
            self.options(&mut reply);
        }
        Some(reply.finish())
    }

    fn options(&self, reply: &mut Reply) {
        let lease = &self.lease;
        reply.addresses(code::SUBNET_MASK, &[mask(lease.prefix_len)]);
        // A client takes the routes in their order: before the default one.
        reply.option(code::ROUTES, &self.routes());
        reply.addresses(code::ROUTER, lease.gateway.as_slice());
        reply.addresses(code::DNS, &lease.dns);
        reply.option(code::HOSTNAME, lease.hostname.as_bytes());
        // Windows takes its DNS suffix from here; the longest is the most specific.
        if let Some(domain) = lease.search.iter().max_by_key(|d| d.len()) {
            reply.option(code::DOMAIN_NAME, domain.as_bytes());
        }
        if let Ok(mtu) = u16::try_from(lease.mtu)
            && mtu >= 68
        {
            reply.option(code::MTU, &mtu.to_be_bytes());
        }
        reply.option(code::SEARCH, &search(&lease.search));
        let wished = &self.wished;
        let text = |name: &Option<String>| name.clone().unwrap_or_default().into_bytes();
        reply.option(code::TFTP_SERVER, &text(&wished.tftp_server_name));
        reply.option(code::BOOT_FILE, &text(&wished.boot_file_name));
        let ntp = wished.ntp_servers.iter().flatten();
        let ntp: Vec<Ipv4Addr> = ntp.filter_map(|s| s.parse().ok()).collect();
        reply.addresses(code::NTP, &ntp);
        for private in wished.private_options.iter().flatten() {
            if (224..=254).contains(&private.option) {
                reply.option(private.option, private.value.as_bytes());
            }
        }
    }

    /// Routes of option 121. A client that takes it ignores option 3, so the
    /// default route is among them; and a gateway outside the guest's subnet
    /// (a /32, as some pod networks give) needs a route of its own first.
    fn routes(&self) -> Vec<u8> {
        let lease = &self.lease;
        let mut routes = Vec::new();
        let far = lease.gateway.filter(|g| !lease.contains(*g));
        let told = |g: Ipv4Addr| lease.routes.iter().any(|r| r.0 == g && r.1 == 32);
        if let Some(gateway) = far.filter(|g| !told(*g)) {
            routes.push((gateway, 32, Ipv4Addr::UNSPECIFIED));
        }
        let default = |r: &&(Ipv4Addr, u8, Ipv4Addr)| r.1 == 0;
        routes.extend(lease.routes.iter().filter(|r| !default(r)));
        if routes.is_empty() {
            return Vec::new();
        }
        match (lease.routes.iter().find(default), lease.gateway) {
            (Some(route), _) => routes.push(*route),
            (None, Some(gateway)) => routes.push((Ipv4Addr::UNSPECIFIED, 0, gateway)),
            (None, None) => {}
        }
        let mut bytes = Vec::new();
        for (destination, prefix, gateway) in routes {
            let prefix = prefix.min(32);
            bytes.push(prefix);
            bytes.extend(&destination.octets()[..usize::from(prefix.div_ceil(8))]);
            bytes.extend(gateway.octets());
        }
        bytes
    }
}

/// Whether an address is in the guest's own subnet.
trait Contains {
    fn contains(&self, address: Ipv4Addr) -> bool;
}

impl Contains for DhcpLease {
    fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::from(mask(self.prefix_len));
        u32::from(self.address) & mask == u32::from(address) & mask
    }
}

fn mask(prefix: u8) -> Ipv4Addr {
    let bits = u32::from(prefix.min(32));
    Ipv4Addr::from(u32::MAX.checked_shl(32 - bits).unwrap_or(0))
}

/// Search domains, each as its labels; the ones that are no domain, or do not
/// fit into one option any more, are left out.
fn search(domains: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for domain in domains {
        let labels: Vec<&str> = domain.trim_end_matches('.').split('.').collect();
        let fine = labels.iter().all(|l| (1..=63).contains(&l.len()));
        let length: usize = labels.iter().map(|l| l.len() + 1).sum::<usize>() + 1;
        if !fine || bytes.len() + length > 255 {
            continue;
        }
        for label in labels {
            bytes.push(u8::try_from(label.len()).unwrap_or(0));
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests;
