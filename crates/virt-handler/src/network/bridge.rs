//! Bridge binding: the pod's interface becomes a port of a bridge and gives its
//! address and MAC to the guest.

use host::links::Links;

use super::plan::made_mac;
use super::record::Record;
use super::{BRIDGE, NetworkError, UPLINK, UPLINK_PORT, find, quiet, tap};

/// Address length of the DHCP server: nothing else is on its link.
const SERVER_PREFIX: u8 = 32;

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
    tap(links, &record.nic, bridge.index)?;
    if let Some(lease) = &record.nic.dhcp {
        links.add_address(bridge.index, lease.server, SERVER_PREFIX)?;
    }
    Ok(())
}
