//! Sources and volumes that fail midway: tried again and right in the end, or failed with the reason.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use testkit::{Namespace, kubectl};

use crate::datavolumes::{create, fails, holds, http, no_workers, random, succeeds};
use crate::fixtures::{path, run};
use crate::web::{Files, Reply};

const SIZE: usize = 9 << 20;

#[test]
fn a_source_that_is_busy_or_stalls_or_changes_midway_is_read_right_in_the_end() {
    let ns = Namespace::new("faults");
    let (disk, new) = (random(SIZE), random(SIZE));
    let [busy, stalls, before, after] = [&disk, &disk, &disk, &new].map(|b| Arc::new(b.clone()));
    let web = Files::default()
        // At first, and once more in the middle.
        .handled("busy", move |asked| {
            let reply = Reply::of(&busy);
            match asked.number {
                0 | 1 | 4 => reply.status("503 Service Unavailable"),
                _ => reply,
            }
        })
        .handled("stalls", move |asked| {
            let mut reply = Reply::of(&stalls);
            reply.stalls = asked.number == 4;
            reply
        })
        // Another file takes its place after some of it was read.
        .handled("changes", move |asked| {
            if asked.number < 4 {
                return Reply::of(&before);
            }
            let mut reply = Reply::of(&after);
            reply.tag = "\"2\"";
            reply
        })
        .serve();
    for name in ["busy", "stalls", "changes"] {
        create(&ns, &http(name, &web.url(name), "16Mi"));
    }
    for (name, bytes) in [("busy", &disk), ("changes", &new), ("stalls", &disk)] {
        succeeds(&ns, name);
        holds(&ns, name, bytes);
        assert!(web.asked(name) > 4, "{name}: the fault was never met");
    }
    // A mixture of both is not believed, so all of it was read again.
    let restarts = &ns.get("dv", "changes")["status"]["restartCount"];
    assert!(restarts.as_i64() >= Some(1), "{restarts}");
    no_workers(&ns);
}

/// A volume that has less room than it says, gone when the test ends.
struct Small {
    name: String,
    directory: PathBuf,
}

impl Small {
    fn new(ns: &Namespace) -> Self {
        let name = format!("{}-small", ns.name());
        let directory = PathBuf::from("/var/lib/edgevirt-test").join(&name);
        std::fs::create_dir_all(&directory).unwrap();
        let _ = run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,uid=107,gid=107,mode=0770"])
            .arg("tmpfs")
            .arg(&directory));
        let small = Self { name, directory };
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": small.name},
            "spec": {
                "capacity": {"storage": "64Mi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
                "hostPath": {"path": path(&small.directory)},
            },
        });
        let _ = kubectl(&["create", "-f", "-"], Some(&volume.to_string())).expect_ok("volume");
        small
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "pv", &self.name, "--wait=false"], None);
        // A pod that is on its way out may still hold it: lazily.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.directory)
            .output();
        let _ = std::fs::remove_dir(&self.directory);
        // Unless another test has something there.
        let _ = std::fs::remove_dir("/var/lib/edgevirt-test");
    }
}

#[test]
fn a_full_volume_is_told_and_never_called_a_success() {
    let ns = Namespace::new("full");
    let small = Small::new(&ns);
    let web = Files::default().file("disk", random(SIZE)).serve();
    let dv = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
        "metadata": {"name": "disk"},
        "spec": {
            "source": {"http": {"url": web.url("disk")}},
            "pvc": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "volumeName": small.name, "resources": {"requests": {"storage": "64Mi"}},
            },
        },
    });
    create(&ns, &dv);
    fails(&ns, "disk", "the volume is full");
    no_workers(&ns);
    crate::datavolumes::delete(&ns, "disk");
}
