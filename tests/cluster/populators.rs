//! Claims that refer to a source of their data, and claims that a storage profile completes.

use http::Method;
use serde_json::{Value, json};
use testkit::{Namespace, eventually, kubectl};

use crate::datavolumes::{create, holds, no_workers, random};
use crate::tokens::{ask, proxy, token};
use crate::web::Files;

/// Bytes of the images.
const IMAGE: usize = 3 << 20;

fn source(kind: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": kind,
        "metadata": {"name": "source"}, "spec": spec,
    })
}

/// A claim that refers to the source of `kind`.
fn claim(name: &str, kind: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "16Mi"}},
            "dataSourceRef": {"apiGroup": "cdi.kubevirt.io", "kind": kind, "name": "source"},
        },
    })
}

/// Nobody uses these claims: they are filled at once.
fn at_once() -> Value {
    json!({"cdi.kubevirt.io/storage.bind.immediate.requested": ""})
}

/// A pod that uses the claim and ends.
fn consumer(claim: &str) -> Value {
    let words = [
        "-n",
        "cdi",
        "get",
        "deployment",
        "cdi-deployment",
        "-o=jsonpath={.spec.template.spec.containers[0].image}",
    ];
    let image = kubectl(&words, None).expect_ok("an image of the cluster");
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "consumer"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "c", "image": image, "command": ["/usr/bin/virt"],
                "volumeMounts": [{"name": "d", "mountPath": "/d"}],
            }],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

/// Waits until the claim has its data and what filled it is gone.
fn populated(ns: &Namespace, name: &str, bytes: &[u8]) {
    eventually(&format!("{name} is populated"), || {
        let claim = ns.get("pvc", name);
        let phase = &claim["metadata"]["annotations"]["cdi.kubevirt.io/storage.pod.phase"];
        if claim["status"]["phase"] == "Bound" && phase == "Succeeded" {
            return Ok(());
        }
        Err(format!(
            "{} {}",
            claim["metadata"]["annotations"], claim["status"]
        ))
    });
    holds(ns, name, bytes);
    let uid = ns.get("pvc", name)["metadata"]["uid"].clone();
    ns.wait_gone("pvc", &format!("prime-{}", uid.as_str().unwrap()));
    no_workers(ns);
}

#[test]
fn a_claim_gets_its_data_before_the_first_pod_sees_it() {
    let ns = Namespace::new("populator");
    let bytes = random(IMAGE);
    let web = Files::default().file("disk.img", bytes.clone()).serve();
    create(&ns, &claim("disk", "VolumeImportSource", &json!({})));
    create(&ns, &consumer("disk"));
    // The source may come last.
    let http = json!({"source": {"http": {"url": web.url("disk.img")}}});
    create(&ns, &source("VolumeImportSource", &http));
    eventually("the pod has run", || {
        let pod = ns.get("pod", "consumer");
        match pod["status"]["phase"].as_str() {
            Some("Succeeded" | "Failed") => Ok(()),
            _ => Err(pod["status"].to_string()),
        }
    });
    populated(&ns, "disk", &bytes);
    let notes = ns.get("pvc", "disk")["metadata"]["annotations"].clone();
    let progress = &notes["cdi.kubevirt.io/storage.populator.progress"];
    assert_eq!(progress, "100.0%", "{notes}");
    for reason in ["CreatedPVCPrimeSuccessfully", "importSucceeded"] {
        eventually(&format!("event {reason}"), || {
            let field = format!("involvedObject.name=disk,reason={reason}");
            let events = ns.kubectl(&["get", "events", "--field-selector", &field, "-o", "name"]);
            let told = !events.stdout.trim().is_empty();
            told.then_some(()).ok_or_else(|| format!("{events:?}"))
        });
    }
}

#[test]
fn an_upload_and_a_clone_of_it_are_populated_by_reference() {
    let ns = Namespace::new("populators");
    let bytes = random(IMAGE);
    create(&ns, &source("VolumeUploadSource", &json!({})));
    create(&ns, &claim("sent", "VolumeUploadSource", &at_once()));
    eventually("the upload's server is ready", || {
        let notes = ns.get("pvc", "sent")["metadata"]["annotations"].clone();
        let ready = notes["cdi.kubevirt.io/storage.pod.ready"] == "true";
        ready.then_some(()).ok_or_else(|| notes.to_string())
    });
    let token = token(&ns, "sent");
    let (status, text) = ask(&Method::POST, &proxy(), Some(&token), bytes.clone()).unwrap();
    assert_eq!(status, 200, "{text}");
    populated(&ns, "sent", &bytes);

    let of = json!({"source": {"kind": "PersistentVolumeClaim", "name": "sent"}});
    create(&ns, &source("VolumeCloneSource", &of));
    create(&ns, &claim("copy", "VolumeCloneSource", &at_once()));
    populated(&ns, "copy", &bytes);
    let notes = ns.get("pvc", "copy")["metadata"]["annotations"].clone();
    assert_eq!(notes["cdi.kubevirt.io/clonePhase"], "Succeeded", "{notes}");
}

#[test]
fn a_claim_that_asks_for_it_is_completed_from_the_storage_profile() {
    let ns = Namespace::new("profile");
    let claim = |size: &Value| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "gaps", "labels": {"cdi.kubevirt.io/applyStorageProfile": "true"}},
            "spec": {"resources": {"requests": size}, "volumeMode": "FromStorageProfile"},
        })
    };
    let refused = ns
        .create(&claim(&json!({})).to_string())
        .expect_err("a claim without a size");
    assert!(refused.contains("missing storage size"), "{refused}");
    create(&ns, &claim(&json!({"storage": "1Gi"})));
    let spec = ns.get("pvc", "gaps")["spec"].clone();
    assert_eq!(spec["accessModes"], json!(["ReadWriteOnce"]), "{spec}");
    assert_eq!(spec["volumeMode"], "Filesystem", "{spec}");
    // A gibibyte, and six percent for the file system.
    assert_eq!(
        spec["resources"]["requests"]["storage"], "1142278537",
        "{spec}"
    );
}
