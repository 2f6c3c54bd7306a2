//! The KubeVirt object: one of it, honest settings, careful removal.

use decide::admission;
use serde_json::{Value, json};

use super::{ALICE, context, create, create_with, review, with};

fn kubevirt() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
        "spec": {
            "certificateRotateStrategy": {},
            "configuration": {"developerConfiguration": {"featureGates": []}},
            "customizeComponents": {},
            "imagePullPolicy": "IfNotPresent",
            "workloadUpdateStrategy": {},
        },
    })
}

#[test]
fn the_one_of_upstreams_release_is_accepted() {
    let (stored, verdict) = create(&kubevirt());
    assert!(verdict.allowed, "{}", verdict.message);
    assert_eq!(stored, kubevirt());
}

#[test]
fn a_second_one_is_refused() {
    let mut ctx = context();
    ctx.workloads.kubevirts = 1;
    let (_, verdict) = create_with(&kubevirt(), &ctx, ALICE);
    assert_eq!(
        (verdict.code, verdict.message.as_str()),
        (400, "Kubevirt is already created")
    );
}

#[test]
fn settings_that_cannot_be_kept_are_refused() {
    let config = "/spec/configuration";
    for (pointer, value, message) in [
        (
            format!("{config}/vmRolloutStrategy"),
            json!("LiveUpdate"),
            "LiveUpdate needs hot plug",
        ),
        (
            format!("{config}/evictionStrategy"),
            json!("External"),
            "live migration is not implemented yet",
        ),
        (
            format!("{config}/additionalGuestMemoryOverheadRatio"),
            json!("0.5"),
            "ratio provided, 0.5, cannot be smaller than 1.0",
        ),
        (
            format!("{config}/additionalGuestMemoryOverheadRatio"),
            json!("x"),
            "ratio provided, x, cannot be parsed into float",
        ),
        (
            format!("{config}/network"),
            json!({"defaultNetworkInterface": "slirp"}),
            "Slirp interface support has been discontinued",
        ),
        (
            format!("{config}/network"),
            json!({"defaultNetworkInterface": "warp"}),
            "is not one of bridge, masquerade",
        ),
        (
            format!("{config}/imagePullPolicy"),
            json!("Sometimes"),
            "is not one of Always, IfNotPresent, Never",
        ),
        (
            format!("{config}/permittedHostDevices"),
            json!({"pciHostDevices": [{}]}),
            "cannot be passed to a guest yet",
        ),
        (
            format!("{config}/developerConfiguration"),
            json!({"featureGates": ["A"], "disabledFeatureGates": ["A"]}),
            "feature gate \"A\" exists on both",
        ),
        (
            format!("{config}/developerConfiguration/featureGates"),
            json!(["Root"]),
            "launchers always run as user 107",
        ),
        (
            "/spec/infra".to_owned(),
            json!({"replicas": 0}),
            "infra replica count can't be 0",
        ),
        (
            "/spec/uninstallStrategy".to_owned(),
            json!("Never"),
            "is not one of RemoveWorkloads",
        ),
        (
            "/spec/certificateRotateStrategy".to_owned(),
            json!({"selfSigned": {"ca": {"duration": "1h", "renewBefore": "2h"}}}),
            "CA RenewBefore cannot exceed Duration",
        ),
        (
            "/spec/certificateRotateStrategy".to_owned(),
            json!({"selfSigned": {"server": {"duration": "1h", "renewBefore": "2h"}}}),
            "Cert RenewBefore cannot exceed Duration",
        ),
        (
            "/spec/certificateRotateStrategy".to_owned(),
            json!({"selfSigned": {"server": {"duration": "170h"}}}),
            "Certificate duration cannot exceed CA",
        ),
        (
            "/spec/certificateRotateStrategy".to_owned(),
            json!({"selfSigned": {"ca": {"duration": "a week"}}}),
            "is not a duration such as 24h0m0s",
        ),
        (
            "/spec/certificateRotateStrategy".to_owned(),
            json!({"selfSigned": {"caRotateInterval": "1h"}}),
            "use ca and server",
        ),
    ] {
        let object = with(kubevirt(), &pointer, value.clone());
        for verdict in [
            create(&object).1,
            admission::validate(&review(&object, &kubevirt(), ALICE), &context()),
        ] {
            assert_eq!(verdict.code, 422, "{pointer} = {value}");
            assert!(
                verdict.message.contains(message),
                "{pointer} = {value}: {}",
                verdict.message
            );
        }
    }
}

#[test]
fn gates_that_unlock_nothing_are_warned_of() {
    let gates = with(
        kubevirt(),
        "/spec/configuration/developerConfiguration/featureGates",
        json!(["NodeRestriction", "LiveMigration"]),
    );
    let (_, verdict) = create(&gates);
    assert!(verdict.allowed, "{}", verdict.message);
    assert_eq!(verdict.warnings.len(), 1);
    assert!(verdict.warnings[0].starts_with("feature gate LiveMigration changes nothing"));
    let verdict = admission::validate(&review(&gates, &gates, ALICE), &context());
    assert_eq!(verdict.warnings, Vec::<String>::new());
}

#[test]
fn removal_is_blocked_while_guests_exist_if_asked_for() {
    let careful = with(
        with(
            kubevirt(),
            "/spec/uninstallStrategy",
            json!("BlockUninstallIfWorkloadsExist"),
        ),
        "/status",
        json!({"phase": "Deployed"}),
    );
    let delete = |object: &Value, instances, machines| {
        let mut ctx = context();
        ctx.workloads.instances = instances;
        ctx.workloads.machines = machines;
        admission::validate(&review(&Value::Null, object, ALICE), &ctx)
    };
    let verdict = delete(&careful, true, true);
    assert_eq!(verdict.code, 400);
    assert!(verdict.message.starts_with(
        "Rejecting the uninstall request, since there are still Virtual Machine Instances present."
    ));
    assert!(
        delete(&careful, false, true)
            .message
            .contains("still Virtual Machines present")
    );
    assert!(delete(&careful, false, false).allowed);
    assert!(delete(&kubevirt(), true, true).allowed);
}

#[test]
fn a_node_offers_at_least_one_device_and_no_absurd_number() {
    let with_devices = |number: i64| {
        let object = with(
            kubevirt(),
            "/spec/configuration/virtualMachineInstancesPerNode",
            json!(number),
        );
        create(&object).1
    };
    assert!(with_devices(110).allowed);
    for bad in [-1, 0, 1_000_000] {
        let verdict = with_devices(bad);
        assert!(!verdict.allowed, "{bad}");
        assert!(
            verdict.causes[0].field == "spec.configuration.virtualMachineInstancesPerNode",
            "{:?}",
            verdict.causes
        );
    }
}
