//! Which physical functions the inventory's policies mean.

use crate::facts::{Facts, Interface, PciDevice};
use crate::requirements::{DeviceType, Requirements, SriovPolicy};

/// A physical function that policies select, with what they ask of it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) device: &'a PciDevice,
    pub(crate) policies: Vec<&'a SriovPolicy>,
}

impl Wanted<'_> {
    /// Virtual functions asked for: the most of all policies, as the operator merges them.
    pub(crate) fn functions(&self) -> u32 {
        self.policies
            .iter()
            .map(|policy| policy.num_vfs)
            .max()
            .unwrap_or(0)
    }

    /// Somebody else creates the functions.
    pub(crate) fn external(&self) -> bool {
        self.policies.iter().any(|policy| policy.externally_managed)
    }

    /// Functions go to guests.
    pub(crate) fn vfio(&self) -> bool {
        self.policies
            .iter()
            .any(|policy| policy.device_type == DeviceType::VfioPci)
    }

    /// The largest MTU asked for.
    pub(crate) fn mtu(&self) -> Option<u32> {
        self.policies.iter().filter_map(|policy| policy.mtu).max()
    }
}

/// The physical functions that `policy` selects, in the order of the facts.
///
/// A policy that names functions gets them, SR-IOV or not, so that what they lack is
/// said; one that only gives ids means those functions of the id that have SR-IOV,
/// as long as there is one.
pub(crate) fn selected<'a>(facts: &'a Facts, policy: &SriovPolicy) -> Vec<&'a PciDevice> {
    let hex = |wanted: &Option<String>, found: u16| {
        wanted.as_deref().is_none_or(|text| {
            u16::from_str_radix(text.trim_start_matches("0x"), 16).is_ok_and(|id| id == found)
        })
    };
    let named = |device: &PciDevice| {
        policy.pf_names.is_empty()
            || policy.pf_names.iter().any(|name| {
                let name = name.split('#').next().unwrap_or_default();
                device.interfaces.iter().any(|interface| interface == name)
            })
    };
    let matching: Vec<&PciDevice> = facts
        .pci
        .iter()
        .filter(|device| device.is_network() && device.physfn.is_none())
        .filter(|device| {
            hex(&policy.vendor, device.vendor) && hex(&policy.device_id, device.device)
        })
        .filter(|device| {
            policy.root_devices.is_empty() || policy.root_devices.contains(&device.address)
        })
        .filter(|device| named(device))
        .collect();
    let capable = |device: &PciDevice| device.sriov.is_some() || device.config_total_vfs.is_some();
    if policy.pf_names.is_empty()
        && policy.root_devices.is_empty()
        && matching.iter().any(|device| capable(device))
    {
        matching
            .into_iter()
            .filter(|device| capable(device))
            .collect()
    } else {
        matching
    }
}

/// Addresses of the physical functions on which a trial tells something: those that
/// some policy selects, that have SR-IOV, and whose functions are ours to create.
#[must_use]
pub fn trial_targets(facts: &Facts, requirements: &Requirements) -> Vec<String> {
    wanted(facts, requirements)
        .iter()
        .filter(|wanted| !wanted.external() && wanted.device.sriov.is_some())
        .map(|wanted| wanted.device.address.clone())
        .collect()
}

/// Every function that some policy selects, once.
pub(crate) fn wanted<'a>(facts: &'a Facts, requirements: &'a Requirements) -> Vec<Wanted<'a>> {
    let mut all: Vec<Wanted<'a>> = Vec::new();
    for policy in &requirements.sriov {
        for device in selected(facts, policy) {
            match all
                .iter_mut()
                .find(|known| known.device.address == device.address)
            {
                Some(known) => known.policies.push(policy),
                None => all.push(Wanted {
                    device,
                    policies: vec![policy],
                }),
            }
        }
    }
    all
}

/// The interfaces of a function.
pub(crate) fn interfaces<'a>(facts: &'a Facts, device: &'a PciDevice) -> Vec<&'a Interface> {
    facts
        .network
        .interfaces
        .iter()
        .filter(|interface| {
            interface.pci.as_deref() == Some(device.address.as_str())
                || device.interfaces.contains(&interface.name)
        })
        .collect()
}

/// Why the node needs the interface `name`: a default route, the SSH connection, a
/// bridge or a bond, on itself or on something above it.
pub(crate) fn management(facts: &Facts, name: &str) -> Vec<String> {
    let network = &facts.network;
    let mut above = vec![name.to_owned()];
    let mut next = 0;
    while let Some(current) = above.get(next).cloned() {
        next += 1;
        let direct = network.interface(&current);
        let mut higher: Vec<String> = direct
            .into_iter()
            .flat_map(|interface| interface.upper.iter().chain(&interface.master).cloned())
            .collect();
        higher.extend(
            network
                .interfaces
                .iter()
                .filter(|interface| interface.lower.contains(&current))
                .map(|interface| interface.name.clone()),
        );
        for interface in higher {
            if !above.contains(&interface) {
                above.push(interface);
            }
        }
    }
    let mut reasons = Vec::new();
    for interface in &above {
        for route in network
            .default_routes
            .iter()
            .filter(|route| route.interface == *interface)
        {
            reasons.push(format!(
                "{}: the default route leaves by {interface}",
                route.path
            ));
        }
        if let Some(ssh) = &network.ssh
            && ssh.interface.as_ref() == Some(interface)
        {
            reasons.push(format!(
                "the SSH connection from {} comes in by {interface}",
                ssh.client
            ));
        }
    }
    if let Some(master) = network
        .interface(name)
        .and_then(|interface| interface.master.as_ref())
    {
        let kind = network
            .interface(master)
            .map_or("", |interface| interface.kind.as_str());
        let kind = if kind.is_empty() {
            "bridge or bond"
        } else {
            kind
        };
        reasons.push(format!("/sys/class/net/{name}/master: {master}, a {kind}"));
    }
    reasons.dedup();
    reasons
}
