//! `--fix` on a node with a bootloader: what it writes has its effect, now and after a reboot.

use std::time::Duration;

use hardware::Status;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::edge_node::{EdgeNode, Testbed};
use testkit::eventually_within;

use crate::{attempt, preflight};

/// A remedy that software carries out: the check, what makes it fail, and what is wrong then.
struct Remedy {
    check: &'static str,
    /// Arguments for the kernel.
    kernel: &'static str,
    /// A shell program for the running node.
    harm: &'static str,
    found: Status,
}

const fn kernel(check: &'static str, kernel: &'static str) -> Remedy {
    Remedy {
        check,
        kernel,
        harm: "",
        found: Status::Fail,
    }
}

const fn harm(check: &'static str, harm: &'static str, found: Status) -> Remedy {
    Remedy {
        check,
        kernel: "",
        harm,
        found,
    }
}

/// Every check of the catalogue with a fix of each kind that this node can have. (1 GiB pages want more memory than it
/// has; another version of cgroups another first program; iommu.ir is below.)
const REMEDIES: [Remedy; 8] = [
    kernel("iommu.active", "intel_iommu=off"),
    kernel("iommu.cmdline", "intel_iommu=off"),
    kernel("cgroup", "cgroup_disable=memory"),
    harm("vfio.module", "sed -i /vfio/d /etc/modules", Status::Warn),
    harm(
        "modules",
        "sed -i /br_netfilter/d /etc/modules",
        Status::Warn,
    ),
    harm("kvm.dev", "sed -i 's/^kvm$/true/' /init", Status::Fail),
    harm("hugepages", "true", Status::Fail),
    harm(
        "swap",
        "dd if=/dev/zero of=/swap bs=1M count=16 && chmod 600 /swap && mkswap /swap && echo '/swap none swap sw 0 0' >>/etc/fstab",
        Status::Warn,
    ),
];

/// What the tests ask: more pages than the node reserves.
fn asks(testbed: &Testbed) -> std::collections::BTreeMap<String, Value> {
    let mut asks = testbed.variant("grub").unwrap().asks.clone();
    let _ = asks.insert(
        "hugepages".into(),
        json!([{"size": 2_097_152, "count": 24}]),
    );
    // Memory and disk are not the subject, and pages take of the first.
    let _ = asks.insert("memory".into(), json!(64 << 20));
    asks
}

/// All files that a fix may touch.
fn files(node: &EdgeNode) -> String {
    node.ssh("cat /boot/grub/grub.cfg /etc/fstab; for f in /etc/default/grub* /etc/default/grub.d/* /etc/modules-load.d/* /etc/sysctl.d/* /etc/tmpfiles.d/*; do [ ! -f $f ] || { echo $f; cat $f; }; done; ls /var/lib/edgevirt 2>/dev/null; true")
        .expect_ok("files")
}

fn boot_id(node: &EdgeNode) -> String {
    node.ssh("[ -e /run/edge-node ] && cat /proc/sys/kernel/random/boot_id")
        .stdout
}

/// Hurts what the table names, and reboots.
fn hurt(node: &EdgeNode) {
    let words: Vec<&str> = REMEDIES.iter().map(|r| r.kernel).collect();
    let harms: Vec<&str> = REMEDIES
        .iter()
        .map(|r| r.harm)
        .filter(|h| !h.is_empty())
        .collect();
    let before = boot_id(node);
    let _ = node
        .ssh(&format!(
            "set -e; {}\nsed -i 's/intel_iommu=off/{}/' /etc/default/grub; update-grub 2>&1; (sleep 1; reboot) >/dev/null 2>&1 &",
            harms.join("\n"),
            words.join(" ")
        ))
        .expect_ok("harm");
    eventually_within(
        Duration::from_secs(180),
        "the node is up again",
        || match boot_id(node) {
            id if id.is_empty() || id == before => Err("not yet".to_owned()),
            _ => Ok(()),
        },
    );
}

#[test]
fn every_remedy_that_software_can_carry_out_turns_its_verdict_to_pass() {
    let testbed = Testbed::open().unwrap();
    let asks = asks(&testbed);
    attempt::on("grub", |node| {
        hurt(node);
        let hosts = [("node", preflight::host(node, &asks))];
        let untouched = files(node);

        let report = preflight::run(node.dir(), &hosts, &["--fix", "--dry-run"]);
        let found = report.worst("node");
        for remedy in &REMEDIES {
            let status = found.get(remedy.check);
            assert_eq!(
                status,
                Some(&remedy.found),
                "{}: {:#?}",
                remedy.check,
                report.verdicts("node")
            );
        }
        for line in [
            "+++ /etc/default/grub.d/90-edgevirt.cfg",
            "+# remove: cgroup_disable=memory intel_iommu=off",
            "+vfio-pci",
            "+vm.nr_hugepages = 24",
            "-/swap none swap sw 0 0",
            "run: /usr/sbin/update-grub",
            "takes effect after a reboot",
        ] {
            assert!(report.stderr.contains(line), "{line}: {}", report.stderr);
        }
        assert_eq!(files(node), untouched, "a dry run writes nothing");

        // Nobody can be asked here.
        let refused = preflight::start(node.dir(), &hosts, &["--fix"])
            .wait_with_output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert_eq!(files(node), untouched);

        // Without a reboot what needs none has its effect, and the next run is told of the rest.
        let report = preflight::run(node.dir(), &hosts, &["--fix", "--yes"]);
        let found = report.worst("node");
        for remedy in &REMEDIES {
            let expected = match remedy.kernel {
                "" => Status::Pass,
                _ => remedy.found,
            };
            let status = found.get(remedy.check);
            assert_eq!(
                status,
                Some(&expected),
                "{}: {}",
                remedy.check,
                report.stderr
            );
        }
        assert!(
            report.stderr.contains("reboot the node"),
            "{}",
            report.stderr
        );
        let written = files(node);
        let report = preflight::run(node.dir(), &hosts, &["--fix", "--yes"]);
        assert!(
            report.stderr.contains("a reboot may be due"),
            "{}",
            report.stderr
        );
        assert_eq!(files(node), written);

        let report = preflight::run(node.dir(), &hosts, &["--fix", "--yes", "--reboot"]);
        assert!(report.stderr.contains("rebooted"), "{}", report.stderr);
        let found = report.worst("node");
        for remedy in &REMEDIES {
            assert_eq!(
                found.get(remedy.check),
                Some(&Status::Pass),
                "{}: {}: {:#?}",
                remedy.check,
                report.stderr,
                report.verdicts("node")
            );
        }
        assert_eq!(report.code, Some(4), "nothing fails any more");

        let boot = boot_id(node);
        let report = preflight::run(node.dir(), &hosts, &["--fix", "--yes", "--reboot"]);
        assert!(
            report
                .stderr
                .contains("nothing that software can put right"),
            "{}",
            report.stderr
        );
        assert_eq!(files(node), written, "run again, nothing is changed");
        assert_eq!(boot_id(node), boot, "and nothing rebooted");
    });
}

#[test]
fn an_interrupted_fix_is_finished_by_the_next_run() {
    let testbed = Testbed::open().unwrap();
    let asks = asks(&testbed);
    attempt::on("grub", |node| {
        let hosts = [("node", preflight::host(node, &asks))];
        // For the next boot. Interrupts are judged when the IOMMU is on.
        let _ = node
            .ssh("sed -i 's/intel_iommu=off/& intremap=off/' /etc/default/grub")
            .expect_ok("intremap=off");
        // One that takes its time, and does nothing when it is ended in it.
        let _ = node
            .ssh("mv /usr/sbin/update-grub /root/; printf '#!/bin/sh\\n>/run/begun\\nsleep 8 && exec /root/update-grub\\n' >/usr/sbin/update-grub; chmod +x /usr/sbin/update-grub")
            .expect_ok("slow update-grub");
        let menu = "cat /boot/grub/grub.cfg";
        let before = node.ssh(menu).expect_ok(menu);
        let child = preflight::start(node.dir(), &hosts, &["--fix", "--yes", "--reboot"]);
        eventually_within(Duration::from_secs(60), "update-grub runs", || {
            match node.ssh("[ -e /run/begun ]").ok {
                true => Ok(()),
                false => Err("not yet".to_owned()),
            }
        });
        let boot = boot_id(node);
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let report = preflight::finish(child);
        assert_eq!(report.code, Some(130), "{}", report.stderr);
        // It ends with the connection, or goes on to its end: either way the node is whole.
        eventually_within(
            Duration::from_secs(60),
            "update-grub is gone",
            || match node
                .ssh("! pidof update-grub sleep >/dev/null || ! ps | grep -q '[s]leep 8'")
                .ok
            {
                true => Ok(()),
                false => Err("it runs".to_owned()),
            },
        );
        assert_eq!(boot_id(node), boot, "an interrupted run reboots nothing");
        let after = node.ssh(menu).expect_ok(menu);
        let unfinished = node.ssh("[ -e /var/lib/edgevirt/fix-unfinished ]").ok;
        assert_eq!(
            unfinished,
            after == before,
            "what was not finished is known"
        );
        let _ = node
            .ssh("mv /root/update-grub /usr/sbin/")
            .expect_ok("update-grub");
        let report = preflight::run(node.dir(), &hosts, &["--fix", "--yes", "--reboot"]);
        let found = report.worst("node");
        for check in ["iommu.active", "iommu.cmdline", "hugepages"] {
            assert_eq!(
                found.get(check),
                Some(&Status::Pass),
                "{check}: {}",
                report.stderr
            );
        }
        assert!(!node.ssh("[ -e /var/lib/edgevirt/fix-unfinished ]").ok);

        // A remedy can uncover another fault; what was put right stays so.
        assert_eq!(found.get("iommu.ir"), Some(&Status::Fail));
        let report = preflight::run(node.dir(), &hosts, &["--fix", "--yes", "--reboot"]);
        let found = report.worst("node");
        for check in ["iommu.active", "iommu.cmdline", "iommu.ir", "hugepages"] {
            assert_eq!(
                found.get(check),
                Some(&Status::Pass),
                "{check}: {}",
                report.stderr
            );
        }
    });
}
