//! The node's names and its clock.

use super::not_read;
use crate::catalogue::{Check, Remedy};
use crate::facts::{Attempt, Facts};
use crate::finding::Finding;
use crate::requirements::Requirements;

/// Ceph's monitors warn above this skew between them (mon_clock_drift_allowed), milliseconds.
const CEPH_SKEW_MS: i64 = 50;

/// Longest label of a DNS name (RFC 1035).
const LABEL: usize = 63;

/// Longest name of a Kubernetes node (RFC 1123 subdomain).
const NAME: usize = 253;

pub(crate) static TIME: Check = Check {
    id: "time",
    title: "the clock is steered and agrees with the other nodes",
    reads: &["adjtimex", "the realtime clock against the fleet's median"],
    why: "certificates, etcd's leases and Ceph's monitors go by the clock",
    judged: "Fails when the clock is further from the fleet's median than allowed (500 ms, with Ceph 50 ms); warns when nothing steers it. Passes otherwise.",
    remedies: &[Remedy {
        case: "always",
        text: "install and enable chrony or systemd-timesyncd with a time server that the node reaches",
    }],
    judge: time,
};

fn time(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let clock = &facts.clock;
    let remedy =
        "install and enable chrony or systemd-timesyncd with a time server that the node reaches";
    let allowed = if requirements.needs_ceph() {
        requirements.max_skew_ms.min(CEPH_SKEW_MS)
    } else {
        requirements.max_skew_ms
    };
    let mut evidence = Vec::new();
    match clock.synchronized {
        Some(true) => evidence.push("adjtimex: synchronized".to_owned()),
        Some(false) => evidence.push("adjtimex: STA_UNSYNC, nothing steers the clock".to_owned()),
        None => {}
    }
    if let Some(service) = &clock.service {
        evidence.push(format!("{service} runs"));
    }
    if let Some(skew) = clock.skew_ms {
        evidence.push(format!(
            "{skew:+} ms from the fleet's median, {allowed} ms allowed"
        ));
        if skew.unsigned_abs() > allowed.unsigned_abs() {
            return Finding::fail(evidence.join("; "), remedy).alone();
        }
    }
    if clock.synchronized == Some(false) {
        return Finding::warn(evidence.join("; "), remedy).alone();
    }
    if clock.synchronized.is_none() && clock.skew_ms.is_none() {
        return Finding::skip(not_read(facts, "adjtimex")).alone();
    }
    Finding::pass(evidence.join("; ")).alone()
}

pub(crate) static NAMES: Check = Check {
    id: "names",
    title: "the node has a proper name and resolves others",
    reads: &[
        "/proc/sys/kernel/hostname",
        "/etc/machine-id",
        "/etc/resolv.conf",
        "/etc/hosts",
        "a query to the name server",
    ],
    why: "the host name becomes the node's name in Kubernetes, where it must be unique and lower case; pods inherit the node's name servers",
    judged: "Fails when the host name is localhost or no DNS name in lower case, or another node of the fleet has it; warns when no name server is set or none answers, and when the machine id is missing or another node's. Passes otherwise.",
    remedies: &[
        Remedy {
            case: "host name",
            text: "hostnamectl set-hostname NAME, in lower case letters, digits and hyphens",
        },
        Remedy {
            case: "machine id",
            text: "rm /etc/machine-id && systemd-machine-id-setup, then reboot (a cloned image keeps the original's)",
        },
        Remedy {
            case: "name server",
            text: "correct nameserver in /etc/resolv.conf, or open port 53 to it; without DNS nothing but what is on the node can be reached by name",
        },
    ],
    judge: names,
};

/// A name that Kubernetes takes for a node: an RFC 1123 subdomain.
fn proper(name: &str) -> bool {
    let alnum = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        label.len() <= LABEL
            && bytes.first().is_some_and(|byte| alnum(*byte))
            && bytes.last().is_some_and(|byte| alnum(*byte))
            && bytes.iter().all(|byte| alnum(*byte) || *byte == b'-')
    };
    name.len() <= NAME && name.split('.').all(label)
}

fn names(facts: &Facts, _: &Requirements) -> Vec<Finding> {
    let names = &facts.names;
    let mut findings = Vec::new();
    let mut well = Vec::new();
    let hostname = format!("/proc/sys/kernel/hostname: {}", names.hostname);
    if names.hostname.is_empty() {
        findings.push(Finding::skip(not_read(facts, "/proc/sys/kernel/hostname")).on("hostname"));
    } else if names.hostname.split('.').next() == Some("localhost") || !proper(&names.hostname) {
        findings.push(
            Finding::fail(
                hostname,
                "hostnamectl set-hostname NAME, in lower case letters, digits and hyphens, unlike any other node's",
            )
            .on("hostname"),
        );
    } else {
        well.push(hostname);
    }
    let machine = "rm /etc/machine-id && systemd-machine-id-setup, then reboot";
    match names.machine_id.as_deref() {
        None => {}
        Some("" | "uninitialized") => findings.push(
            Finding::warn(
                format!(
                    "/etc/machine-id: {}",
                    names.machine_id.as_deref().unwrap_or_default()
                ),
                machine,
            )
            .on("machine-id"),
        ),
        Some(id) => well.push(format!("/etc/machine-id: {id}")),
    }
    let server = "correct nameserver in /etc/resolv.conf, or open port 53 to it";
    match (&names.nameservers, &names.answered) {
        (None, _) => {}
        (Some(servers), _) if servers.is_empty() => {
            findings.push(Finding::warn("/etc/resolv.conf: no nameserver", server).on("resolver"))
        }
        (Some(servers), Attempt::Failed { error, .. }) => findings.push(
            Finding::warn(
                format!(
                    "/etc/resolv.conf: nameserver {}: {error}",
                    servers.join(", ")
                ),
                server,
            )
            .on("resolver"),
        ),
        (Some(servers), answered) => well.push(format!(
            "/etc/resolv.conf: nameserver {}{}",
            servers.join(", "),
            if answered.worked() { " answers" } else { "" }
        )),
    }
    if !well.is_empty() {
        findings.insert(0, Finding::pass(well.join("; ")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::proper;

    #[test]
    fn node_names_are_lower_case_dns_names() {
        for (name, expected) in [
            ("edge1", true),
            ("edge-1.site.example", true),
            ("0", true),
            ("Edge1", false),
            ("edge_1", false),
            ("-edge", false),
            ("edge.", false),
            ("", false),
        ] {
            assert_eq!(proper(name), expected, "{name}");
        }
        assert!(!proper(&"a".repeat(64)));
    }
}
