//! The doctor finds what keeps images out of claims, says the command that helps, and leaves nothing behind.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Background, Namespace, edgevirt_program, eventually, kubectl};

/// Label of the claim that the doctor makes for a moment.
const LABEL: &str = "edgevirt.local/doctor";

/// The doctor's exit code, and its verdicts about a namespace.
fn doctor(ns: &Namespace) -> (i32, Vec<Value>) {
    let words = [
        "doctor",
        "cdi",
        "--namespace",
        ns.name(),
        "--output",
        "json",
    ];
    let output = Command::new(edgevirt_program())
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    let verdicts = report["nodes"][0]["verdicts"].as_array().unwrap().clone();
    (output.status.code().unwrap(), verdicts)
}

fn of<'a>(verdicts: &'a [Value], id: &str, subject: &str) -> &'a Value {
    let mut all = verdicts.iter();
    let found = all.find(|one| one["id"] == id && one["subject"] == subject);
    found.unwrap_or_else(|| panic!("no verdict {id} {subject} in {verdicts:#?}"))
}

fn upload(name: &str, class: Option<&str>) -> String {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": {"name": name},
        "spec": {"source": {"upload": {}}, "pvc": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "32Mi"}}}},
    })
    .to_string()
}

fn assert_nothing_left() {
    let words = [
        "get",
        "pvc",
        "--all-namespaces",
        "--selector",
        LABEL,
        "--output=name",
    ];
    eventually("no claim of the doctor is left", || {
        let left = kubectl(&words, None).expect_ok("get pvc");
        if left.trim().is_empty() {
            Ok(())
        } else {
            Err(left)
        }
    });
}

#[test]
fn a_healthy_cluster_has_no_failure_and_only_the_warnings_of_one_without_an_address() {
    let ns = Namespace::new("doctor");
    // Nobody said where the proxy is reached from outside, and no certificate is for a cluster IP.
    let known = |one: &Value| {
        let of = (
            one["id"].as_str().unwrap(),
            one["subject"].as_str().unwrap(),
        );
        matches!(of, ("proxy.url", "") | ("proxy.certificate", "names"))
    };
    // Other tests kill programs.
    let (code, verdicts) = eventually("the cluster is found healthy", || {
        let (code, verdicts) = doctor(&ns);
        let bad = |one: &&Value| match one["status"].as_str().unwrap() {
            "fail" => true,
            "warn" => !known(one),
            _ => false,
        };
        match verdicts.iter().find(bad) {
            Some(bad) => Err(format!("{bad:#}")),
            None => Ok((code, verdicts)),
        }
    });
    assert!([0, 4].contains(&code), "{code}");
    for (id, subject) in [
        ("cdi.object", ""),
        ("proxy.service", ""),
        ("proxy.address", "port-forward"),
        ("proxy.certificate", "chain"),
        ("policy", ns.name()),
        ("token", ns.name()),
        ("storage.class", "default"),
        ("stuck", ""),
    ] {
        assert_eq!(
            of(&verdicts, id, subject)["status"],
            "pass",
            "{id} {subject}"
        );
    }
    assert_nothing_left();
}

#[test]
fn a_policy_that_shuts_uploads_out_and_a_claim_of_a_missing_class_are_found_and_the_fix_helps() {
    let ns = Namespace::new("doctor");
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "block-all-ingress"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    let _ = ns.create(&deny.to_string()).expect_ok("policy");
    let _ = ns.create(&upload("disk", None)).expect_ok("upload");
    ns.wait_for("dv", "disk", "/status/phase", "UploadReady");
    let policy = "cdi-upload-proxy-policy";
    let (_, verdicts) = doctor(&ns);
    let found = of(&verdicts, "policy", ns.name());
    assert_eq!(found["status"], "pass", "{found:#}");
    assert!(
        found["evidence"].as_str().unwrap().contains(policy),
        "{found:#}"
    );

    // Taken away, it comes back while the upload waits; changed, it is its new owner's.
    let uid = |ns: &Namespace| ns.get("networkpolicy", policy)["metadata"]["uid"].clone();
    let before = uid(&ns);
    let _ = ns
        .kubectl(&["delete", "networkpolicy", policy])
        .expect_ok("delete");
    let _ = ns
        .kubectl(&["delete", "service", "cdi-upload-disk"])
        .expect_ok("delete");
    eventually("policy and service are back", || {
        let service = ns.get("service", "cdi-upload-disk");
        match uid(&ns) {
            Value::String(new) if before != new && service.is_object() => Ok(()),
            other => Err(format!("{other} {service}")),
        }
    });
    let nobody = r#"{"spec": {"ingress": null}}"#;
    let _ = ns
        .kubectl(&[
            "patch",
            "networkpolicy",
            policy,
            "--type=merge",
            "--patch",
            nobody,
        ])
        .expect_ok("patch");
    let (code, verdicts) = doctor(&ns);
    let found = of(&verdicts, "policy", ns.name());
    assert_eq!((code, &found["status"]), (3, &json!("fail")), "{found:#}");
    assert!(
        found["evidence"]
            .as_str()
            .unwrap()
            .contains("block-all-ingress"),
        "{found:#}"
    );
    let fix = found["remedy"].as_str().unwrap();
    let done = Command::new("sh").args(["-c", fix]).status().unwrap();
    assert!(done.success(), "{fix}");
    let (_, verdicts) = doctor(&ns);
    assert_eq!(of(&verdicts, "policy", ns.name())["status"], "pass");

    let _ = ns
        .create(&upload("nowhere", Some("no-such-class")))
        .expect_ok("upload");
    let subject = format!("pvc {}/nowhere", ns.name());
    eventually("the claim is there", || match ns.get("pvc", "nowhere") {
        Value::Null => Err("none".to_owned()),
        _ => Ok(()),
    });
    let (code, verdicts) = doctor(&ns);
    let found = of(&verdicts, "stuck", &subject);
    assert_eq!((code, &found["status"]), (3, &json!("fail")), "{found:#}");
    let evidence = found["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("no-such-class does not exist"),
        "{evidence}"
    );
    assert!(
        found["remedy"]
            .as_str()
            .unwrap()
            .contains("delete dv nowhere"),
        "{found:#}"
    );
    assert_nothing_left();
}

#[test]
fn an_interrupted_doctor_takes_its_claim_away() {
    let ns = Namespace::new("doctor");
    let mut interrupted = 0;
    for after in [20, 100, 150, 200, 250, 300, 400] {
        let mut command = Background::command(&edgevirt_program());
        let _ = command
            .args([
                "doctor",
                "cdi",
                "--namespace",
                ns.name(),
                "--output",
                "json",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut doctor = Background::start(&mut command);
        std::thread::sleep(Duration::from_millis(after));
        if doctor.left() > 0 {
            doctor.interrupt_group();
        }
        match doctor.wait(Duration::from_secs(20)).code() {
            Some(130) => interrupted += 1,
            // Done before; or not yet begun, when a signal ends it as any program.
            code => assert!(
                matches!(code, Some(0 | 4) | None),
                "after {after} ms: {code:?}"
            ),
        }
        assert_nothing_left();
    }
    assert!(interrupted > 0, "it was always done before");
}
