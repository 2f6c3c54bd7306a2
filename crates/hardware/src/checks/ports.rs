//! Ports that the cluster binds on the node.

use crate::catalogue::{Check, Remedy};
use crate::facts::{Facts, Listener};
use crate::finding::Finding;
use crate::requirements::{Requirements, Role};

/// First and last port of live migration (upstream KubeVirt's range).
const MIGRATION: (u16, u16) = (49152, 49215);

/// Ports of a role, and how the process is called that may hold each already.
const TABLE: [(Role, u16, &str); 9] = [
    (Role::ControlPlane, 6443, "kube-apiserver"),
    (Role::ControlPlane, 2379, "etcd"),
    (Role::ControlPlane, 2380, "etcd"),
    (Role::ControlPlane, 10257, "kube-controller-manager"),
    (Role::ControlPlane, 10259, "kube-scheduler"),
    (Role::Worker, 10250, "kubelet"),
    (Role::Worker, 10256, "kube-proxy"),
    (Role::Storage, 3300, "ceph-mon"),
    (Role::Storage, 6789, "ceph-mon"),
];

/// The kernel cuts the name of a process at this length (TASK_COMM_LEN less the final NUL).
const COMM: usize = 15;

pub(crate) static PORTS: Check = Check {
    id: "ports",
    title: "no other program holds a port of the cluster",
    reads: &["/proc/net/tcp, /proc/net/tcp6", "/proc/*/fd, /proc/*/comm"],
    why: "a component whose port is taken ends at once and is restarted for ever",
    judged: "Passes when the ports of the node's roles are free, or held by the very component they are for: control plane 6443, 2379, 2380, 10257, 10259; worker 10250, 10256 and 49152 to 49215 for migration; storage 3300 and 6789. Fails when another program holds one, warns when it cannot be told which does.",
    remedies: &[Remedy {
        case: "always",
        text: "stop or move the program; an earlier Kubernetes is removed with its own tool (kubeadm reset, k3s-uninstall.sh)",
    }],
    judge,
};

fn judge(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let Some(listeners) = &facts.network.listeners else {
        return Finding::skip(super::not_read(facts, "/proc/net/tcp")).alone();
    };
    let mut findings = Vec::new();
    let mut ours = Vec::new();
    for (_, port, program) in TABLE
        .iter()
        .filter(|(role, ..)| requirements.has_role(*role))
    {
        for listener in holders(listeners, *port, *port) {
            match &listener.process {
                Some(process) if same(process, program) => {
                    ours.push(format!("{port} {process}"));
                }
                _ => findings.push(taken(listener, program)),
            }
        }
    }
    if requirements.has_role(Role::Worker) {
        let (first, last) = MIGRATION;
        findings.extend(
            holders(listeners, first, last)
                .into_iter()
                // The program of a guest that migrates is one of ours.
                .filter(|listener| {
                    !listener.process.as_deref().is_some_and(|process| {
                        process.starts_with("virt-") || process.starts_with("qemu")
                    })
                })
                .map(|listener| {
                    let mut finding = taken(listener, "a migrating guest");
                    // One port of 64: another is taken for the migration.
                    finding.status = crate::Status::Warn;
                    finding
                }),
        );
    }
    if findings.is_empty() {
        ours.sort();
        ours.dedup();
        return Finding::pass(if ours.is_empty() {
            "/proc/net/tcp: all free".to_owned()
        } else {
            format!(
                "/proc/net/tcp: held by the cluster itself: {}",
                ours.join(", ")
            )
        })
        .alone();
    }
    findings
}

/// The cluster binds this TCP port on some node, so who holds it matters.
#[must_use]
pub fn is_port_of_cluster(port: u16) -> bool {
    let (first, last) = MIGRATION;
    (first..=last).contains(&port) || TABLE.iter().any(|(_, known, _)| *known == port)
}

/// TCP sockets that listen on a port from `first` to `last`, one for each process and port.
fn holders(listeners: &[Listener], first: u16, last: u16) -> Vec<&Listener> {
    let mut found: Vec<&Listener> = Vec::new();
    for listener in listeners
        .iter()
        .filter(|listener| listener.protocol.starts_with("tcp"))
        .filter(|listener| (first..=last).contains(&listener.port))
    {
        if !found
            .iter()
            .any(|known| known.port == listener.port && known.process == listener.process)
        {
            found.push(listener);
        }
    }
    found
}

/// `process` is `program`, whose name the kernel may have cut.
fn same(process: &str, program: &str) -> bool {
    process == program || (process.len() == COMM && program.starts_with(process))
}

fn taken(listener: &Listener, program: &str) -> Finding {
    let address = if listener.address.contains(':') {
        format!("[{}]:{}", listener.address, listener.port)
    } else {
        format!("{}:{}", listener.address, listener.port)
    };
    let remedy = format!(
        "stop or move it: the port is {program}'s; an earlier Kubernetes is removed with its own tool (kubeadm reset, k3s-uninstall.sh)"
    );
    match (&listener.process, listener.pid) {
        (Some(process), Some(pid)) => Finding::fail(
            format!("/proc/net/tcp: {address} is held by {process} (pid {pid})"),
            remedy,
        ),
        (Some(process), None) => Finding::fail(
            format!("/proc/net/tcp: {address} is held by {process}"),
            remedy,
        ),
        (None, _) => Finding::warn(
            format!("/proc/net/tcp: {address} is held, by whom is not known"),
            remedy,
        ),
    }
    .on(listener.port.to_string())
}
