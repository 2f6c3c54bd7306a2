//! The pod's interface before it was changed.

use std::net::Ipv4Addr;

use host::links::Links;
use serde::{Deserialize, Serialize};

use super::{NetworkError, UPLINK, find};

/// What the CNI plugin gave the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Uplink {
    /// Hardware address.
    pub(super) mac: [u8; 6],
    /// Largest packet, bytes.
    pub(super) mtu: u32,
    /// The pod's address.
    pub(super) address: Ipv4Addr,
    /// Its prefix length.
    pub(super) prefix_len: u8,
    /// Destination, prefix length, gateway; on the link without one.
    pub(super) routes: Vec<(Ipv4Addr, u8, Option<Ipv4Addr>)>,
}

impl Uplink {
    /// Reads eth0.
    pub(super) fn read(links: &Links) -> Result<Self, NetworkError> {
        let link = find(links, UPLINK)?;
        let Some((address, prefix_len)) = links.addresses(link.index)?.into_iter().next() else {
            return Err(NetworkError::Pod(format!(
                "expected an IPv4 address on {UPLINK} of the pod, found none"
            )));
        };
        let routes = links.routes(link.index)?;
        Ok(Self {
            mac: link.mac,
            mtu: link.mtu,
            address,
            prefix_len,
            routes: routes
                .into_iter()
                .map(|route| (route.destination, route.prefix_len, route.gateway))
                .collect(),
        })
    }

    /// Next hop of the default route.
    pub(super) fn gateway(&self) -> Option<Ipv4Addr> {
        self.routes
            .iter()
            .find(|(_, prefix_len, _)| *prefix_len == 0)
            .and_then(|(_, _, gateway)| *gateway)
    }

    /// Routes beside the default one and that to the pod's own subnet, in the
    /// form of [`api::launcher::DhcpLease::routes`].
    pub(super) fn further_routes(&self) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
        let own = subnet(self.address, self.prefix_len);
        let others = self
            .routes
            .iter()
            .filter(|(destination, prefix_len, gateway)| {
                let is_own =
                    gateway.is_none() && *prefix_len == self.prefix_len && *destination == own;
                *prefix_len != 0 && !is_own
            });
        others
            .map(|(destination, prefix_len, gateway)| {
                (
                    *destination,
                    *prefix_len,
                    gateway.unwrap_or(Ipv4Addr::UNSPECIFIED),
                )
            })
            .collect()
    }
}

/// The network address.
pub(super) fn subnet(address: Ipv4Addr, prefix_len: u8) -> Ipv4Addr {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix_len.min(32)))
        .unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_default_route_and_the_own_subnet_are_no_further_routes() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let uplink = Uplink {
            mac: [0; 6],
            mtu: 1450,
            address: ip("10.244.1.5"),
            prefix_len: 24,
            routes: vec![
                (ip("0.0.0.0"), 0, Some(ip("10.244.1.1"))),
                (ip("10.244.1.0"), 24, None),
                (ip("10.244.0.0"), 16, Some(ip("10.244.1.1"))),
                (ip("169.254.1.1"), 32, None),
            ],
        };
        assert_eq!(uplink.gateway(), Some(ip("10.244.1.1")));
        let further = [
            (ip("10.244.0.0"), 16, ip("10.244.1.1")),
            (ip("169.254.1.1"), 32, Ipv4Addr::UNSPECIFIED),
        ];
        assert_eq!(uplink.further_routes(), further);
        assert_eq!(subnet(ip("10.0.2.77"), 0), ip("0.0.0.0"));
        assert_eq!(subnet(ip("10.0.2.77"), 32), ip("10.0.2.77"));
    }
}
