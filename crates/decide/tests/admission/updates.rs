//! Changes of objects that exist: who may change what.

use decide::admission::{self, Verdict};
use serde_json::{Value, json};

use super::{ALICE, CONTROLLER, HANDLER, context, create, patched, review, vm, vmi, with};

fn stored_vmi() -> Value {
    let (stored, verdict) = create(&vmi());
    assert!(verdict.allowed);
    with(stored, "/status/nodeName", json!("edge1"))
}

pub(crate) fn validate(new: &Value, old: &Value, user: &str) -> Verdict {
    admission::validate(&review(new, old, user), &context())
}

#[test]
fn nobody_changes_the_spec_of_an_instance() {
    let old = stored_vmi();
    let new = with(old.clone(), "/spec/domain/cpu/cores", json!(4));
    for user in [ALICE, CONTROLLER] {
        let verdict = validate(&new, &old, user);
        assert_eq!((verdict.code, verdict.status_reason), (422, "Invalid"));
        assert_eq!(verdict.message, "update of VMI object is restricted");
    }
}

#[test]
fn only_components_change_the_grace_period() {
    let old = stored_vmi();
    let new = with(old.clone(), "/spec/terminationGracePeriodSeconds", json!(1));
    for (old, new) in [(&old, &new), (&new, &old)] {
        assert!(validate(new, old, CONTROLLER).allowed);
        assert!(!validate(new, old, ALICE).allowed);
    }
}

#[test]
fn a_status_by_a_stranger_is_put_back() {
    let old = stored_vmi();
    let new = with(old.clone(), "/status/phase", json!("Running"));
    let verdict = admission::mutate(&review(&new, &old, ALICE), &context());
    assert_eq!(patched(&new, &verdict), old);
    let verdict = admission::mutate(&review(&new, &old, CONTROLLER), &context());
    assert_eq!(patched(&new, &verdict), new);
}

#[test]
fn reserved_labels_are_the_components() {
    let old = stored_vmi();
    let mut new = old.clone();
    new["metadata"]["labels"]["kubevirt.io/nodeName"] = json!("edge2");
    assert!(validate(&new, &old, CONTROLLER).allowed);
    let verdict = validate(&new, &old, ALICE);
    assert_eq!(
        verdict.message,
        "modification of the following reserved kubevirt.io/ labels on a VMI object is prohibited"
    );
    let mut new = old.clone();
    new["metadata"]["labels"]["mine"] = json!("x");
    assert!(validate(&new, &old, ALICE).allowed);
}

#[test]
fn a_handler_touches_its_own_instances_only() {
    let old = stored_vmi();
    let new = with(old.clone(), "/status/phase", json!("Running"));
    let on = |node: Option<&str>, gate: bool| {
        let mut request = review(&new, &old, HANDLER);
        request.user_node = node.map(str::to_owned);
        let mut ctx = context();
        if gate {
            ctx.config.feature_gates = vec!["NodeRestriction".to_owned()];
        }
        admission::validate(&request, &ctx)
    };
    assert!(on(Some("edge1"), false).allowed);
    assert!(on(Some("edge1"), true).allowed);
    assert!(on(None, false).allowed);
    assert!(on(None, true).message.contains("missing node name"));
    for gate in [false, true] {
        assert_eq!(
            on(Some("edge2"), gate).message,
            "Node restriction, virt-handler is only allowed to modify VMIs it owns"
        );
    }
}

#[test]
fn a_changed_vm_is_checked_and_an_unchanged_one_is_not() {
    let bad = with(vm(), "/spec/runStrategy", json!("Sometimes"));
    assert!(!validate(&bad, &vm(), ALICE).allowed);
    let labelled = with(bad.clone(), "/metadata/labels", json!({"a": "b"}));
    assert!(validate(&labelled, &bad, ALICE).allowed);
}

#[test]
fn a_vm_that_goes_away_is_left_alone() {
    let going = with(
        vm(),
        "/metadata/deletionTimestamp",
        json!("2026-01-02T03:04:05Z"),
    );
    let bad = with(going, "/spec/runStrategy", json!("Sometimes"));
    assert!(validate(&bad, &vm(), ALICE).allowed);
    let verdict = admission::mutate(&review(&bad, &vm(), ALICE), &context());
    assert_eq!(verdict.patches, Vec::<Value>::new());
}

#[test]
fn firmware_identity_is_given_at_creation_only() {
    let (stored, _) = create(&vm());
    assert!(stored["spec"]["template"]["spec"]["domain"]["firmware"]["uuid"].is_string());
    let verdict = admission::mutate(&review(&vm(), &vm(), ALICE), &context());
    let after = patched(&vm(), &verdict);
    assert_eq!(
        after["spec"]["template"]["spec"]["domain"]["firmware"],
        Value::Null
    );
    assert_eq!(
        after["spec"]["template"]["spec"]["domain"]["machine"]["type"],
        "q35"
    );
}
