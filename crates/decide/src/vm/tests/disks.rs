//! DataVolumes that a VM brings with it, and disks that it waits for.

use super::*;

/// A VM whose root disk is the DataVolume `c` that it brings with it.
fn with_template(strategy: &str) -> VirtualMachine {
    let mut vm = vm(json!({ "runStrategy": strategy }), json!({}));
    vm.spec.data_volume_templates = serde_json::from_value(json!([{
        "metadata": {"name": "c", "labels": {"mine": "yes"}},
        "spec": {"source": {"blank": {}}}
    }]))
    .unwrap();
    if let Some(template) = &mut vm.spec.template {
        let volume = json!({"name": "root", "dataVolume": {"name": "c"}});
        template.spec.volumes = vec![serde_json::from_value(volume).unwrap()];
    }
    vm
}

fn with_storage(vm: &VirtualMachine, storage: &Storage) -> Plan<Op> {
    let template = template();
    let all = Observed {
        storage,
        ..observed(vm, &template, None)
    };
    decide(&all, at(0))
}

#[test]
fn data_volumes_of_a_vm_are_made_with_it_and_owned_by_it() {
    for strategy in ["Always", "Halted", "Manual"] {
        let vm = with_template(strategy);
        let plan = with_storage(&vm, &Storage::default());
        let [step] = plan.steps.as_slice() else {
            panic!("{strategy}: {plan:?}")
        };
        let Op::CreateDataVolume(made) = &step.op else {
            panic!("{strategy}: {plan:?}")
        };
        assert_eq!(made["kind"], "DataVolume");
        assert_eq!(made["metadata"]["name"], "c");
        assert_eq!(made["metadata"]["labels"]["mine"], "yes");
        let owner = &made["metadata"]["ownerReferences"][0];
        assert_eq!(owner["kind"], "VirtualMachine");
        assert_eq!(json!(vm.metadata.uid), owner["uid"]);
        assert_eq!(made["spec"], json!({"source": {"blank": {}}}));
    }
    let mut lazy = with_template("Halted");
    lazy.metadata.annotations = Some(
        [(
            api::names::IMMEDIATE_DATA_VOLUMES_ANNOTATION.to_owned(),
            "false".to_owned(),
        )]
        .into(),
    );
    assert_eq!(
        acts(&with_storage(&lazy, &Storage::default())),
        Vec::<&str>::new()
    );
    lazy.spec.run_strategy = Some(api::vm::RunStrategy::Always);
    assert_eq!(short(&with_storage(&lazy, &Storage::default())), ["disk"]);
}

#[test]
fn a_vm_starts_when_its_data_volumes_have_their_content() {
    use crate::storage::tests::{claim, data_volume, owned, storage};
    let unbound = || {
        let mut claim = owned();
        claim.bound = false;
        Some(claim)
    };
    for (phase, claim, starts, printed) in [
        ("Pending", None, false, "Provisioning"),
        ("ImportInProgress", Some(owned()), false, "Provisioning"),
        ("Failed", Some(owned()), false, "DataVolumeError"),
        ("WaitForFirstConsumer", unbound(), true, ""),
        ("Succeeded", Some(owned()), true, ""),
        ("Succeeded", Some(claim(&json!({}))), true, ""),
    ] {
        let vm = with_template("Always");
        let plan = with_storage(&vm, &storage(claim, Some(data_volume(phase))));
        assert_eq!(acts(&plan).contains(&"create"), starts, "{phase}");
        if !starts {
            assert_eq!(
                status_after(&vm, &plan).printable_status,
                printed,
                "{phase}"
            );
        }
    }
    let halted = with_template("Halted");
    let plan = with_storage(&halted, &storage(unbound(), Some(data_volume("Succeeded"))));
    assert_eq!(status_after(&halted, &plan).printable_status, "Stopped");
}

#[test]
fn the_column_tells_what_an_instance_waits_for() {
    use crate::storage::tests::{claim, storage};
    let vm = with_template("Always");
    let mut waiting = vmi("Pending", false);
    let said = json!([{"type": "Synchronized", "status": "False", "reason": "FailedPvcNotFound"}]);
    waiting.status.as_mut().unwrap().conditions = serde_json::from_value(said).unwrap();
    let template = template();
    let known = storage(None, Some(crate::storage::tests::data_volume("Succeeded")));
    let all = Observed {
        storage: &known,
        ..observed(&vm, &template, Some(&waiting))
    };
    let told = status_after(&vm, &decide(&all, at(0)));
    assert_eq!(told.printable_status, "ErrorPvcNotFound");

    let pending = vmi("Scheduling", false);
    let unbound = claim(&json!({"status": {"phase": "Pending"}}));
    let known = storage(
        Some(unbound),
        Some(crate::storage::tests::data_volume("Succeeded")),
    );
    let all = Observed {
        storage: &known,
        ..observed(&vm, &template, Some(&pending))
    };
    let told = status_after(&vm, &decide(&all, at(0)));
    assert_eq!(told.printable_status, "WaitingForVolumeBinding");
}
