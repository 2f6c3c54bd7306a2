//! Deletion, finalizers, and pods that are gone.

use super::*;

#[test]
fn a_missing_pod_is_asked_for_before_it_is_believed() {
    let plan = run_with(&vmi("Running"), &[], |o| o.absence_confirmed = false);
    assert!(matches!(
        plan.steps.as_slice(),
        [Step {
            op: Op::ConfirmPod { .. },
            ..
        }]
    ));
}

#[test]
fn deletion_takes_the_pod_first_and_the_finalizer_last() {
    let mut going = deleted(vmi("Running"));
    going.spec.termination_grace_period_seconds = Some(5);
    let plan = run(&going, &[pod()]);
    let Op::DeletePod {
        name,
        uid,
        grace_seconds,
    } = &plan.steps[0].op
    else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (name.as_str(), uid.as_str()),
        ("virt-launcher-web-x", "pod-uid")
    );
    assert_eq!(*grace_seconds, Some(35));

    let leaving = PodFacts {
        deleting: true,
        ..pod()
    };
    let plan = run(&going, &[leaving]);
    assert!(
        !plan
            .steps
            .iter()
            .any(|s| matches!(s.op, Op::DeletePod { .. }))
    );

    // The owner still has to see how it ended; without an owner all goes at once.
    let told = patch(&run(&going, &[]));
    assert_eq!(told["status"]["phase"], "Failed");
    assert_eq!(told["metadata"]["finalizers"], json!([VM_FINALIZER]));
    let told = patch(&run_with(&going, &[], |o| o.owner_exists = false));
    assert_eq!(told["metadata"]["finalizers"], json!([]));
}

#[test]
fn finalizers_are_added_when_missing_and_the_old_name_is_dropped() {
    let mut bare = vmi("Pending");
    bare.metadata.finalizers = Some(vec![OLD_FINALIZER.to_owned()]);
    let told = patch(&run(&bare, &[pending_pod()]));
    assert_eq!(told["metadata"]["finalizers"], json!([VMI_FINALIZER]));
}
