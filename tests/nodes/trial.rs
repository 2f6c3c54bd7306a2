//! Trials: a virtual function is made, bound, opened, and everything is put back, whatever happens.

use hardware::Status;
use testkit::edge_node::{EdgeNode, Testbed};

use crate::{attempt, preflight};

/// The physical function of every node.
const PF: &str = "/sys/bus/pci/devices/0000:01:00.0";

/// All that a trial may change, as the node shows it. Whether the card's link has come up
/// after the boot, or is on its way again after its functions changed, is no part of it.
fn state(node: &EdgeNode) -> String {
    node.ssh(&format!(
        "cat {PF}/sriov_numvfs {PF}/sriov_drivers_autoprobe; ls /sys/bus/pci/devices /dev/vfio 2>&1; \
         cat /sys/bus/pci/devices/*/driver_override; ls /var/lib/edgevirt/probe | grep -v '^lock$'; \
         ip -o link | sed 's/NO-CARRIER,//; s/,LOWER_UP//'"
    ))
    .expect_ok("state of the node")
}

/// The state of a node on which a trial leaves nothing: the module stays once it was loaded, and so does the journal's
/// directory.
fn settled(node: &EdgeNode) -> String {
    let _ = node
        .ssh("modprobe vfio-pci; mkdir -p /var/lib/edgevirt/probe")
        .expect_ok("modprobe");
    state(node)
}

#[test]
fn a_trial_opens_a_virtual_function_and_puts_everything_back() {
    let testbed = Testbed::open().unwrap();
    let asks = &testbed.variant("full").unwrap().asks;
    attempt::on("full", |node| {
        let before = settled(node);
        let hosts = [("full", preflight::host(node, asks))];
        let report = preflight::run(node.dir(), &hosts, &["--probe"]);
        let found = report.worst("full");
        assert_eq!(
            found.get("sriov.trial"),
            Some(&Status::Pass),
            "{:#?}",
            report.verdicts("full")
        );
        assert_eq!(state(node), before);
    });
}

#[test]
fn a_trial_that_was_killed_is_undone_by_the_next_run() {
    let testbed = Testbed::open().unwrap();
    let asks = &testbed.variant("full").unwrap().asks;
    attempt::on("full", |node| {
        let before = settled(node);
        let hosts = [("full", preflight::host(node, asks))];

        // Whoever watches is faster than any way to be told from outside.
        let watch = format!(
            "(while [ \"$(cat {PF}/sriov_numvfs)\" = 0 ]; do :; done; \
         for exe in /proc/[0-9]*/exe; do case $(readlink $exe) in *edgevirt*) pid=${{exe#/proc/}}; kill -KILL ${{pid%/exe}};; esac; done; \
         echo killed >/run/killed) >/dev/null 2>&1 &"
        );
        let _ = node.ssh(&watch).expect_ok("watch");
        let child = preflight::start(node.dir(), &hosts, &["--probe"]);
        let _ = child.wait_with_output();
        assert_eq!(node.ssh("cat /run/killed").stdout.trim(), "killed");
        assert_ne!(
            state(node),
            before,
            "the trial was over before it was killed"
        );

        let report = preflight::run(node.dir(), &hosts, &[]);
        assert_eq!(report.worst("full").get("sriov.state"), Some(&Status::Pass));
        assert_eq!(state(node), before);
    });
}

#[test]
fn a_trial_on_the_nic_of_the_connection_is_refused() {
    let testbed = Testbed::open().unwrap();
    let asks = &testbed.variant("ssh-over-pf").unwrap().asks;
    attempt::on("ssh-over-pf", |node| {
        let before = state(node);
        let hosts = [("node", preflight::host(node, asks))];
        let report = preflight::run(node.dir(), &hosts, &["--probe"]);
        assert_ne!(report.worst("node").get("sriov.trial"), Some(&Status::Pass));
        assert_eq!(state(node), before);
    });
}
