//! Bad input: each is refused with upstream's field path, reason and sentence.

use decide::admission::Verdict;
use serde_json::{Value, json};

use super::cases::{self, INVALID, NOT_SUPPORTED, REQUIRED};
use super::updates::validate;
use super::{CONTROLLER, context, create, create_with, vm, vmi, with};

/// Asserts that `verdict` refuses with a cause at `field` that is `reason` and
/// says `message`.
fn assert_cause(verdict: &Verdict, case: &str, field: &str, reason: &str, message: &str) {
    assert!(!verdict.allowed, "{case}: allowed");
    assert_eq!(verdict.code, 422, "{case}");
    let causes: Vec<Value> = verdict.causes.iter().map(|cause| cause.to_json()).collect();
    let found = causes.iter().any(|cause| {
        cause["field"].as_str().unwrap_or_default() == field
            && cause["reason"] == reason
            && cause["message"].as_str().unwrap().contains(message)
    });
    assert!(
        found,
        "{case}: no {reason} at {field} with '{message}' in {causes:#?}"
    );
}

#[test]
fn of_an_instance() {
    for (pointer, value, field, reason, message) in cases::all() {
        let case = format!("{pointer} = {value}");
        let (_, verdict) = create(&with(vmi(), &format!("/spec{pointer}"), value));
        let field = format!("spec.{field}");
        assert_cause(
            &verdict,
            &case,
            field.trim_end_matches('.'),
            reason,
            message,
        );
    }
}

#[test]
fn of_a_template_has_the_path_of_the_template() {
    for (pointer, value, field, reason, message) in cases::all() {
        let case = format!("{pointer} = {value}");
        let (_, verdict) = create(&with(vm(), &format!("/spec/template/spec{pointer}"), value));
        let field = format!("spec.template.spec.{field}");
        let message = message.replace("spec.", "spec.template.spec.");
        assert_cause(
            &verdict,
            &case,
            field.trim_end_matches('.'),
            reason,
            &message,
        );
    }
}

#[test]
fn dns_settings_have_paths_of_their_own() {
    for (config, field, message) in [
        (
            json!({"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]}),
            "nameservers",
            "must not have more than 3 nameservers",
        ),
        (
            json!({"nameservers": ["x"]}),
            "nameservers",
            "must be valid IP address: x",
        ),
        (
            json!({"searches": ["a", "b", "c", "d", "e", "f", "g"]}),
            "searchDomains",
            "must not have more than 6 search paths",
        ),
        (
            json!({"searches": ["B@d"]}),
            "searchDomains",
            "RFC 1123 subdomain",
        ),
        (
            json!({"options": [{"value": "1"}]}),
            "options",
            "Option.Name must not be empty",
        ),
    ] {
        let (_, verdict) = create(&with(vmi(), "/spec/dnsConfig", config.clone()));
        assert_cause(&verdict, &config.to_string(), field, INVALID, message);
    }
}

#[test]
fn boot_orders_are_unique_across_disks_and_interfaces() {
    let vmi = with(vmi(), "/spec/domain/devices/disks/0/bootOrder", json!(1));
    let vmi = with(vmi, "/spec/domain/devices/interfaces/0/bootOrder", json!(1));
    assert_cause(
        &create(&vmi).1,
        "boot order",
        "spec.domain.devices.interfaces[0].bootOrder",
        INVALID,
        "Boot order for spec.domain.devices.interfaces[0].bootOrder already set for a different device.",
    );
}

#[test]
fn an_instance_must_ask_for_memory_and_a_template_need_not() {
    let (_, verdict) = create(&with(vmi(), "/spec/domain/resources", json!({})));
    assert_cause(
        &verdict,
        "no memory",
        "",
        REQUIRED,
        "no memory requested, at least one of 'spec.domain.memory.guest', 'spec.domain.memory.hugepages.pageSize' or 'spec.domain.resources.requests.memory' must be set",
    );
    let (_, verdict) = create(&with(
        vm(),
        "/spec/template/spec/domain/resources",
        json!({}),
    ));
    assert!(verdict.allowed, "{}", verdict.message);
}

#[test]
fn guest_memory_fits_the_limit() {
    let vmi = with(
        vmi(),
        "/spec/domain/resources",
        json!({"limits": {"memory": "64Mi"}}),
    );
    let vmi = with(vmi, "/spec/domain/memory", json!({"guest": "65Mi"}));
    assert_cause(
        &create(&vmi).1,
        "guest over limit",
        "spec.domain.memory.guest",
        INVALID,
        "spec.domain.memory.guest '65Mi' must be equal to or less than the memory limit spec.domain.resources.limits.memory '64Mi'",
    );
}

#[test]
fn a_volume_without_a_disk_gets_one() {
    let mut vmi = vmi();
    vmi["spec"]["domain"]["devices"]["disks"]
        .as_array_mut()
        .unwrap()
        .pop();
    let (stored, verdict) = create(&vmi);
    assert!(verdict.allowed, "{}", verdict.message);
    assert_eq!(
        stored["spec"]["domain"]["devices"]["disks"][1],
        json!({"name": "init", "disk": {"bus": "sata"}})
    );
}

#[test]
fn masquerade_needs_the_pod_network() {
    let vmi = with(
        vmi(),
        "/spec/networks/0",
        json!({"name": "default", "multus": {"networkName": "a"}}),
    );
    assert_cause(
        &create(&vmi).1,
        "masquerade",
        "spec.domain.devices.interfaces[0].name",
        INVALID,
        "Masquerade interface only implemented with pod network",
    );
}

#[test]
fn bridge_on_the_pod_network_may_be_forbidden() {
    let vmi = with(
        vmi(),
        "/spec/domain/devices/interfaces/0",
        json!({"name": "default", "bridge": {}}),
    );
    assert!(create(&vmi).1.allowed);
    let mut ctx = context();
    ctx.config.bridge_on_pod_network = false;
    let (_, verdict) = create_with(&vmi, &ctx, super::ALICE);
    assert_cause(
        &verdict,
        "bridge",
        "spec.domain.devices.interfaces[0].name",
        INVALID,
        "Bridge on pod network configuration is not enabled under kubevirt-config",
    );
}

#[test]
fn reserved_labels_and_gated_annotations() {
    let mut reserved = vmi();
    reserved["metadata"]["labels"] = json!({"kubevirt.io/nodeName": "edge1"});
    let message =
        "creation of the following reserved kubevirt.io/ labels on a VMI object is prohibited";
    assert_cause(
        &create(&reserved).1,
        "label",
        "metadata.labels",
        NOT_SUPPORTED,
        message,
    );
    assert!(
        create_with(&reserved, &context(), super::CONTROLLER)
            .1
            .allowed
    );

    let mut vm = vm();
    vm["spec"]["template"]["metadata"]["labels"] = json!({"kubevirt.io/nodeName": "edge1"});
    assert_cause(
        &create(&vm).1,
        "label",
        "spec.template.metadata.labels",
        NOT_SUPPORTED,
        message,
    );

    let mut hooked = vmi();
    hooked["metadata"]["annotations"] = json!({"hooks.kubevirt.io/hookSidecars": "[]"});
    assert_cause(
        &create(&hooked).1,
        "sidecar",
        "metadata.annotations",
        INVALID,
        "sidecar feature gate is not enabled in kubevirt-config, invalid entry metadata.annotations.hooks.kubevirt.io/hookSidecars",
    );
    let mut ctx = context();
    ctx.config.feature_gates = vec!["Sidecar".to_owned()];
    let (_, verdict) = create_with(&hooked, &ctx, super::ALICE);
    assert_cause(
        &verdict,
        "sidecar",
        "metadata.annotations",
        INVALID,
        "hook sidecars are not implemented",
    );
}

#[test]
fn run_strategies() {
    for (spec, field, message) in [
        (
            json!({"running": true, "runStrategy": "Always"}),
            "spec.running",
            "Running and RunStrategy are mutually exclusive. Note that Running is deprecated, please use RunStrategy instead",
        ),
        (json!({}), "spec.running", "RunStrategy must be specified"),
        (
            json!({"runStrategy": "Sometimes"}),
            "spec.runStrategy",
            "Invalid RunStrategy (Sometimes)",
        ),
        (
            json!({"runStrategy": "WaitAsReceiver"}),
            "spec.runStrategy",
            "DecentralizedLiveMigration feature gate is not enabled",
        ),
    ] {
        let mut object = vm();
        let template = object["spec"]["template"].take();
        object["spec"] = spec.clone();
        object["spec"]["template"] = template;
        assert_cause(
            &create(&object).1,
            &spec.to_string(),
            field,
            INVALID,
            message,
        );
    }
    for strategy in ["Always", "Halted", "Manual", "RerunOnFailure", "Once"] {
        let (_, verdict) = create(&with(vm(), "/spec/runStrategy", json!(strategy)));
        assert!(verdict.allowed, "{strategy}: {}", verdict.message);
    }
}

#[test]
fn a_vm_without_a_template() {
    let mut object = vm();
    object["spec"].as_object_mut().unwrap().remove("template");
    assert_cause(
        &create(&object).1,
        "no template",
        "spec.template",
        REQUIRED,
        "missing virtual machine template.",
    );
}

#[test]
fn several_mistakes_are_told_at_once() {
    let vmi = with(vmi(), "/spec/hostname", json!("-"));
    let vmi = with(
        vmi,
        "/spec/domain/devices/disks/0/disk/bus",
        json!("floppy"),
    );
    let (_, verdict) = create(&vmi);
    assert_eq!(verdict.causes.len(), 2, "{:#?}", verdict.causes);
    assert!(verdict.message.contains(", "));
}

#[test]
fn malformed_objects_are_left_to_the_schema() {
    for (pointer, value) in [
        ("/spec/domain", json!("text")),
        ("/spec/volumes", json!({"a": 1})),
        ("/spec/domain/devices/disks", json!(7)),
        ("/spec/domain/cpu", json!([])),
    ] {
        let (stored, _) = create(&with(vmi(), pointer, value.clone()));
        assert_eq!(stored.pointer(pointer), Some(&value), "{pointer}");
    }
}

/// The schema has no bound, and whoever reads the instance has one: no component may meet it.
#[test]
fn a_number_that_no_component_could_read_is_refused_with_its_path() {
    let field = "/spec/domain/devices/disks/0/bootOrder";
    let (_, verdict) = create(&with(vmi(), field, json!(4_294_967_296_u64)));
    assert!(!verdict.allowed);
    assert_eq!(
        verdict.causes[0].field,
        "spec.domain.devices.disks[0].bootOrder"
    );
    // One that is there already may be changed elsewhere, and goes.
    let old = with(vmi(), field, json!(4_294_967_296_u64));
    let new = with(old.clone(), "/metadata/labels/b", json!("c"));
    assert!(validate(&new, &old, CONTROLLER).allowed);
}

#[test]
fn what_makes_no_machine_is_refused_before_a_launcher_tries() {
    let vmi = with(
        vmi(),
        "/spec/volumes/1",
        json!({"name": "init", "emptyDisk": {"capacity": "1e300"}}),
    );
    let (_, verdict) = create(&vmi);
    assert_eq!(
        verdict.message,
        "spec.volumes[1].emptyDisk.capacity: expected a quantity below 8Ei, found `1e300`"
    );
}

#[test]
fn what_secrets_hold_is_not_missed_before_a_launcher_has_it() {
    for source in ["cloudInitNoCloud", "cloudInitConfigDrive"] {
        for field in ["secretRef", "networkDataSecretRef"] {
            let volume = json!({"name": "init", (source): {(field): {"name": "s"}}});
            let (_, verdict) = create(&with(vmi(), "/spec/volumes/1", volume));
            assert!(verdict.allowed, "{source} {field}: {}", verdict.message);
        }
    }
}
