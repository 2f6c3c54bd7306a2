//! Kernel modules besides KVM's and vfio's.

use super::{not_read, some_of};
use crate::catalogue::{Check, Remedy};
use crate::facts::{Facts, Modules};
use crate::finding::Finding;
use crate::requirements::{Requirements, Role};
use crate::verdict::{Fix, Status};

const INSTALL: &str = "install the distribution's full kernel (linux-image-amd64 rather than -cloud-amd64 on Debian, linux-modules-extra on Ubuntu, kernel-modules on RHEL, Rocky and Fedora) and boot it";

pub(crate) static MODULES: Check = Check {
    id: "modules",
    title: "the kernel modules that the cluster rests on are there",
    reads: &[
        "/dev/net/tun, /dev/vhost-net (opened)",
        "/proc/modules, /sys/module/",
        "/lib/modules/RELEASE/modules.builtin",
        "/lib/modules/RELEASE/modules.dep",
        "/proc/sys/kernel/modules_disabled",
    ],
    why: "a guest's network interface is a tap device; pods need overlay, and br_netfilter so that a service answers a pod of the same bridge; Ceph volumes need rbd",
    judged: "Passes for what is loaded, built in, or loads by itself on first use (tun, overlay, vhost_net, rbd); a device node that opens is proof enough. Warns for br_netfilter and modules named in the inventory that are installed and not loaded, and for vhost_net missing (guests' networks are then slower). Fails for one that the running kernel does not have. Skipped where the kernel's modules cannot be seen, as in a container.",
    remedies: &[
        Remedy {
            case: "not loaded",
            text: "modprobe NAME, and list NAME in a file of /etc/modules-load.d",
        },
        Remedy {
            case: "not installed",
            text: INSTALL,
        },
        Remedy {
            case: "kernel updated, not rebooted",
            text: "reboot: the running kernel's modules are gone from /lib/modules",
        },
    ],
    judge: modules,
};

/// A module that something needs.
struct Need<'a> {
    name: &'a str,
    /// A device node that proves it by opening, and loads it on the way.
    node: Option<&'a str>,
    /// The kernel loads it on first use.
    automatic: bool,
    /// What its absence is.
    missing: Status,
}

fn modules(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let need = |name, node, automatic, missing| Need {
        name,
        node,
        automatic,
        missing,
    };
    let mut needs = vec![
        need("overlay", None, true, Status::Fail),
        need("br_netfilter", None, false, Status::Fail),
    ];
    if requirements.has_role(Role::Worker) {
        needs.push(need("tun", Some("/dev/net/tun"), true, Status::Fail));
        needs.push(need(
            "vhost_net",
            Some("/dev/vhost-net"),
            true,
            Status::Warn,
        ));
    }
    if requirements.needs_ceph() {
        needs.push(need("rbd", None, true, Status::Fail));
    }
    let named: Vec<String> = requirements
        .modules
        .iter()
        .map(|name| name.replace('-', "_"))
        .collect();
    for name in &named {
        if !needs.iter().any(|known| known.name == name) {
            needs.push(need(name, None, false, Status::Fail));
        }
    }
    let mut well = Vec::new();
    let mut unseen = Vec::new();
    let mut findings = Vec::new();
    for need in &needs {
        match state(facts, need) {
            State::There(how) => well.push(how),
            State::NotSeen => unseen.push(need.name.to_owned()),
            State::Bad(finding) => findings.push(finding.on(need.name)),
        }
    }
    if !unseen.is_empty() {
        findings.insert(
            0,
            Finding::skip(format!(
                "{}; cannot tell: {}",
                not_read(
                    facts,
                    &format!("/lib/modules/{}/modules.dep", facts.kernel.release)
                ),
                some_of(&unseen, 8)
            )),
        );
    }
    if !well.is_empty() {
        findings.insert(0, Finding::pass(well.join("; ")));
    }
    findings
}

enum State {
    There(String),
    NotSeen,
    Bad(Finding),
}

fn state(facts: &Facts, need: &Need<'_>) -> State {
    let modules = &facts.modules;
    let name = need.name;
    let node = need.node.and_then(|path| facts.device(path));
    if let Some(node) = node
        && node.open.worked()
    {
        return State::There(format!("{} opens", node.path));
    }
    if let Some(node) = node
        && let Some(error) = node.open.error()
        && (modules.present(name) || modules.directory.is_none() || modules.loadable(name))
    {
        let finding = Finding::new(
            need.missing,
            format!("{}: {error}", node.path),
            format!(
                "modprobe {name}, and list {name} in a file of /etc/modules-load.d; in a container give it the device {}",
                node.path
            ),
        );
        return State::Bad(if modules.loadable(name) && !modules.present(name) {
            finding.fixed_by(Fix::ModulesLoad {
                names: vec![name.to_owned()],
            })
        } else {
            finding
        });
    }
    if modules.present(name) {
        let how = if modules.known.get(name).is_some_and(|module| module.builtin) {
            "built in"
        } else {
            "loaded"
        };
        return State::There(format!("{name} {how}"));
    }
    let Some(directory) = &modules.directory else {
        return State::NotSeen;
    };
    absent(modules, need, directory, facts)
}

fn absent(modules: &Modules, need: &Need<'_>, directory: &str, facts: &Facts) -> State {
    let name = need.name;
    if let Some(file) = modules.blacklisted.get(name) {
        return State::Bad(Finding::new(
            need.missing,
            format!("{file}: {name} is blacklisted, and it is not loaded"),
            format!("take the line for {name} out of {file}, then modprobe {name}"),
        ));
    }
    if modules.loadable(name) {
        if need.automatic {
            return State::There(format!("{name} loads on first use"));
        }
        return State::Bad(
            Finding::warn(
                format!("/proc/modules: no {name}; {directory}/modules.dep: it is installed"),
                format!("modprobe {name}, and list {name} in a file of /etc/modules-load.d"),
            )
            .fixed_by(Fix::ModulesLoad {
                names: vec![name.to_owned()],
            }),
        );
    }
    if modules.disabled == Some(true) {
        return State::Bad(Finding::new(
            need.missing,
            format!("/proc/sys/kernel/modules_disabled: 1, and {name} is not loaded"),
            format!(
                "list {name} in a file of /etc/modules-load.d so that it loads before modules are locked, then reboot"
            ),
        ));
    }
    let remedy = match facts.os.id.as_str() {
        "ubuntu" => format!(
            "apt install linux-modules-extra-{}, then modprobe {name}",
            facts.kernel.release
        ),
        "debian" => {
            format!("install linux-image-amd64 (the cloud kernel lacks {name}) and boot it")
        }
        "rhel" | "rocky" | "almalinux" | "centos" | "fedora" => {
            format!(
                "dnf install kernel-modules-{}, then modprobe {name}",
                facts.kernel.release
            )
        }
        _ => INSTALL.to_owned(),
    };
    State::Bad(Finding::new(
        need.missing,
        format!("{directory}/modules.dep: no {name}, and it is not built in"),
        remedy,
    ))
}
