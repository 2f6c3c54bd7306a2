//! SR-IOV and NICs: what each state of a node is judged to be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use hardware::DeviceType;
use hardware::Status::{Fail, Pass, Skip, Warn};
use hardware::facts::*;
use world::*;

fn sriov(facts: &mut Facts) -> &mut Sriov {
    pf(facts).sriov.as_mut().unwrap()
}

fn vlan_with_default_route(facts: &mut Facts) {
    facts.network.interfaces.push(Interface {
        name: "vlan7".into(),
        kind: "vlan".into(),
        lower: vec!["ens1f0".into()],
        ..Interface::default()
    });
    facts.network.default_routes[0].interface = "vlan7".into();
}

fn bridged(facts: &mut Facts) {
    port(facts).master = Some("br0".into());
    facts.network.interfaces.push(Interface {
        name: "br0".into(),
        kind: "bridge".into(),
        ..Interface::default()
    });
}

fn second_node(facts: &mut Facts) {
    facts.memory.nodes.push(NumaNode {
        id: 1,
        cpus: "64-127".into(),
        memory: Some(64 * GIB),
    });
}

fn trial(facts: &mut Facts, name: &str, errno: i32) {
    facts.sriov_trials = vec![SriovTrial {
        address: PF.into(),
        functions: 1,
        steps: vec![
            TrialStep {
                name: "create".into(),
                path: "/x".into(),
                value: "1".into(),
                outcome: Attempt::Worked,
            },
            TrialStep {
                name: name.into(),
                path: "/p".into(),
                value: "v".into(),
                outcome: Attempt::failed(Some(errno), "as errno says"),
            },
        ],
        restored: Attempt::Worked,
        ..SriovTrial::default()
    }];
    if name == "create" {
        facts.sriov_trials[0].steps.remove(0);
    }
}

#[test]
fn virtual_functions() {
    run(&[
        case(
            "NIC without SR-IOV",
            "sriov.cap",
            |f, _| {
                pf(f).sriov = None;
                pf(f).config_total_vfs = None;
            },
            Fail,
            "sriov_totalvfs: missing on 8086:159b",
            "Virtualization Mode: SR-IOV",
        ),
        case(
            "Mellanox without SR-IOV",
            "sriov.cap",
            |f, _| {
                pf(f).sriov = None;
                pf(f).config_total_vfs = None;
                pf(f).vendor = 0x15b3;
            },
            Fail,
            "15b3:159b",
            "mlxconfig -d 0000:01:00.0 set SRIOV_EN=1 NUM_OF_VFS=4",
        ),
        case(
            "Broadcom without SR-IOV",
            "sriov.cap",
            |f, _| {
                pf(f).sriov = None;
                pf(f).config_total_vfs = None;
                pf(f).vendor = 0x14e4;
            },
            Fail,
            "14e4",
            "Multi-Function Mode",
        ),
        case(
            "no driver",
            "sriov.cap",
            |f, _| {
                pf(f).sriov = None;
                pf(f).driver = None;
            },
            Fail,
            "the hardware has 64; driver: none",
            "own driver",
        ),
        case(
            "too few",
            "sriov.cap",
            |f, _| sriov(f).total = 3,
            Fail,
            "sriov_totalvfs: 3 (hardware: 64); 4 asked for",
            "raise",
        ),
        case(
            "zero",
            "sriov.cap",
            |f, r| {
                sriov(f).total = 0;
                r.sriov[0].num_vfs = 0;
            },
            Fail,
            "sriov_totalvfs: 0",
            "raise",
        ),
        case(
            "a policy that selects nothing",
            "sriov.cap",
            |_, r| r.sriov[0].pf_names = vec!["eth9".into()],
            Fail,
            "nothing that policy guests selects; network functions here: 0000:01:00.0 8086:159b ens1f0",
            "selectors",
        ),
        case(
            "by ids: only what has SR-IOV is meant",
            "sriov.cap",
            |_, r| {
                r.sriov[0].pf_names.clear();
                r.sriov[0].vendor = Some("8086".into());
            },
            Pass,
            "64; 4 asked for",
            "",
        ),
        case(
            "nobody asks",
            "sriov.cap",
            |_, r| r.sriov.clear(),
            Skip,
            "sriov_totalvfs: 64; no policy",
            "",
        ),
        case(
            "PCI unread",
            "sriov.cap",
            |f, _| {
                f.pci.clear();
                f.unread.push(Unread {
                    path: "/sys/bus/pci/devices".into(),
                    error: "gone".into(),
                });
            },
            Skip,
            "gone",
            "",
        ),
        case(
            "other functions exist",
            "sriov.state",
            |f, _| sriov(f).current = 2,
            Warn,
            "sriov_numvfs: 2; 4 asked for",
            "drain",
        ),
        case(
            "exactly these exist",
            "sriov.state",
            |f, _| sriov(f).current = 4,
            Pass,
            "sriov_numvfs: 4",
            "",
        ),
        case(
            "managed elsewhere, too few",
            "sriov.state",
            |_, r| r.sriov[0].externally_managed = true,
            Fail,
            "managed elsewhere",
            "tool that manages",
        ),
        case(
            "managed elsewhere, more",
            "sriov.state",
            |f, r| {
                r.sriov[0].externally_managed = true;
                sriov(f).current = 8;
            },
            Pass,
            "8; 4",
            "",
        ),
        case(
            "nobody asks",
            "sriov.state",
            |_, r| r.sriov.clear(),
            Skip,
            "no physical function",
            "",
        ),
        case(
            "default route",
            "sriov.mgmt",
            |f, _| f.network.default_routes[0].interface = "ens1f0".into(),
            Fail,
            "/proc/net/route: the default route leaves by ens1f0",
            "another physical function",
        ),
        case(
            "default route on a VLAN above",
            "sriov.mgmt",
            |f, _| vlan_with_default_route(f),
            Fail,
            "leaves by vlan7",
            "another",
        ),
        case(
            "SSH",
            "sriov.mgmt",
            |f, _| {
                f.network.ssh = Some(SshPath {
                    client: "192.0.2.9".into(),
                    server: "192.0.2.1".into(),
                    interface: Some("ens1f0".into()),
                })
            },
            Fail,
            "SSH connection from 192.0.2.9 comes in by ens1f0",
            "cut you off",
        ),
        case(
            "a guest gets the node's own NIC",
            "sriov.mgmt",
            |_, r| r.passthrough = vec!["0000:02:00.0".into()],
            Fail,
            "leaves by eno1; a guest is to get it whole",
            "another device",
        ),
        case(
            "bridge",
            "sriov.mgmt",
            |f, _| bridged(f),
            Fail,
            "master: br0, a bridge",
            "another",
        ),
        case(
            "default route, forced",
            "sriov.mgmt",
            |f, r| {
                f.network.default_routes[0].interface = "ens1f0".into();
                r.force_management = true;
            },
            Warn,
            "force_management",
            "another",
        ),
        case(
            "default route, nothing to change",
            "sriov.mgmt",
            |f, _| {
                f.network.default_routes[0].interface = "ens1f0".into();
                sriov(f).current = 4;
            },
            Pass,
            "exist already",
            "",
        ),
        case(
            "nobody asks",
            "sriov.mgmt",
            |_, r| r.sriov.clear(),
            Skip,
            "no policy",
            "",
        ),
    ]);
}

#[test]
fn trials() {
    run(&[
        case(
            "all worked",
            "sriov.trial",
            |f, _| {
                trial(f, "bind", 0);
                f.sriov_trials[0].steps[1].outcome = Attempt::Worked;
            },
            Pass,
            "create /x; bind /p",
            "",
        ),
        case(
            "no room for registers",
            "sriov.trial",
            |f, _| trial(f, "create", 12),
            Fail,
            "create: /p = v: as errno says",
            "Above 4G",
        ),
        case(
            "busy",
            "sriov.trial",
            |f, _| trial(f, "create", 16),
            Fail,
            "create",
            "write 0",
        ),
        case(
            "too many",
            "sriov.trial",
            |f, _| trial(f, "create", 34),
            Fail,
            "create",
            "sriov_totalvfs",
        ),
        case(
            "no PF driver",
            "sriov.trial",
            |f, _| trial(f, "create", 2),
            Fail,
            "create",
            "own driver",
        ),
        case(
            "no IOMMU",
            "sriov.trial",
            |f, _| trial(f, "bind", 22),
            Fail,
            "bind",
            "iommu.active",
        ),
        case(
            "no remapping",
            "sriov.trial",
            |f, _| trial(f, "attach", 1),
            Fail,
            "attach",
            "iommu.ir",
        ),
        case(
            "not viable",
            "sriov.trial",
            |f, _| trial(f, "open", 16),
            Fail,
            "open",
            "iommu.group",
        ),
        case(
            "binding fails, and only pods want functions",
            "sriov.trial",
            |f, r| {
                trial(f, "bind", 22);
                r.sriov[0].device_type = DeviceType::Netdevice;
            },
            Warn,
            "bind",
            "iommu",
        ),
        case(
            "creation fails, and nobody wants functions",
            "sriov.trial",
            |f, r| {
                trial(f, "create", 12);
                r.sriov.clear();
            },
            Warn,
            "create",
            "4G",
        ),
        case(
            "refused",
            "sriov.trial",
            |f, _| {
                f.sriov_trials = vec![SriovTrial {
                    address: PF.into(),
                    refused: Some("it carries the default route".into()),
                    ..SriovTrial::default()
                }]
            },
            Skip,
            "default route",
            "",
        ),
        case(
            "not restored",
            "sriov.trial",
            |f, _| {
                trial(f, "bind", 0);
                f.sriov_trials[0].steps.clear();
                f.sriov_trials[0].restored = Attempt::failed(Some(16), "busy");
            },
            Fail,
            "not restored: busy",
            "edgevirt-probe restore",
        ),
    ]);
}

#[test]
fn ports_of_the_nic() {
    run(&[
        case(
            "one NUMA node that does not say so",
            "nic.numa",
            |f, _| pf(f).numa_node = Some(-1),
            Pass,
            "one NUMA node",
            "",
        ),
        case(
            "two nodes, not told which",
            "nic.numa",
            |f, _| {
                second_node(f);
                pf(f).numa_node = Some(-1);
            },
            Warn,
            "-1, on a machine of 2",
            "firmware",
        ),
        case(
            "hugepages asked for elsewhere",
            "nic.numa",
            |f, _| {
                second_node(f);
                pf(f).numa_node = Some(1);
            },
            Warn,
            "numa_node: 1; CPUs 64-127; hugepages only on node 0",
            "NUMA node 1",
        ),
        case(
            "hugepages anywhere, reserved elsewhere",
            "nic.numa",
            |f, r| {
                second_node(f);
                pf(f).numa_node = Some(1);
                r.hugepages.clear();
            },
            Warn,
            "only on node 0",
            "node 1",
        ),
        case(
            "nobody asks",
            "nic.numa",
            |_, r| r.sriov.clear(),
            Skip,
            "no policy",
            "",
        ),
        case(
            "no cable",
            "nic.link",
            |f, _| port(f).carrier = Some(false),
            Warn,
            "/sys/class/net/ens1f0/carrier: 0",
            "cable",
        ),
        case(
            "down",
            "nic.link",
            |f, _| {
                port(f).carrier = None;
                port(f).operstate = Some("down".into());
            },
            Skip,
            "operstate: down",
            "",
        ),
        case(
            "given to vfio",
            "nic.link",
            |f, r| {
                f.network.interfaces.clear();
                pf(f).interfaces.clear();
                r.sriov[0].pf_names.clear();
                r.sriov[0].root_devices = vec![PF.into()];
            },
            Skip,
            "no interface",
            "",
        ),
        case(
            "small frames",
            "nic.mtu",
            |f, _| port(f).mtu = Some(1500),
            Warn,
            "mtu: 1500; 9000 asked for",
            "ip link set ens1f0 mtu 9000",
        ),
        case(
            "no MTU asked for",
            "nic.mtu",
            |_, r| r.sriov[0].mtu = None,
            Skip,
            "no policy asks",
            "",
        ),
    ]);
}
