//! The walk-through's section "Deploy stateless VM", step by step, its YAML unmodified.

use std::time::Duration;

use testkit::{Console, Namespace};

const MANIFEST: &str = include_str!("../../examples/statelessVM.yaml");
const NAME: &str = "cirros-stateless-vm";

#[test]
fn a_stateless_vm_from_its_yaml_to_its_deletion() {
    let ns = Namespace::new("walk");

    // 1. Deploy: it is there, and stopped.
    let said = ns.create(MANIFEST).expect_ok("kubectl create");
    assert!(said.contains("cirros-stateless-vm created"), "{said}");
    ns.wait_for("vm", NAME, "/status/printableStatus", "Stopped");

    // 2. Start.
    let said = ns.virtctl(&["start", NAME]).expect_ok("virtctl start");
    assert_eq!(said.trim(), "VM cirros-stateless-vm was scheduled to start");
    ns.wait_for("vmi", NAME, "/status/phase", "Running");
    ns.wait_for("vm", NAME, "/status/printableStatus", "Running");

    // 3. The pod and the VM are listed.
    let pods = ns.kubectl(&["get", "pods"]).expect_ok("get pods");
    assert!(pods.contains("virt-launcher-cirros-stateless-vm"), "{pods}");
    let vms = ns.kubectl(&["get", "vms"]).expect_ok("get vms");
    assert!(
        vms.contains("STATUS") && vms.contains("READY") && vms.contains("Running"),
        "{vms}"
    );

    // 4. Log in on the console.
    let mut console = Console::open(ns.name(), NAME);
    console.login();

    // 5. The pod's address is inside the guest, and the guest has both vCPUs.
    let vmi = ns.get("vmi", NAME);
    let ip = vmi["status"]["interfaces"][0]["ipAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    let pod = &ns.list("pods", "kubevirt.io=virt-launcher")[0];
    assert_eq!(pod["status"]["podIP"], ip.as_str());
    let addresses = console.run("ip addr");
    assert!(
        addresses.contains(&format!("inet {ip}/")),
        "{ip} not in {addresses}"
    );
    assert_eq!(console.run("nproc").trim(), "2");

    // Pause and unpause, as both the walk-through and virtctl's help write it.
    let said = ns
        .virtctl(&["pause", "vm", NAME])
        .expect_ok("virtctl pause");
    assert!(said.contains("was scheduled to pause"), "{said}");
    ns.wait_for("vm", NAME, "/status/printableStatus", "Paused");
    let _ = ns
        .virtctl(&["unpause", "vm", NAME])
        .expect_ok("virtctl unpause");
    ns.wait_for("vm", NAME, "/status/printableStatus", "Running");
    assert!(console.run("echo alive").contains("alive"));
    drop(console);

    // Restart: another VMI, the same VM.
    let before = ns.get("vmi", NAME)["metadata"]["uid"].clone();
    let _ = ns.virtctl(&["restart", NAME]).expect_ok("virtctl restart");
    testkit::eventually_within(Duration::from_secs(180), "another VMI runs", || {
        let vmi = ns.get("vmi", NAME);
        let other = vmi["metadata"]["uid"] != before && vmi["status"]["phase"] == "Running";
        if other {
            Ok(())
        } else {
            Err(vmi["status"].to_string())
        }
    });

    // Stop, then delete: nothing is left.
    let _ = ns.virtctl(&["stop", NAME]).expect_ok("virtctl stop");
    ns.wait_gone("vmi", NAME);
    ns.wait_for("vm", NAME, "/status/printableStatus", "Stopped");
    let _ = ns.kubectl(&["delete", "vm", NAME]).expect_ok("delete");
    ns.wait_gone("vm", NAME);
    testkit::eventually("no launcher pod left", || {
        let pods = ns.list("pods", "kubevirt.io=virt-launcher");
        if pods.is_empty() {
            Ok(())
        } else {
            Err(pods[0]["status"].to_string())
        }
    });
}
