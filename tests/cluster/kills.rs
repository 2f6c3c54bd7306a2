//! Whatever dies, a running guest goes on and its status is right again in 30 s.

mod cdi;
mod clones;
mod node;
mod transfers;

use std::time::Duration;

use testkit::{Console, Namespace, eventually_within, kubectl};

use crate::manifest;

/// Within this time the status is right again.
const RECOVERY: Duration = Duration::from_secs(30);

fn kill(component: &str) {
    let _ = kubectl(
        &[
            "delete",
            "pod",
            "-n",
            "kubevirt",
            "-l",
            &format!("kubevirt.io={component}"),
            "--grace-period=0",
            "--force",
            "--wait=false",
        ],
        None,
    )
    .expect_ok("kill");
}

fn uptime(console: &mut Console) -> f64 {
    let text = console.run("cat /proc/uptime");
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn killing_the_control_plane_leaves_the_guest_running_and_its_status_right() {
    let ns = Namespace::new("kill");
    let _ = ns
        .create(&manifest::vm("guest", "runStrategy: RerunOnFailure"))
        .expect_ok("create");
    ns.wait_for("vmi", "guest", "/status/phase", "Running");
    let uid = ns.get("vmi", "guest")["metadata"]["uid"].clone();
    let mut console = Console::open(ns.name(), "guest");
    console.login();
    let mut last = uptime(&mut console);
    drop(console);

    for component in [
        "virt-controller",
        "virt-api",
        "virt-operator",
        "virt-handler",
    ] {
        kill(component);
        eventually_within(
            RECOVERY,
            &format!("status after {component} was killed"),
            || {
                let vmi = ns.get("vmi", "guest");
                if vmi["metadata"]["uid"] == uid && vmi["status"]["phase"] == "Running" {
                    Ok(())
                } else {
                    Err(vmi["status"].to_string())
                }
            },
        );
        eventually_within(Duration::from_secs(60), "the components are back", || {
            let pods = kubectl(
                &[
                    "get",
                    "pods",
                    "-n",
                    "kubevirt",
                    "-l",
                    &format!("kubevirt.io={component}"),
                    "--no-headers",
                ],
                None,
            )
            .stdout;
            let all = !pods.trim().is_empty() && pods.lines().all(|l| l.contains("1/1"));
            if all { Ok(()) } else { Err(pods) }
        });
        let mut console = Console::open(ns.name(), "guest");
        console.send("\r");
        console.expect("$ ", Duration::from_secs(60));
        let now = uptime(&mut console);
        assert!(
            now > last,
            "{component}: uptime {now} after {last}: the guest was restarted"
        );
        last = now;
    }

    // The state machine still works: pause reaches the guest through new processes.
    let _ = ns.virtctl(&["pause", "vm", "guest"]).expect_ok("pause");
    ns.wait_for("vm", "guest", "/status/printableStatus", "Paused");
}
