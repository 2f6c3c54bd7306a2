//! DataImportCrons: an image that changes in its registry is imported again, and nothing but the newest is kept.

use serde_json::{Value, json};
use testkit::{Namespace, edgevirt};

use crate::datavolumes::{condition, create, eventually, holds, random, succeeds};
use crate::fixtures::{Added, path, registry_secret};
use crate::imports::Insecure;
use crate::web::HOST;

const OWN: &str = "cdi.kubevirt.io/dataImportCron=nightly";

fn cron(url: &str) -> Value {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataImportCron",
        "metadata": {"name": "nightly"},
        "spec": {
            // Once a year: the test asks itself.
            "schedule": "0 0 1 1 *",
            "managedDataSource": "golden",
            "importsToKeep": 1,
            "retentionPolicy": "None",
            "template": {"spec": {
                "source": {"registry": {"url": url, "secretRef": "registry"}},
                "storage": {"resources": {"requests": {"storage": "16Mi"}}},
            }},
        },
    })
}

/// Name of the newest import, other than `last`, as soon as it is whole and the DataSource stands for it.
fn imported(ns: &Namespace, last: &str) -> String {
    eventually("the cron is up to date", || {
        let cron = ns.get("dic", "nightly");
        let source = ns.get("datasource", "golden");
        let name = source["spec"]["source"]["pvc"]["name"]
            .as_str()
            .unwrap_or_default();
        let good = |object: &Value, kind: &str| condition(object, kind)["status"] == "True";
        if good(&cron, "UpToDate") && good(&source, "Ready") && name != last && !name.is_empty() {
            Ok(name.to_owned())
        } else {
            Err(format!("{} {}", cron["status"], source["status"]))
        }
    })
}

#[test]
fn an_image_is_imported_when_it_changes_and_the_last_import_goes() {
    let dir = tempfile::tempdir().unwrap();
    let ns = Namespace::new("cron");
    let raw = dir.path().join("disk.raw");
    let (first, second) = (random(1 << 20), random(1 << 20));
    std::fs::write(&raw, &first).unwrap();
    let image = Added::new("cron:1", &raw);
    let registry = format!("{HOST}:5000");
    let _allowed = Insecure::allow(&registry);
    registry_secret(&ns);
    create(&ns, &cron(&format!("docker://{registry}/{}", image.name())));

    let old = imported(&ns, "");
    holds(&ns, &old, &first);
    let status = ns.get("dic", "nightly")["status"].clone();
    assert_eq!(status["lastImportedPVC"]["name"], old.as_str(), "{status}");
    let digest = status["currentImports"][0]["Digest"]
        .as_str()
        .unwrap_or_default();
    assert!(digest.starts_with("sha256:"), "{status}");
    create(
        &ns,
        &json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": "copy"},
            "spec": {
                "sourceRef": {"kind": "DataSource", "name": "golden"},
                "storage": {"resources": {"requests": {"storage": "16Mi"}}},
            },
        }),
    );
    succeeds(&ns, "copy");
    holds(&ns, "copy", &first);

    // Who looks is nobody for the API server.
    let pods = ns.list("pods", OWN);
    assert_eq!(pods[0]["spec"]["automountServiceAccountToken"], false);
    let patch = r#"{"spec": {"schedule": "@daily"}}"#;
    let said = ns.kubectl(&["patch", "dic", "nightly", "--type=merge", "--patch", patch]);
    let said = said.expect_err("another schedule");
    assert!(said.contains("Cannot update DataImportCron Spec"), "{said}");

    std::fs::write(&raw, &second).unwrap();
    let _ = edgevirt(&["image", "add", image.name(), "--file", &path(&raw)]).expect_ok("again");
    let jobs = ns.list("cronjobs", OWN);
    let from = format!("cronjob/{}", jobs[0]["metadata"]["name"].as_str().unwrap());
    let _ = ns
        .kubectl(&["create", "job", "now", "--from", &from])
        .expect_ok("a look now");
    let new = imported(&ns, &old);
    holds(&ns, &new, &second);
    ns.wait_gone("dv", &old);
    ns.wait_gone("pvc", &old);
    holds(&ns, "copy", &first);

    let _ = ns
        .kubectl(&["delete", "dic", "nightly", "--wait=false"])
        .expect_ok("delete");
    eventually("nothing of the cron is left", || {
        let kinds = "dic,datasources,dv,pvc,cronjobs,jobs,pods";
        let left = ns.kubectl(&["get", kinds, "-o", "name"]).stdout;
        let copies = |line: &&str| line.ends_with("/copy");
        if left.lines().all(|line| copies(&line)) {
            Ok(())
        } else {
            Err(left)
        }
    });
    holds(&ns, "copy", &first);
}
