//! Bridge binding: the pod's interface becomes a port of a bridge and gives its
//! address and MAC to the guest.

use host::links::Links;

use super::plan::made_mac;
use super::record::Record;
use super::{BRIDGE, NetworkError, UPLINK, UPLINK_PORT, find, quiet, tap};

/// Address length of the DHCP server: nothing else is on its link.
const SERVER_PREFIX: u8 = 32;

/// Keeps DHCP between the guest and its own server: without it every pod of
/// the node's bridge hears the guest ask, and the fastest that answers is its
/// gateway.
const OWN_DHCP: &str = "\
table bridge kubevirt {}
delete table bridge kubevirt
table bridge kubevirt {
  chain forward {
    type filter hook forward priority 0;
    iifname \"tap0\" udp dport 67 drop
    oifname \"tap0\" udp dport 68 drop
  }
}
";

/// Joins; every step looks first.
pub(super) fn join(links: &Links, record: &Record, pod_uid: &str) -> Result<(), NetworkError> {
    if links.find(UPLINK_PORT)?.is_none() {
        let uplink = find(links, UPLINK)?;
        // Down first: a link that is up is not renamed, and its routes go.
        links.set_up(uplink.index, false)?;
        links.flush_addresses(uplink.index)?;
        // The guest has the MAC now: a bridge would keep frames to its port's own.
        links.set_mac(uplink.index, made_mac(pod_uid, 2))?;
        links.rename(uplink.index, UPLINK_PORT)?;
    }
    if links.find(BRIDGE)?.is_none() {
        links.add_bridge(BRIDGE, made_mac(pod_uid, 3), record.uplink.mtu)?;
    }
    let bridge = find(links, BRIDGE)?;
    quiet(BRIDGE)?;
    let port = find(links, UPLINK_PORT)?;
    if port.controller != Some(bridge.index) {
        links.attach(port.index, bridge.index)?;
    }
    // The outer bridge may send the guest's own frames back (hairpin); learnt
    // here, they would move the guest to the wrong side.
    links.set_learning(port.index, false)?;
    quiet(UPLINK_PORT)?;
    if !port.up {
        links.set_up(port.index, true)?;
    }
    if let Err(error) = host::nft::apply(OWN_DHCP) {
        // Kernels without nft for bridges: the guest's own server still answers.
        tracing::warn!("the guest's DHCP requests leave its pod: {error}");
    }
    tap(links, &record.nic, bridge.index)?;
    if let Some(lease) = &record.nic.dhcp {
        links.add_address(bridge.index, lease.server, SERVER_PREFIX)?;
    }
    Ok(())
}
