//! Admission as a client sees it: AdmissionReviews in, AdmissionReviews out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod cases;
mod disks;
mod kubevirt;
mod manifests;
mod shapes;
mod updates;

use decide::admission::{self, ClusterConfig, Context, Review, Verdict, Workloads};
use serde_json::{Value, json};

/// A user without any role in the system.
const ALICE: &str = "alice";
const CONTROLLER: &str = "system:serviceaccount:kubevirt:kubevirt-controller";
const HANDLER: &str = "system:serviceaccount:kubevirt:kubevirt-handler";

fn context() -> Context {
    Context {
        config: ClusterConfig::default(),
        namespace: "kubevirt".to_owned(),
        now: "2026-01-02T03:04:05Z".to_owned(),
        workloads: Workloads::default(),
    }
}

/// The request of `user` to turn `old` into `object`; null for none.
fn review(object: &Value, old: &Value, user: &str) -> Review {
    let operation = match (object.is_null(), old.is_null()) {
        (false, true) => "CREATE",
        (true, false) => "DELETE",
        _ => "UPDATE",
    };
    let kind = object["kind"].as_str().or(old["kind"].as_str()).unwrap();
    Review::parse(json!({"request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "operation": operation,
        "resource": {"group": "kubevirt.io", "version": "v1", "resource": format!("{}s", kind.to_lowercase())},
        "namespace": "default",
        "userInfo": {"username": user},
        "object": object,
        "oldObject": old,
    }}))
    .unwrap()
}

/// Applies what a mutation asks for.
fn patched(object: &Value, verdict: &Verdict) -> Value {
    assert!(verdict.allowed, "{}", verdict.message);
    let mut object = object.clone();
    let patch: json_patch::Patch =
        serde_json::from_value(Value::Array(verdict.patches.clone())).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    object
}

/// Creates an object the way the API server does: mutation, then validation.
/// Gives the object as it would be stored, and the verdict.
fn create(object: &Value) -> (Value, Verdict) {
    create_with(object, &context(), ALICE)
}

fn create_with(object: &Value, ctx: &Context, user: &str) -> (Value, Verdict) {
    let verdict = admission::mutate(&review(object, &Value::Null, user), ctx);
    if !verdict.allowed {
        return (object.clone(), verdict);
    }
    let stored = patched(object, &verdict);
    let verdict = admission::validate(&review(&stored, &Value::Null, user), ctx);
    (stored, verdict)
}

/// A small VMI that is right in every respect.
fn vmi() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "a", "namespace": "default", "labels": {"app": "a"}},
        "spec": {
            "domain": {
                "resources": {"requests": {"memory": "64M"}},
                "devices": {
                    "disks": [
                        {"name": "root", "disk": {"bus": "virtio"}},
                        {"name": "init", "disk": {"bus": "virtio"}},
                    ],
                    "interfaces": [{"name": "default", "masquerade": {}}],
                },
            },
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [
                {"name": "root", "containerDisk": {"image": "demo:1"}},
                {"name": "init", "cloudInitNoCloud": {"userData": "#cloud-config\n"}},
            ],
        },
    })
}

/// A VM around the spec of [`vmi`].
fn vm() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "runStrategy": "Halted",
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": vmi()["spec"]},
        },
    })
}

/// `object` with `value` at a JSON pointer; missing members are made.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut here = &mut object;
    for step in parent.split('/').skip(1) {
        here = match step.parse::<usize>() {
            Ok(index) if here.is_array() => &mut here[index],
            _ => &mut here[step],
        };
    }
    match key.parse::<usize>() {
        Ok(index) if here.is_array() => {
            let list = here.as_array_mut().unwrap();
            list.resize(list.len().max(index + 1), Value::Null);
            list[index] = value;
        }
        _ => here[key] = value,
    }
    object
}
