//! ObjectTransfers: a claim or DataVolume gets another namespace or name, and its volume and bytes stay what they are.

use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::{Namespace, kubectl};

use crate::datavolumes::{condition, create, directory, eventually, holds, http, random, succeeds};
use crate::fixtures::{self, Added, run};
use crate::web::Files;

const MIB: usize = 1 << 20;

/// An ObjectTransfer that goes when the test ends.
pub(crate) struct Transfer(String);

impl Transfer {
    /// Moves `name` of that kind from one namespace to another.
    pub(crate) fn start(kind: &str, name: &str, from: &Namespace, to: &Namespace) -> Self {
        let object = transfer(kind, name, from, to, name);
        create(from, &object);
        Self(object["metadata"]["name"].as_str().unwrap().to_owned())
    }

    fn get(&self) -> Value {
        let said = kubectl(&["get", "objecttransfer", &self.0, "-o", "json"], None);
        serde_json::from_str(&said.stdout).unwrap_or_default()
    }

    /// Waits for the phase, and for words in the condition.
    pub(crate) fn comes_to(&self, phase: &str, words: &str) -> Value {
        eventually(&format!("{} {phase}: {words}", self.0), || {
            let found = self.get();
            let complete = condition(&found, "Complete");
            let message = complete["message"].as_str().unwrap_or_default();
            if found["status"]["phase"] == phase && message.contains(words) {
                Ok(found)
            } else {
                Err(found["status"].to_string())
            }
        })
    }

    /// Waits until it is complete, and holds nothing up.
    pub(crate) fn completes(&self) {
        let done = self.comes_to("Complete", "Transfer complete");
        assert_eq!(condition(&done, "Complete")["status"], "True", "{done}");
        eventually("its finalizer goes", || {
            let left = self.get()["metadata"]["finalizers"].clone();
            if left.is_null() {
                Ok(())
            } else {
                Err(left.to_string())
            }
        });
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "objecttransfer", &self.0, "--wait=false"], None);
    }
}

fn transfer(kind: &str, name: &str, from: &Namespace, to: &Namespace, new: &str) -> Value {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "ObjectTransfer",
        "metadata": {"name": format!("{}-to-{}-{new}", from.name(), to.name())},
        "spec": {
            "source": {"kind": kind, "namespace": from.name(), "name": name},
            "target": {"namespace": to.name(), "name": new},
        },
    })
}

/// A pod with the claim at `/d`.
fn pod(name: &str, image: &str, claim: &str, words: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": image, "command": words, "volumeMounts": [{"name": "d", "mountPath": "/d"}]}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

/// Name and reclaim policy of a claim's volume.
pub(crate) fn volume(ns: &Namespace, claim: &str) -> (String, String) {
    let name = ns.get("pvc", claim)["spec"]["volumeName"].clone();
    let name = name.as_str().expect("a bound claim").to_owned();
    let path = "-o=jsonpath={.spec.persistentVolumeReclaimPolicy}";
    let policy = kubectl(&["get", "pv", &name, path], None).expect_ok("pv");
    (name, policy)
}

fn digest(file: &PathBuf) -> String {
    let said = run(std::process::Command::new("sha256sum").arg(file));
    said.split_whitespace().next().unwrap().to_owned()
}

fn nothing_of(ns: &Namespace, name: &str) {
    ns.wait_gone("dv", name);
    ns.wait_gone("pvc", name);
}

#[test]
fn a_data_volume_waits_for_its_pod_and_moves_with_volume_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let tools = Added::new("tools:1", &fixtures::tools_archive(dir.path()));
    let (from, to) = (Namespace::new("from"), Namespace::new("to"));
    let bytes = random(64 * MIB);
    let web = Files::default().file("disk.raw", bytes.clone()).serve();
    create(&from, &http("disk", &web.url("disk.raw"), "80Mi"));
    succeeds(&from, "disk");
    let (pv, policy) = volume(&from, "disk");
    let fetched = web.asked("disk.raw");
    let before = digest(&directory(&from, "disk").join("disk.img"));
    create(
        &from,
        &pod(
            "user",
            tools.name(),
            "disk",
            &["/bin/busybox", "sleep", "600"],
        ),
    );
    from.wait_for("pod", "user", "/status/phase", "Running");

    let moves = Transfer::start("DataVolume", "disk", &from, &to);
    let _ = moves.comes_to("Pending", "Pods using DataVolume PVC: user");
    assert_eq!(volume(&from, "disk"), (pv.clone(), policy.clone()));
    let _ = from
        .kubectl(&["delete", "pod", "user", "--wait=false"])
        .expect_ok("the user ends");
    moves.completes();
    nothing_of(&from, "disk");
    succeeds(&to, "disk");
    assert_eq!(volume(&to, "disk"), (pv.clone(), policy));
    holds(&to, "disk", &bytes);
    assert_eq!(web.asked("disk.raw"), fetched, "nothing is fetched again");

    create(
        &to,
        &pod(
            "reader",
            tools.name(),
            "disk",
            &["/bin/busybox", "sha256sum", "/d/disk.img"],
        ),
    );
    to.wait_for("pod", "reader", "/status/phase", "Succeeded");
    let read = to.kubectl(&["logs", "reader"]).expect_ok("logs");
    assert!(read.starts_with(&before), "{before} {read}");

    // The DataVolume has its claim, and the volume its policy: all goes with it.
    let _ = to.kubectl(&["delete", "pod", "reader"]).expect_ok("pod");
    let _ = to.kubectl(&["delete", "dv", "disk"]).expect_ok("dv");
    nothing_of(&to, "disk");
    eventually("the volume goes with its claim", || {
        let left = kubectl(
            &["get", "pv", &pv, "--ignore-not-found", "-o", "name"],
            None,
        )
        .stdout;
        if left.trim().is_empty() {
            Ok(())
        } else {
            Err(left)
        }
    });
}

#[test]
fn a_claim_that_stands_alone_moves_unless_its_target_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let tools = Added::new("tools:1", &fixtures::tools_archive(dir.path()));
    let (from, to) = (Namespace::new("alone"), Namespace::new("taken"));
    let claim = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "labels": {"keep": "me"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
        })
    };
    create(&from, &claim("data"));
    // What is there already is refused at once.
    create(&to, &claim("data"));
    let object = transfer("PersistentVolumeClaim", "data", &from, &to, "data");
    let said = to
        .create(&object.to_string())
        .expect_err("a target that is there");
    assert!(said.contains("already exists"), "{said}");
    let _ = to.kubectl(&["delete", "pvc", "data"]).expect_ok("claim");

    let script =
        "/bin/busybox dd if=/dev/urandom of=/d/file bs=65536 count=128 && /bin/busybox sleep 600";
    create(
        &from,
        &pod("writer", tools.name(), "data", &["/bin/sh", "-c", script]),
    );
    from.wait_for("pod", "writer", "/status/phase", "Running");
    let moves = Transfer::start("PersistentVolumeClaim", "data", &from, &to);
    let _ = moves.comes_to("Pending", "Pods using PVC: writer");
    let (pv, policy) = volume(&from, "data");
    let file = directory(&from, "data").join("file");
    eventually("the file is written", || {
        let size = std::fs::metadata(&file).map_or(0, |meta| meta.len());
        if size == 8 << 20 {
            Ok(())
        } else {
            Err(size.to_string())
        }
    });
    let before = digest(&file);
    // Somebody takes the name while the transfer waits: the source stays what it is.
    create(&to, &claim("data"));
    let _ = from.kubectl(&["delete", "pod", "writer"]).expect_ok("pod");
    let _ = moves.comes_to("Error", "already exists");
    assert_eq!(volume(&from, "data"), (pv.clone(), policy.clone()));
    assert_eq!(from.get("pvc", "data")["status"]["phase"], "Bound");
    // He gives it up, and it goes on by itself. Whoever waited for the name to go might wait for ever.
    let _ = to
        .kubectl(&["delete", "pvc", "data", "--wait=false"])
        .expect_ok("claim");
    moves.completes();
    from.wait_gone("pvc", "data");
    assert_eq!(volume(&to, "data"), (pv, policy));
    assert_eq!(to.get("pvc", "data")["metadata"]["labels"]["keep"], "me");
    assert_eq!(digest(&directory(&to, "data").join("file")), before);
}
