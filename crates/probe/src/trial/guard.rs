//! When a trial is refused: whatever could cut the node off or take something
//! away that is not ours.

use std::collections::BTreeSet;

use hardware::Facts;
use hardware::facts::{Network, PciDevice};

use super::Wanted;

/// Why the trial must not begin; `None` when it may.
#[must_use]
pub fn refusal(facts: &Facts, wanted: &Wanted) -> Option<String> {
    let address = &wanted.address;
    let folder = format!("/sys/bus/pci/devices/{address}");
    if facts.root != "/" {
        let root = &facts.root;
        return Some(format!("{root} is a captured tree, not this machine"));
    }
    if facts.uid != Some(0) {
        return Some("changing virtual functions needs root".to_owned());
    }
    let Some(device) = facts.pci_device(address) else {
        return Some(format!("{folder}: there is no such device"));
    };
    if let Some(physical) = &device.physfn {
        return Some(format!(
            "{address} is itself a virtual function, of {physical}"
        ));
    }
    let Some(sriov) = &device.sriov else {
        return Some(format!(
            "{folder}/sriov_totalvfs: absent, the device has no SR-IOV"
        ));
    };
    if wanted.functions == 0 || wanted.functions > sriov.total {
        return Some(format!(
            "expected 1 to {} virtual functions ({folder}/sriov_totalvfs), found {} asked for",
            sriov.total, wanted.functions
        ));
    }
    if sriov.current != 0 || !sriov.functions.is_empty() {
        return Some(format!(
            "{folder}/sriov_numvfs={}: it has virtual functions that somebody uses",
            sriov.current
        ));
    }
    let driver = device.driver.as_deref();
    if let Some(driver) = driver.filter(|driver| driver.starts_with("vfio")) {
        return Some(format!(
            "{address} is bound to {driver}: a guest may be using it"
        ));
    }
    management(facts, device)
}

/// Why the node's own traffic may depend on the device.
fn management(facts: &Facts, device: &PciDevice) -> Option<String> {
    let network = &facts.network;
    for path in ["/proc/net/route", "/sys/class/net"] {
        if let Some(error) = facts.unread_reason(path) {
            return Some(format!(
                "{path} could not be read ({error}), so what carries the node's own traffic is not known"
            ));
        }
    }
    let own: BTreeSet<&str> = network
        .interfaces
        .iter()
        .filter(|interface| interface.pci.as_ref() == Some(&device.address))
        .map(|interface| &interface.name)
        .chain(&device.interfaces)
        .map(String::as_str)
        .collect();
    let carriers = with_uppers(network, own.clone());
    let member = network
        .interfaces
        .iter()
        .filter(|interface| carriers.contains(interface.name.as_str()))
        .find_map(|interface| Some((interface, interface.master.as_ref()?)));
    if let Some((interface, master)) = member {
        let kind = network
            .interface(master)
            .map_or("interface", |master| &master.kind);
        let name = &interface.name;
        return Some(format!("{name} is a member of the {kind} {master}"));
    }
    let via = |name: &str| match own.contains(name) {
        true => name.to_owned(),
        false => {
            let own: Vec<&str> = own.iter().copied().collect();
            format!("{name}, which stands on {}", own.join(", "))
        }
    };
    let route = network
        .default_routes
        .iter()
        .find(|route| carriers.contains(route.interface.as_str()));
    if let Some(route) = route {
        return Some(format!(
            "the default route ({}) leaves by {}",
            route.path,
            via(&route.interface)
        ));
    }
    let ssh = network.ssh.as_ref()?;
    let client = &ssh.client;
    match ssh.interface.as_deref() {
        None => Some(format!(
            "over which interface the SSH connection from {client} comes is not known"
        )),
        Some(interface) if carriers.contains(interface) => Some(format!(
            "the SSH connection from {client} comes over {}",
            via(interface)
        )),
        Some(_) => None,
    }
}

/// The interfaces and whatever stands on them, however deep.
fn with_uppers<'a>(network: &'a Network, mut found: BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    loop {
        let above: BTreeSet<&str> = network
            .interfaces
            .iter()
            .filter(|interface| found.contains(interface.name.as_str()))
            .flat_map(|interface| interface.upper.iter().chain(&interface.master))
            .map(String::as_str)
            .collect();
        let before = found.len();
        found.extend(above);
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hardware::facts::{DefaultRoute, Interface, Sriov, SshPath, Unread};

    fn interface(name: &str, kind: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            kind: kind.to_owned(),
            ..Interface::default()
        }
    }

    fn route(interface: &str) -> DefaultRoute {
        DefaultRoute {
            interface: interface.to_owned(),
            path: "/proc/net/route".to_owned(),
            ..DefaultRoute::default()
        }
    }

    fn ssh(interface: Option<&str>) -> SshPath {
        SshPath {
            client: "10.0.2.2".to_owned(),
            server: "10.0.2.15".to_owned(),
            interface: interface.map(str::to_owned),
        }
    }

    fn sriov(current: u32) -> Sriov {
        Sriov {
            total: 7,
            current,
            ..Sriov::default()
        }
    }

    fn node() -> Facts {
        let mut facts = Facts {
            root: "/".to_owned(),
            uid: Some(0),
            ..Facts::default()
        };
        facts.pci.push(PciDevice {
            address: "0000:01:00.0".to_owned(),
            interfaces: vec!["eth1".to_owned()],
            sriov: Some(sriov(0)),
            ..PciDevice::default()
        });
        let network = &mut facts.network;
        network.interfaces = vec![interface("eth0", "physical"), interface("eth1", "physical")];
        network.default_routes.push(route("eth0"));
        network.ssh = Some(ssh(Some("eth0")));
        facts
    }

    fn asked(facts: &Facts, functions: u32) -> Option<String> {
        let wanted = Wanted {
            address: "0000:01:00.0".to_owned(),
            functions,
        };
        refusal(facts, &wanted)
    }

    #[test]
    fn an_idle_function_may_be_tried() {
        assert_eq!(asked(&node(), 7), None);
    }

    #[test]
    fn whatever_could_cut_the_node_off_is_refused() {
        type Change = fn(&mut Facts);
        let cases: [(&str, Change); 15] = [
            ("default route", |f| {
                f.network.default_routes = vec![route("eth1")];
            }),
            ("SSH connection", |f| {
                f.network.ssh = Some(ssh(Some("eth1")))
            }),
            ("not known", |f| f.network.ssh = Some(ssh(None))),
            ("member of the bridge br0", |f| {
                f.network.interfaces[1].master = Some("br0".to_owned());
                f.network.interfaces.push(interface("br0", "bridge"));
            }),
            ("member of the bond bond0", |f| {
                f.network.interfaces[1].master = Some("bond0".to_owned());
                f.network.interfaces.push(interface("bond0", "bond"));
            }),
            ("eth1.5, which stands on eth1", |f| {
                f.network.interfaces[1].upper = vec!["eth1.5".to_owned()];
                f.network.interfaces.push(interface("eth1.5", "vlan"));
                f.network.default_routes = vec![route("eth1.5")];
            }),
            ("eth1.5 is a member of the bridge br0", |f| {
                f.network.interfaces[1].upper = vec!["eth1.5".to_owned()];
                let mut vlan = interface("eth1.5", "vlan");
                vlan.master = Some("br0".to_owned());
                f.network.interfaces.push(vlan);
                f.network.interfaces.push(interface("br0", "bridge"));
            }),
            ("could not be read", |f| {
                f.unread.push(Unread {
                    path: "/proc/net/route".to_owned(),
                    error: "not there".to_owned(),
                });
            }),
            ("somebody uses", |f| f.pci[0].sriov = Some(sriov(2))),
            ("no SR-IOV", |f| f.pci[0].sriov = None),
            ("itself a virtual function", |f| {
                f.pci[0].physfn = Some("0000:02:00.0".to_owned());
            }),
            ("bound to vfio-pci", |f| {
                f.pci[0].driver = Some("vfio-pci".to_owned());
            }),
            ("no such device", |f| f.pci.clear()),
            ("needs root", |f| f.uid = Some(1000)),
            ("captured tree", |f| f.root = "/captured".to_owned()),
        ];
        for (expected, change) in cases {
            let mut facts = node();
            change(&mut facts);
            let reason = asked(&facts, 1).unwrap_or_default();
            assert!(reason.contains(expected), "{expected}: {reason:?}");
        }
    }

    #[test]
    fn more_functions_than_the_driver_allows_are_refused() {
        assert!(asked(&node(), 8).is_some());
        assert!(asked(&node(), 0).is_some());
    }
}
