//! Kernel, modules, control groups, clock, names, ports, proxies and resources: what
//! each state of a node is judged to be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use hardware::Status::{Fail, Pass, Skip, Warn};
use hardware::facts::*;
use hardware::{Requirements, Role, catalogue, check, explain, markdown};
use world::*;

fn listen(facts: &mut Facts, port: u16, process: Option<&str>) {
    facts.network.listeners.as_mut().unwrap().push(Listener {
        protocol: "tcp".into(),
        address: "0.0.0.0".into(),
        port,
        process: process.map(str::to_owned),
        pid: process.map(|_| 7),
    });
}

fn proxied(facts: &mut Facts, no_proxy: &str) {
    let sourced = |value: &str| Sourced {
        path: "/etc/environment".into(),
        value: value.into(),
    };
    facts.proxy.http = Some(sourced("http://proxy:3128"));
    facts.proxy.no_proxy = Some(sourced(no_proxy));
}

fn without_module(facts: &mut Facts, name: &str) {
    facts.modules.known.insert(name.into(), Module::default());
}

fn device(facts: &mut Facts, path: &str) {
    for node in facts.devices.iter_mut().filter(|node| node.path == path) {
        node.present = Some(false);
        node.open = Attempt::failed(Some(2), "No such file or directory");
    }
}

#[test]
fn kernel_and_firmware() {
    run(&[
        case(
            "locked, nothing unsigned",
            "secureboot",
            |f, _| {
                f.firmware.secure_boot = Some(true);
                f.firmware.lockdown = Some("none [integrity] confidentiality".into());
            },
            Pass,
            "SecureBoot-8be4df61…: 1; /sys/kernel/security/lockdown: integrity; vfio works",
            "",
        ),
        case(
            "locked, drivers from outside",
            "secureboot",
            |f, r| {
                f.firmware.lockdown = Some("none [integrity] confidentiality".into());
                r.unsigned_modules = true;
            },
            Fail,
            "integrity",
            "sign the module",
        ),
        case(
            "Secure Boot without lockdown's file",
            "secureboot",
            |f, r| {
                f.firmware.secure_boot = Some(true);
                f.firmware.lockdown = None;
                r.unsigned_modules = true;
            },
            Fail,
            "drivers from outside",
            "sign",
        ),
        case(
            "setup mode enforces nothing",
            "secureboot",
            |f, r| {
                f.firmware.secure_boot = Some(true);
                f.firmware.setup_mode = Some(true);
                f.firmware.lockdown = None;
                r.unsigned_modules = true;
            },
            Pass,
            "SecureBoot",
            "",
        ),
        case(
            "no UEFI",
            "secureboot",
            |f, _| {
                f.firmware = Default::default();
                f.firmware.efi = Some(false);
            },
            Pass,
            "no UEFI",
            "",
        ),
        case(
            "unread",
            "secureboot",
            |f, _| f.firmware = Default::default(),
            Skip,
            "not read",
            "",
        ),
        case(
            "too old",
            "kernel",
            |f, _| f.kernel.release = "3.10.0-1160.el7.x86_64".into(),
            Fail,
            "expected 4.18",
            "kernel",
        ),
        case(
            "old, RHEL",
            "kernel",
            |f, _| {
                f.kernel.release = "4.18.0-553.el8".into();
                f.os.id = "rocky".into();
            },
            Warn,
            "expected 5.8",
            "dnf",
        ),
        case(
            "another machine",
            "kernel",
            |f, _| f.kernel.machine = "aarch64".into(),
            Fail,
            "found aarch64",
            "x86_64",
        ),
        case(
            "garbage",
            "kernel",
            |f, _| f.kernel.release = "?".into(),
            Skip,
            "not a version",
            "",
        ),
        case(
            "version 1",
            "cgroup",
            |f, _| f.cgroup.version = Some(1),
            Warn,
            "version 1",
            "systemd.unified_cgroup_hierarchy=1",
        ),
        case(
            "no pids",
            "cgroup",
            |f, _| f.cgroup.controllers.retain(|c| c != "pids"),
            Fail,
            "missing pids",
            "kernel",
        ),
        case(
            "memory disabled",
            "cgroup",
            |f, _| {
                f.cgroup.controllers.retain(|c| c != "memory");
                f.kernel.cmdline = Some("cgroup_disable=memory".into());
            },
            Fail,
            "cgroup_disable=memory",
            "take cgroup_disable=memory off",
        ),
        case(
            "unread",
            "cgroup",
            |f, _| f.cgroup = Default::default(),
            Skip,
            "not read",
            "",
        ),
    ]);
}

#[test]
fn modules() {
    run(&[
        case(
            "not loaded",
            "modules",
            |f, _| {
                f.modules
                    .known
                    .insert("br_netfilter".into(), module(false, false, Some("x")));
            },
            Warn,
            "no br_netfilter",
            "modprobe br_netfilter",
        ),
        case(
            "cloud kernel",
            "modules",
            |f, _| without_module(f, "rbd"),
            Fail,
            "no rbd, and it is not built in",
            "linux-image-amd64",
        ),
        case(
            "no Ceph, no rbd",
            "modules",
            |f, r| {
                without_module(f, "rbd");
                r.ceph_disks.clear();
                r.roles.pop();
            },
            Pass,
            "overlay loaded",
            "",
        ),
        case(
            "no vhost_net",
            "modules",
            |f, _| {
                without_module(f, "vhost_net");
                device(f, "/dev/vhost-net");
            },
            Warn,
            "no vhost_net",
            "linux-image",
        ),
        case(
            "tun loads on first use",
            "modules",
            |f, _| {
                f.devices.clear();
                f.modules
                    .known
                    .insert("tun".into(), module(false, false, Some("x")));
            },
            Pass,
            "tun loads on first use",
            "",
        ),
        case(
            "tun's node is gone",
            "modules",
            |f, _| device(f, "/dev/net/tun"),
            Fail,
            "/dev/net/tun: No such file",
            "modprobe tun",
        ),
        case(
            "blacklisted",
            "modules",
            |f, _| {
                f.modules
                    .known
                    .insert("overlay".into(), module(false, false, Some("x")));
                f.modules
                    .blacklisted
                    .insert("overlay".into(), "/etc/modprobe.d/cis.conf".into());
            },
            Fail,
            "/etc/modprobe.d/cis.conf",
            "take the line",
        ),
        case(
            "named by the inventory",
            "modules",
            |_, r| r.modules = vec!["nvme-tcp".into()],
            Fail,
            "no nvme_tcp",
            "linux-image",
        ),
        case(
            "a container",
            "modules",
            |f, _| {
                f.modules = Default::default();
                f.devices.clear();
            },
            Skip,
            "cannot tell: overlay, br_netfilter",
            "",
        ),
    ]);
}

#[test]
fn the_rest_of_the_system() {
    run(&[
        case(
            "swap",
            "swap",
            |f, _| {
                f.swaps = Some(vec![Swap {
                    path: "/dev/sda2".into(),
                    size: GIB,
                    ..Swap::default()
                }])
            },
            Warn,
            "/dev/sda2 1.0 GiB",
            "swapoff",
        ),
        case(
            "swap, allowed",
            "swap",
            |f, r| {
                f.swaps = Some(vec![Swap::default()]);
                r.allow_swap = true;
            },
            Pass,
            "allows it",
            "",
        ),
        case(
            "unread",
            "swap",
            |f, _| f.swaps = None,
            Skip,
            "/proc/swaps: not read",
            "",
        ),
        case(
            "not steered",
            "time",
            |f, _| {
                f.clock.synchronized = Some(false);
                f.clock.service = None;
            },
            Warn,
            "STA_UNSYNC",
            "chrony",
        ),
        case(
            "off by more than Ceph takes",
            "time",
            |f, _| f.clock.skew_ms = Some(-60),
            Fail,
            "-60 ms from the fleet's median, 50 ms allowed",
            "chrony",
        ),
        case(
            "off, without Ceph",
            "time",
            |f, r| {
                f.clock.skew_ms = Some(-60);
                r.ceph_disks.clear();
                r.roles.pop();
            },
            Pass,
            "500 ms allowed",
            "",
        ),
        case(
            "unread",
            "time",
            |f, _| f.clock = Default::default(),
            Skip,
            "not read",
            "",
        ),
        case(
            "localhost",
            "names",
            |f, _| f.names.hostname = "localhost".into(),
            Fail,
            "hostname: localhost",
            "set-hostname",
        ),
        case(
            "capitals",
            "names",
            |f, _| f.names.hostname = "Edge_1".into(),
            Fail,
            "Edge_1",
            "lower case",
        ),
        case(
            "no machine id",
            "names",
            |f, _| f.names.machine_id = Some(String::new()),
            Warn,
            "machine-id",
            "systemd-machine-id-setup",
        ),
        case(
            "no name server",
            "names",
            |f, _| f.names.nameservers = Some(Vec::new()),
            Warn,
            "no nameserver",
            "resolv.conf",
        ),
        case(
            "dead name server",
            "names",
            |f, _| f.names.answered = Attempt::failed(None, "no answer within 1 s"),
            Warn,
            "192.0.2.53: no answer",
            "port 53",
        ),
        case("no proxy", "proxy", |_, _| {}, Pass, "no proxy", ""),
        case(
            "covered",
            "proxy",
            |f, _| proxied(f, "localhost,10.0.0.0/8,.svc"),
            Pass,
            "http://proxy:3128",
            "",
        ),
        case(
            "not covered",
            "proxy",
            |f, _| proxied(f, "localhost,10.96.0.0/16"),
            Fail,
            "not covered: 10.244.0.0/16, .svc",
            "add 10.244.0.0/16,.svc",
        ),
        case(
            "a stranger",
            "ports",
            |f, _| listen(f, 6443, Some("nginx")),
            Fail,
            "0.0.0.0:6443 is held by nginx (pid 7)",
            "kubeadm reset",
        ),
        case(
            "our own",
            "ports",
            |f, _| {
                listen(f, 6443, Some("kube-apiserver"));
                listen(f, 10257, Some("kube-controller"));
                listen(f, 49153, Some("virt-launcher"));
            },
            Pass,
            "held by the cluster itself: 10257 kube-controller, 6443 kube-apiserver",
            "",
        ),
        case(
            "somebody",
            "ports",
            |f, _| listen(f, 10250, None),
            Warn,
            "by whom is not known",
            "kubelet",
        ),
        case(
            "a port of migration",
            "ports",
            |f, _| listen(f, 49200, Some("game")),
            Warn,
            "game",
            "migrating",
        ),
        case(
            "a port of a role that the node has not",
            "ports",
            |f, r| {
                listen(f, 6443, Some("nginx"));
                r.roles = vec![Role::Worker];
            },
            Pass,
            "all free",
            "",
        ),
        case(
            "unread",
            "ports",
            |f, _| f.network.listeners = None,
            Skip,
            "not read",
            "",
        ),
        case(
            "little memory",
            "resources",
            |f, _| f.memory.total = Some(6 * GIB),
            Fail,
            "6.0 GiB in all",
            "add memory",
        ),
        case(
            "memory in use",
            "resources",
            |f, _| f.memory.available = Some(3 * GIB),
            Warn,
            "3.0 GiB available; 8.0 GiB wanted",
            "stop what uses it",
        ),
        case(
            "full disk",
            "resources",
            |f, _| f.space[0].available = GIB,
            Fail,
            "/var/lib: 1.0 GiB free",
            "free space",
        ),
        case(
            "read-only",
            "resources",
            |f, _| f.space[0].read_only = true,
            Fail,
            "read-only",
            "repair",
        ),
        case(
            "one CPU",
            "resources",
            |f, _| f.cpu.logical = 1,
            Warn,
            "1 CPUs; 2 wanted",
            "more CPUs",
        ),
        case(
            "little locked memory",
            "resources",
            |f, _| f.memory.memlock = Some(64 << 10),
            Warn,
            "RLIMIT_MEMLOCK: 64 KiB",
            "LimitMEMLOCK",
        ),
    ]);
}

#[test]
fn the_catalogue_is_that_of_the_documentation_in_its_order() {
    let ids: Vec<&str> = catalogue().iter().map(|check| check.id).collect();
    assert_eq!(
        ids.join(" "),
        "cpu.virt kvm.dev kvm.run kvm.nested iommu.acpi iommu.active iommu.cmdline iommu.mode \
         iommu.ir iommu.unsafe iommu.group vfio.module sriov.cap sriov.state sriov.trial \
         sriov.mgmt nic.numa nic.link nic.mtu hugepages secureboot kernel microcode modules \
         cgroup disk.ceph ceph.stale swap time ports names proxy resources"
    );
    let judged: Vec<String> = hardware::judge(&node(), &asked())
        .into_iter()
        .map(|verdict| verdict.id)
        .collect();
    assert!(ids.iter().all(|id| judged.iter().any(|found| found == id)));
}

#[test]
fn every_check_explains_itself() {
    for check in catalogue() {
        let text = explain(check.id).unwrap();
        for part in ["Reads:", "Why:", "Judged:"] {
            assert!(text.contains(part), "{}: no {part}", check.id);
        }
        assert!(!check.remedies.is_empty(), "{}", check.id);
        // Texts are put into sentences, which end themselves.
        assert!(!check.why.ends_with('.') && !check.title.ends_with('.'));
        assert!(check.judged.ends_with('.'), "{}", check.id);
        assert!(check.remedies.iter().all(|r| !r.text.ends_with('.')));
        assert!(markdown().contains(&format!("\n### {}\n", check.id)));
    }
    assert_eq!(explain("no.such"), None);
    assert!(check("kvm.run").is_some());
    let text = explain("iommu.active").unwrap();
    assert!(
        text.contains("Intel, table there: add intel_iommu=on"),
        "{text}"
    );
}

#[test]
fn facts_survive_json_and_an_empty_document_is_an_unknown_node() {
    let text = serde_json::to_string(&node()).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), node());
    assert_eq!(
        serde_json::from_str::<Facts>("{}").unwrap(),
        Facts::default()
    );
    let later =
        r#"{"schema":9,"disks":[{"name":"x","kind":"tape"}],"cpu":{"vendor":"zx"},"new":1}"#;
    let facts: Facts = serde_json::from_str(later).unwrap();
    assert_eq!(facts.disks[0].kind, BlockKind::Other);
    let text = serde_json::to_string(&asked()).unwrap();
    assert_eq!(
        serde_json::from_str::<Requirements>(&text).unwrap(),
        asked()
    );
    assert!(serde_json::from_str::<Requirements>(r#"{"huge_pages":[]}"#).is_err());
}
