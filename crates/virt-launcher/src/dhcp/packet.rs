//! DHCP messages as bytes.
//!
//! Read and written here and not by a library, because requests come from the
//! guest: the libraries there are decode every option there is, and panic on
//! some that lie about their length. Here four options are looked at, by
//! slices that cannot leave the packet. (Tests let a library read the replies.)
//!
//! ```text
//!   0 op  1 htype  2 hlen  3 hops   4 xid   8 secs  10 flags
//!   12 ciaddr  16 yiaddr  20 siaddr  24 giaddr  28 chaddr[16]
//!   44 sname[64]  108 file[128]  236 magic  240 options: code length bytes … 255
//! ```
//! Source: RFC 2131, RFC 2132; long options by RFC 3396.

use std::net::Ipv4Addr;

const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Where options begin.
const OPTIONS: usize = 240;
/// Shortest message that old clients take (RFC 1542).
const MIN_MESSAGE: usize = 300;

/// Codes of the options that are read or written.
pub(super) mod code {
    #![allow(missing_docs)]
    pub(crate) const SUBNET_MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const DNS: u8 = 6;
    pub(crate) const HOSTNAME: u8 = 12;
    pub(crate) const DOMAIN_NAME: u8 = 15;
    pub(crate) const MTU: u8 = 26;
    pub(crate) const NTP: u8 = 42;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const KIND: u8 = 53;
    pub(crate) const SERVER: u8 = 54;
    pub(crate) const TFTP_SERVER: u8 = 66;
    pub(crate) const BOOT_FILE: u8 = 67;
    pub(crate) const SEARCH: u8 = 119;
    pub(crate) const ROUTES: u8 = 121;
}

/// Kinds of messages (option 53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Ack = 5,
    Nak = 6,
    Inform = 8,
}

/// What is read of a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Transaction, secs and flags: bytes 4 to 12, echoed.
    echoed: [u8; 8],
    /// Address the client has.
    pub(super) ciaddr: Ipv4Addr,
    /// Relay that passed it on, echoed.
    giaddr: [u8; 4],
    /// Hardware address.
    pub(super) mac: [u8; 6],
    /// What it wants.
    pub(super) kind: Kind,
    /// Address it wants.
    pub(super) requested: Option<Ipv4Addr>,
    /// Server it talks to.
    pub(super) server: Option<Ipv4Addr>,
}

impl Request {
    /// A request of an Ethernet client, or nothing.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        if packet.get(..3)? != [1, 1, 6] || packet.get(236..OPTIONS)? != MAGIC {
            return None;
        }
        let mut request = Self {
            echoed: packet.get(4..12)?.try_into().ok()?,
            ciaddr: address(packet.get(12..16)?)?,
            giaddr: packet.get(24..28)?.try_into().ok()?,
            mac: packet.get(28..34)?.try_into().ok()?,
            kind: Kind::Discover,
            requested: None,
            server: None,
        };
        let mut kind = None;
        let mut rest = packet.get(OPTIONS..)?;
        loop {
            match *rest {
                [] | [255, ..] => break,
                [0, ..] => rest = &rest[1..],
                [_] => return None,
                [option, length, ..] => {
                    let end = 2 + usize::from(length);
                    let value = rest.get(2..end)?;
                    match option {
                        code::KIND => kind = value.first().copied(),
                        code::REQUESTED_ADDRESS => request.requested = address(value),
                        code::SERVER => request.server = address(value),
                        _ => {}
                    }
                    rest = &rest[end..];
                }
            }
        }
        request.kind = match kind? {
            1 => Kind::Discover,
            3 => Kind::Request,
            8 => Kind::Inform,
            _ => return None,
        };
        Some(request)
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = bytes.try_into().ok()?;
    Some(Ipv4Addr::from(bytes))
}

/// A reply while it is written.
#[derive(Debug)]
pub(super) struct Reply(Vec<u8>);

impl Reply {
    /// A reply to this request, from this server, that offers this address.
    pub(super) fn new(request: &Request, kind: Kind, server: Ipv4Addr, yours: Ipv4Addr) -> Self {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.extend(request.echoed);
        // The client's seconds are its own business.
        bytes[8] = 0;
        bytes[9] = 0;
        let ciaddr = if kind == Kind::Nak {
            Ipv4Addr::UNSPECIFIED
        } else {
            request.ciaddr
        };
        for address in [ciaddr, yours, server] {
            bytes.extend(address.octets());
        }
        bytes.extend(request.giaddr);
        bytes.extend(request.mac);
        bytes.resize(236, 0);
        bytes.extend(MAGIC);
        let mut reply = Self(bytes);
        reply.option(code::KIND, &[kind as u8]);
        reply.addresses(code::SERVER, &[server]);
        reply
    }

    /// Appends an option; an empty one is left out, a long one is split.
    pub(super) fn option(&mut self, option: u8, value: &[u8]) {
        for part in value.chunks(255) {
            self.0.push(option);
            self.0.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            self.0.extend_from_slice(part);
        }
    }

    /// Appends an option that lists addresses.
    pub(super) fn addresses(&mut self, option: u8, addresses: &[Ipv4Addr]) {
        let bytes: Vec<u8> = addresses.iter().flat_map(Ipv4Addr::octets).collect();
        self.option(option, &bytes);
    }

    /// The finished message.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.push(255);
        self.0.resize(self.0.len().max(MIN_MESSAGE), 0);
        self.0
    }
}
