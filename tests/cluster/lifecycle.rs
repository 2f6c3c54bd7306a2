//! Run strategies, guest poweroff, and requests in an awkward moment.

use testkit::{Console, Namespace};

use crate::manifest;

#[test]
fn a_guest_that_powers_itself_off_is_succeeded() {
    let ns = Namespace::new("poweroff");
    let _ = ns
        .create(&manifest::vmi("guest", "#cloud-config\n"))
        .expect_ok("create");
    ns.wait_for("vmi", "guest", "/status/phase", "Running");
    let mut console = Console::open(ns.name(), "guest");
    console.login();
    console.send("sudo poweroff\r");
    ns.wait_for("vmi", "guest", "/status/phase", "Succeeded");
}

#[test]
fn a_vm_that_always_runs_is_started_again_after_its_guest_powers_off() {
    let ns = Namespace::new("always");
    let _ = ns
        .create(&manifest::vm("guest", "runStrategy: Always"))
        .expect_ok("create");
    ns.wait_for("vmi", "guest", "/status/phase", "Running");
    let first = ns.get("vmi", "guest")["metadata"]["uid"].clone();
    let mut console = Console::open(ns.name(), "guest");
    console.login();
    console.send("sudo poweroff\r");
    testkit::eventually("another VMI runs", || {
        let vmi = ns.get("vmi", "guest");
        let other = vmi["metadata"]["uid"] != first && vmi["status"]["phase"] == "Running";
        if other {
            Ok(())
        } else {
            Err(vmi["status"].to_string())
        }
    });
}

#[test]
fn a_start_while_the_last_instance_is_going_away_is_queued_and_honoured() {
    let ns = Namespace::new("queue");
    let _ = ns
        .create(&manifest::vm("guest", "runStrategy: Manual"))
        .expect_ok("create");
    ns.wait_for("vm", "guest", "/status/printableStatus", "Stopped");
    let _ = ns.virtctl(&["start", "guest"]).expect_ok("start");
    ns.wait_for("vmi", "guest", "/status/phase", "Running");
    let first = ns.get("vmi", "guest")["metadata"]["uid"].clone();
    let _ = ns.virtctl(&["stop", "guest"]).expect_ok("stop");
    let _ = ns
        .virtctl(&["start", "guest"])
        .expect_ok("start while stopping");
    testkit::eventually("another VMI runs", || {
        let vmi = ns.get("vmi", "guest");
        let other = !vmi.is_null()
            && vmi["metadata"]["uid"] != first
            && vmi["status"]["phase"] == "Running";
        if other {
            Ok(())
        } else {
            Err(vmi["status"].to_string())
        }
    });
}
