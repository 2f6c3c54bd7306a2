//! Whatever of a clone across namespaces dies, the clone has the source's bytes in the end.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use testkit::{Namespace, eventually_within};

use super::cdi::{again, force, kill_component, process, signal};
use crate::datavolumes::{create, directory, no_workers, succeeds, volume};
use crate::fixtures::{path, run};

/// Enough for a middle.
const MIB: u64 = 256;
/// So much of it has arrived in the middle.
const SOME: u64 = 8 << 20;
const LIMIT: Duration = Duration::from_secs(60);

/// Waits, with looks that are cheap and many, until some of the clone has arrived.
fn midway(disk: &Path) {
    eventually_within(LIMIT, "some of the clone", || {
        for _ in 0..400 {
            if std::fs::metadata(disk).is_ok_and(|found| found.blocks() * 512 > SOME) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err("little".to_owned())
    });
}

fn not_whole(ns: &Namespace) {
    assert_ne!(ns.get("dv", "disk")["status"]["phase"], "Succeeded");
}

#[test]
fn a_clone_across_namespaces_survives_both_its_pods_and_the_controller() {
    let (far, ns) = (Namespace::new("kills-far"), Namespace::new("kills-near"));
    let size = format!("{MIB}Mi");
    create(&far, &volume("golden", &json!({"blank": {}}), &size));
    succeeds(&far, "golden");
    let source = directory(&far, "golden").join("disk.img");
    let _ = run(Command::new("dd")
        .args([
            "if=/dev/urandom",
            "bs=1M",
            "conv=notrunc,fsync",
            "status=none",
        ])
        .arg(format!("count={}", MIB - 8))
        .arg(format!("of={}", path(&source))));
    let from = json!({"pvc": {"namespace": far.name(), "name": "golden"}});
    create(&ns, &volume("disk", &from, &size));
    let pod = || {
        let uid = ns.get("pvc", "disk")["metadata"]["uid"].clone();
        format!("{}-source-pod", uid.as_str().unwrap())
    };
    ns.wait_for("pvc", "disk", "/status/phase", "Bound");
    let clone = directory(&ns, "disk").join("disk.img");
    // The reader dies where it is, and is started again.
    let first = process(&pod());
    midway(&clone);
    signal("STOP", &first);
    not_whole(&ns);
    signal("KILL", &first);
    let second = eventually_within(LIMIT, "another reader", || {
        Some(process(&pod()))
            .filter(|pid| *pid != first)
            .ok_or(first.clone())
    });
    // The server's pod is gone with all that it had; the reader finds the next one.
    signal("STOP", &second);
    not_whole(&ns);
    force(&["-n", ns.name(), "cdi-upload-disk"]);
    signal("CONT", &second);
    // The reader's pod is gone while there is no controller.
    kill_component("cdi-deployment");
    force(&["-n", far.name(), &pod()]);
    again("cdi-deployment");
    succeeds(&ns, "disk");
    let _ = run(Command::new("cmp").args([&source, &clone]));
    no_workers(&ns);
    no_workers(&far);
}
