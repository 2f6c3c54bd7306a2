//! Finalizers, deletion, and whose an instance is.

use super::*;

#[test]
fn a_new_vm_gets_the_finalizer_first() {
    let mut new = vm(json!({ "running": true }), json!({}));
    new.metadata.finalizers = Some(vec!["other".to_owned()]);
    let plan = plan(&new, None);
    let [
        Step {
            op: Op::Patch(patch),
            ..
        },
    ] = plan.steps.as_slice()
    else {
        panic!("{plan:?}")
    };
    assert_eq!(
        patch["metadata"]["finalizers"],
        json!(["other", VM_FINALIZER])
    );
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
}

#[test]
fn a_deleted_vm_goes_after_its_instance_unless_that_is_to_be_orphaned() {
    let mut going = vm(json!({ "running": true }), json!({}));
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    let live = vmi("Running", true);
    assert_eq!(short(&plan(&going, Some(&live))), ["delete"]);
    let leaving = deleted(live.clone());
    let while_leaving = plan(&going, Some(&leaving));
    assert_eq!(short(&while_leaving), ["status"]);
    assert_eq!(
        status_after(&going, &while_leaving).printable_status,
        "Terminating"
    );
    assert_eq!(acts(&plan(&going, None)), ["spec"]);

    going
        .metadata
        .finalizers
        .as_mut()
        .unwrap()
        .push("orphan".to_owned());
    let orphaning = plan(&going, Some(&live));
    assert_eq!(short(&orphaning), ["spec"]);
    let Op::Patch(patch) = &orphaning.steps[0].op else {
        panic!("{orphaning:?}")
    };
    assert_eq!(patch["metadata"]["finalizers"], json!(["orphan"]));
}

#[test]
fn the_end_of_an_instance_is_told_before_it_may_go() {
    let vm = vm(json!({ "runStrategy": "Manual" }), json!({}));
    let ended = plan(&vm, Some(&vmi("Succeeded", true)));
    assert_eq!(short(&ended), ["status", "instance"]);
    let Op::PatchInstance(patch) = &ended.steps[1].op else {
        panic!("{ended:?}")
    };
    assert_eq!(patch["metadata"]["finalizers"], json!([]));
    assert_eq!(patch["metadata"]["resourceVersion"], "9");
}

#[test]
fn an_orphaned_instance_is_adopted_and_a_strangers_is_left_alone() {
    let vm = vm(json!({ "running": true }), json!({}));
    let mut free = vmi("Running", true);
    free.metadata.owner_references = None;
    let adopting = plan(&vm, Some(&free));
    let [
        Step {
            op: Op::PatchInstance(patch),
            ..
        },
    ] = adopting.steps.as_slice()
    else {
        panic!("{adopting:?}")
    };
    assert_eq!(patch["metadata"]["ownerReferences"][0]["uid"], "vm-uid");

    let mut foreign = vmi("Running", true);
    foreign.metadata.owner_references.as_mut().unwrap()[0].uid = "other".to_owned();
    let told = plan(&vm, Some(&foreign));
    assert_eq!(short(&told), ["status"]);
    assert!(condition::is_true(
        &status_after(&vm, &told).conditions,
        "Failure"
    ));
}
