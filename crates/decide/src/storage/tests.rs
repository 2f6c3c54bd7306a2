//! Every state that a claim and its DataVolume can be in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;

pub(crate) fn claim(patch: &Value) -> ClaimFacts {
    let mut value = json!({
        "metadata": {"name": "c", "uid": "u"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    });
    json_patch::merge(&mut value, patch);
    let claim: PersistentVolumeClaim = serde_json::from_value(value).unwrap();
    ClaimFacts::from(&claim)
}

pub(crate) fn owned() -> ClaimFacts {
    claim(&json!({"metadata": {"ownerReferences": [
        {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "name": "c", "uid": "d",
         "controller": true}]}}))
}

pub(crate) fn data_volume(phase: &str) -> DataVolumeFacts {
    let ready = if phase == "Succeeded" {
        "True"
    } else {
        "False"
    };
    let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]});
    DataVolumeFacts::new(&ObjectMeta::default(), &status)
}

pub(crate) fn storage(claim: Option<ClaimFacts>, dv: Option<DataVolumeFacts>) -> Storage {
    let named = |name: &str| name.to_owned();
    Storage {
        claims: claim.map(|claim| (named("c"), claim)).into_iter().collect(),
        data_volumes: dv.map(|dv| (named("c"), dv)).into_iter().collect(),
    }
}

fn spec(source: &Value) -> VmiSpec {
    let mut volume = json!({"name": "root"});
    json_patch::merge(&mut volume, source);
    serde_json::from_value(json!({"domain": {}, "volumes": [volume]})).unwrap()
}

#[test]
fn a_guest_starts_only_on_claims_with_their_content() {
    let pvc = spec(&json!({"persistentVolumeClaim": {"claimName": "c"}}));
    let dv = spec(&json!({"dataVolume": {"name": "c"}}));
    let ephemeral = spec(&json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}}));
    let plain = || Some(claim(&json!({})));
    let filled = |phase: &str| {
        let annotations = json!({"metadata": {"annotations": {POPULATING_ANNOTATION: phase}}});
        Some(claim(&annotations))
    };
    for (spec, claim, known, expected) in [
        (&pvc, None, None, "missing"),
        (&dv, None, None, "missing"),
        (&ephemeral, None, None, "missing"),
        (&pvc, plain(), None, "ready"),
        (&dv, plain(), None, "ready"),
        (&ephemeral, plain(), None, "ready"),
        (&pvc, filled("Running"), None, "waits"),
        (&pvc, filled("Succeeded"), None, "ready"),
        (&dv, None, Some("Pending"), "waits"),
        (&dv, None, Some("Failed"), "failed"),
        (&dv, Some(owned()), Some("ImportInProgress"), "waits"),
        (&pvc, Some(owned()), Some("ImportInProgress"), "waits"),
        (&pvc, Some(owned()), Some("Failed"), "failed"),
        (&dv, Some(owned()), Some("WaitForFirstConsumer"), "consumer"),
        (&dv, Some(owned()), Some("PendingPopulation"), "ready"),
        (&dv, Some(owned()), Some("Succeeded"), "ready"),
        (&dv, Some(owned()), None, "waits"),
    ] {
        let told = format!("{spec:?} {claim:?} {known:?}");
        let found = storage(claim, known.map(data_volume)).readiness("ns", spec);
        let word = match &found {
            Readiness {
                missing: Some(_), ..
            } => "missing",
            Readiness {
                failed: Some(_), ..
            } => "failed",
            Readiness {
                first_consumer: true,
                ..
            } => "consumer",
            Readiness { waits: Some(_), .. } => "waits",
            _ => "ready",
        };
        assert_eq!(word, expected, "{told}");
        assert_eq!(found.is_ready(), expected == "ready", "{told}");
    }
}

#[test]
fn an_image_is_as_large_as_was_asked_for_and_fits() {
    let with = |capacity: &str, request: &str| {
        claim(&json!({
            "spec": {"resources": {"requests": {"storage": request}}},
            "status": {"capacity": {"storage": capacity}}
        }))
        .image_bytes()
    };
    assert_eq!(with("2Gi", "1Gi"), Some(1 << 30));
    assert_eq!(with("1Gi", "2Gi"), Some(1 << 30));
    assert_eq!(ClaimFacts::default().image_bytes(), None);
}

#[test]
fn the_condition_of_data_volumes_follows_theirs() {
    let spec = spec(&json!({"dataVolume": {"name": "c"}}));
    let of = |known: Option<DataVolumeFacts>| {
        storage(Some(owned()), known)
            .data_volumes_ready(&spec)
            .map(|found| (found.status, found.reason))
    };
    let word = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    assert_eq!(of(None), None);
    assert_eq!(
        of(Some(data_volume("Succeeded"))),
        word("True", "AllDVsReady")
    );
    assert_eq!(
        of(Some(data_volume("Pending"))),
        word("False", "NotAllDVsReady")
    );
    assert_eq!(
        of(Some(DataVolumeFacts::default())),
        word("Unknown", "NotAllDVsReady")
    );
}

#[test]
fn a_worker_that_stopped_with_an_error_is_told() {
    let status = json!({"phase": "ImportInProgress", "conditions": [
        {"type": "Running", "status": "False", "reason": "Error", "message": "no route to host"},
        {"type": "Bound", "status": "True"}]});
    let known = DataVolumeFacts::new(&ObjectMeta::default(), &status);
    assert_eq!(known.error.as_deref(), Some("no route to host"));
    assert!(known.bound);
}
