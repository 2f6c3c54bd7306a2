//! Phases and conditions by claim and worker.
#![allow(clippy::needless_pass_by_value, clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn dv(status: Value) -> DataVolume {
    serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "uid": "dv-uid"},
        "spec": {}, "status": status,
    }))
    .unwrap()
}

fn claim(phase: &str, annotations: &[(&str, &str)]) -> PersistentVolumeClaim {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(name, value)| (format!("cdi.kubevirt.io/storage.{name}"), json!(value)))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "annotations": annotations},
        "status": {"phase": phase},
    }))
    .unwrap()
}

fn told(old: Value, claim: Option<&PersistentVolumeClaim>) -> (DataVolumeStatus, Option<Event>) {
    let dv = dv(old);
    let seen = Seen {
        dv: &dv,
        claim,
        adopted: false,
        waits: false,
        progress: None,
        stage: None,
        cause: None,
    };
    status(&seen, Timestamp::UNIX_EPOCH)
}

const UPLOAD: (&str, &str) = ("upload.target", "");
const IMPORT: (&str, &str) = ("import.source", "http");

/// Phase of the claim, its annotations, phase of the DataVolume.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn phases_follow_claim_and_worker() {
    let cases: &[Case] = &[
        ("Pending", &[UPLOAD], "Pending"),
        ("Bound", &[UPLOAD], "PVCBound"),
        (
            "Pending",
            &[UPLOAD, ("pod.phase", "Pending")],
            "UploadScheduled",
        ),
        (
            "Bound",
            &[UPLOAD, ("pod.phase", "Running"), ("pod.ready", "false")],
            "UploadScheduled",
        ),
        (
            "Bound",
            &[UPLOAD, ("pod.phase", "Running"), ("pod.ready", "true")],
            "UploadReady",
        ),
        ("Bound", &[UPLOAD, ("pod.phase", "Succeeded")], "Succeeded"),
        (
            "Bound",
            &[IMPORT, ("pod.phase", "Pending")],
            "ImportScheduled",
        ),
        (
            "Bound",
            &[IMPORT, ("pod.phase", "Running")],
            "ImportInProgress",
        ),
        (
            "Bound",
            &[IMPORT, ("pod.phase", "Failed")],
            "ImportScheduled",
        ),
        (
            "Bound",
            &[
                IMPORT,
                ("pod.phase", "Failed"),
                ("import.fatalError", "true"),
            ],
            "Failed",
        ),
        ("Bound", &[IMPORT, ("pod.phase", "Succeeded")], "Succeeded"),
        ("Lost", &[IMPORT], "Failed"),
    ];
    for (bound, annotations, phase) in cases {
        let claim = claim(bound, annotations);
        assert_eq!(
            told(json!({}), Some(&claim)).0.phase,
            *phase,
            "{annotations:?}"
        );
    }
    assert_eq!(told(json!({}), None).0.phase, "Pending");
}

fn condition<'a>(status: &'a DataVolumeStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    (&found.status, &found.reason, &found.message)
}

#[test]
fn conditions_say_what_is_going_on() {
    let none = told(json!({}), None).0;
    assert_eq!(
        condition(&none, "Bound"),
        ("False", "NotFound", "No PVC found")
    );
    let runs = claim(
        "Bound",
        &[
            IMPORT,
            ("pod.phase", "Running"),
            ("condition.running", "true"),
            ("condition.running.reason", "Pod is running"),
        ],
    );
    let runs = told(json!({}), Some(&runs)).0;
    assert_eq!(
        condition(&runs, "Bound"),
        ("True", "Bound", "PVC disk Bound")
    );
    assert_eq!(condition(&runs, "Running"), ("True", "Pod is running", ""));
    assert_eq!(condition(&runs, "Ready"), ("False", "TransferRunning", ""));
    assert_eq!(runs.progress, "N/A");
}

#[test]
fn a_failure_says_why_under_ready() {
    let failed = claim(
        "Bound",
        &[
            IMPORT,
            ("pod.phase", "Failed"),
            ("import.fatalError", "true"),
            ("condition.running", "false"),
            ("condition.running.reason", "Error"),
            ("condition.running.message", "the image has a backing file"),
        ],
    );
    let (status, event) = told(json!({"phase": "ImportInProgress"}), Some(&failed));
    assert_eq!(
        condition(&status, "Ready"),
        ("False", "Error", "the image has a backing file")
    );
    let event = event.unwrap();
    assert!(event.warning && event.reason == "ImportFailed");
}

#[test]
fn times_move_only_with_what_they_date() {
    let claim = claim("Bound", &[IMPORT, ("pod.phase", "Succeeded")]);
    let (first, event) = told(json!({"phase": "ImportInProgress"}), Some(&claim));
    assert_eq!(
        event.unwrap().message,
        "Successfully imported into PVC disk"
    );
    assert_eq!(first.progress, "100.0%");
    let dv = dv(json!(first));
    let seen = Seen {
        dv: &dv,
        claim: Some(&claim),
        adopted: false,
        waits: false,
        progress: None,
        stage: None,
        cause: None,
    };
    let later = Timestamp::from_second(1000).unwrap();
    let (second, event) = status(&seen, later);
    assert_eq!((second, event), (first, None));
}

#[test]
fn adopted_claims_are_done_when_they_are_bound() {
    let dv = dv(json!({}));
    for (bound, phase) in [("Pending", "Pending"), ("Bound", "Succeeded")] {
        let claim = claim(bound, &[]);
        let seen = Seen {
            dv: &dv,
            claim: Some(&claim),
            adopted: true,
            waits: false,
            progress: None,
            stage: None,
            cause: None,
        };
        assert_eq!(status(&seen, Timestamp::UNIX_EPOCH).0.phase, phase);
    }
}

#[test]
fn progress_has_two_decimals_and_never_goes_over() {
    let dv = dv(json!({}));
    let claim = claim("Bound", &[IMPORT, ("pod.phase", "Running")]);
    for (percent, text) in [(12.345, "12.35%"), (100.7, "100.00%")] {
        let seen = Seen {
            dv: &dv,
            claim: Some(&claim),
            adopted: false,
            waits: false,
            progress: Some(percent),
            stage: None,
            cause: None,
        };
        let told = status(&seen, Timestamp::UNIX_EPOCH).0.progress;
        assert!(told == text || told == "12.34%", "{told}");
    }
}
