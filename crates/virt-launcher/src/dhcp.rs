//! DHCP for the one guest: what a request is answered with.
//!
//! ```text
//!   DISCOVER -> OFFER      REQUEST (ours) -> ACK       INFORM -> ACK without address
//!                          REQUEST (another address) -> NAK
//!   anything else, or another MAC -> silence
//! ```
//! The lease never ends: the address is the pod's, and lives as long as it.
//! Source: RFC 2131, 2132, 3397 (search domains), 3442 (routes).

mod server;

pub(crate) use server::serve;

use std::net::Ipv4Addr;

use api::launcher::DhcpLease;
use api::vmi::DhcpOptions as WishedOptions;
use dhcproto::v4::{
    DhcpOption, Encodable, Message, MessageType, Opcode, OptionCode, UnknownOption,
};
use dhcproto::{Decodable, Decoder};

/// Shortest message that old clients take (RFC 1542).
const MIN_MESSAGE: usize = 300;

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
        // Looked at before decoding: Ethernet, six bytes of address, and ours.
        if packet.get(..3)? != [1, 1, 6] || packet.get(28..34)? != self.mac {
            return None;
        }
        let request = Message::decode(&mut Decoder::new(packet)).ok()?;
        let for_another = match request.opts().get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => *server != self.lease.server,
            _ => false,
        };
        if for_another {
            return None;
        }
        let DhcpOption::MessageType(kind) = request.opts().get(OptionCode::MessageType)? else {
            return None;
        };
        let kind = match kind {
            MessageType::Discover => MessageType::Offer,
            MessageType::Request if self.asks_for_another_address(&request) => MessageType::Nak,
            MessageType::Request | MessageType::Inform => MessageType::Ack,
            _ => return None,
        };
        let inform = request.yiaddr() == Ipv4Addr::UNSPECIFIED
            && matches!(
                request.opts().get(OptionCode::MessageType),
                Some(DhcpOption::MessageType(MessageType::Inform))
            );
        self.message(&request, kind, inform)
    }

    fn asks_for_another_address(&self, request: &Message) -> bool {
        match request.opts().get(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(wanted)) => *wanted != self.lease.address,
            _ => !request.ciaddr().is_unspecified() && request.ciaddr() != self.lease.address,
        }
    }

    fn message(&self, request: &Message, kind: MessageType, inform: bool) -> Option<Vec<u8>> {
        let mut reply = Message::new_with_id(
            request.xid(),
            request.ciaddr(),
            Ipv4Addr::UNSPECIFIED,
            self.lease.server,
            Ipv4Addr::UNSPECIFIED,
            &self.mac,
        );
        reply
            .set_opcode(Opcode::BootReply)
            .set_flags(request.flags());
        let opts = reply.opts_mut();
        opts.insert(DhcpOption::MessageType(kind));
        opts.insert(DhcpOption::ServerIdentifier(self.lease.server));
        if kind != MessageType::Nak {
            self.options(opts, inform);
            if !inform {
                reply.set_yiaddr(self.lease.address);
            }
        }
        let mut bytes = reply.to_vec().ok()?;
        bytes.resize(bytes.len().max(MIN_MESSAGE), 0);
        Some(bytes)
    }

    fn options(&self, opts: &mut dhcproto::v4::DhcpOptions, inform: bool) {
        let lease = &self.lease;
        if !inform {
            opts.insert(DhcpOption::AddressLeaseTime(u32::MAX));
        }
        opts.insert(DhcpOption::SubnetMask(mask(lease.prefix_len)));
        if let Some(gateway) = lease.gateway {
            opts.insert(DhcpOption::Router(vec![gateway]));
        }
        if !lease.dns.is_empty() {
            opts.insert(DhcpOption::DomainNameServer(lease.dns.clone()));
        }
        if let Ok(mtu) = u16::try_from(lease.mtu)
            && mtu >= 68
        {
            opts.insert(DhcpOption::InterfaceMtu(mtu));
        }
        if !lease.hostname.is_empty() {
            opts.insert(DhcpOption::Hostname(lease.hostname.clone()));
        }
        raw(opts, OptionCode::ClasslessStaticRoute, self.routes());
        raw(opts, OptionCode::DomainSearch, search(&lease.search));
        // Windows takes its DNS suffix from here; the longest is the most specific.
        if let Some(domain) = lease.search.iter().max_by_key(|d| d.len()) {
            opts.insert(DhcpOption::DomainName(domain.clone()));
        }
        let wished = &self.wished;
        if let Some(name) = &wished.tftp_server_name {
            raw(opts, OptionCode::TFTPServerName, name.clone().into_bytes());
        }
        if let Some(name) = &wished.boot_file_name {
            raw(opts, OptionCode::BootfileName, name.clone().into_bytes());
        }
        let ntp: Vec<Ipv4Addr> = wished
            .ntp_servers
            .iter()
            .flatten()
            .filter_map(|s| s.parse().ok())
            .collect();
        if !ntp.is_empty() {
            opts.insert(DhcpOption::NtpServers(ntp));
        }
        for private in wished.private_options.iter().flatten() {
            if (224..=254).contains(&private.option) {
                let code = OptionCode::from(private.option);
                raw(opts, code, private.value.clone().into_bytes());
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

fn raw(opts: &mut dhcproto::v4::DhcpOptions, code: OptionCode, data: Vec<u8>) {
    if !data.is_empty() {
        opts.insert(DhcpOption::Unknown(UnknownOption::new(code, data)));
    }
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
