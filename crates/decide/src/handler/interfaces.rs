//! Interfaces: what the node set up, joined by MAC address with what the guest
//! agent sees.

use api::launcher::{AgentInfo, DomainState};
use api::vmi_status::InterfaceStatus;

use super::PodView;

/// What the handler made of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NicFacts {
    /// Network name of the spec.
    pub network: String,
    /// MAC address of the guest.
    pub mac: String,
    /// Interface of the pod it is joined to.
    pub pod_interface: String,
    /// Addresses that the interface of the pod had: the kubelet tells them of the pod later.
    pub pod_addresses: Vec<String>,
    /// The guest is behind the pod's address and has another one.
    pub translated: bool,
    /// Queues.
    pub queues: u32,
}

/// The list for the status, in the order of the spec; interfaces that only the
/// guest knows come last.
pub(super) fn statuses(
    nics: &[NicFacts],
    pod: &PodView,
    domain: &DomainState,
) -> Vec<InterfaceStatus> {
    let agent = domain.agent.as_ref().filter(|_| domain.agent_connected);
    let mut list: Vec<InterfaceStatus> = nics.iter().map(|nic| of_nic(nic, pod, agent)).collect();
    let Some(agent) = agent else { return list };
    for (name, mac, addresses) in &agent.interfaces {
        let known = nics.iter().any(|nic| nic.mac.eq_ignore_ascii_case(mac));
        if !known && name != "lo" && !mac.is_empty() {
            list.push(InterfaceStatus {
                ip_address: addresses.first().cloned().unwrap_or_default(),
                ip_addresses: addresses.clone(),
                mac: mac.clone(),
                interface_name: name.clone(),
                info_source: "guest-agent".to_owned(),
                ..InterfaceStatus::default()
            });
        }
    }
    list
}

fn of_nic(nic: &NicFacts, pod: &PodView, agent: Option<&AgentInfo>) -> InterfaceStatus {
    let ips = if pod.ips.is_empty() {
        &nic.pod_addresses
    } else {
        &pod.ips
    };
    let mut status = InterfaceStatus {
        ip_address: ips.first().cloned().unwrap_or_default(),
        ip_addresses: ips.clone(),
        mac: nic.mac.clone(),
        name: nic.network.clone(),
        interface_name: String::new(),
        pod_interface_name: nic.pod_interface.clone(),
        info_source: "domain".to_owned(),
        queue_count: i32::try_from(nic.queues.max(1)).ok(),
        link_state: Some("up".to_owned()),
    };
    let seen = agent.and_then(|agent| {
        agent
            .interfaces
            .iter()
            .find(|(_, mac, _)| mac.eq_ignore_ascii_case(&nic.mac))
    });
    if let Some((name, _, addresses)) = seen {
        status.interface_name.clone_from(name);
        status.info_source = "domain, guest-agent".to_owned();
        // Behind masquerade the guest's own address is of no use outside.
        if !nic.translated && !addresses.is_empty() {
            // The pod's address first, if the guest took it; then the guest's order.
            let (mut first, rest): (Vec<_>, Vec<_>) = addresses
                .iter()
                .cloned()
                .partition(|address| ips.contains(address));
            first.extend(rest);
            status.ip_address = first.first().cloned().unwrap_or_default();
            status.ip_addresses = first;
        }
    }
    status
}
