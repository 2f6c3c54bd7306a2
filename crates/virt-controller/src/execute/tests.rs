//! The executor against an API server that answers as a script says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::sync::{Arc, Mutex};

use kube::client::Body;
use serde_json::json;

use super::*;

/// What was asked: method and path.
type Asked = Arc<Mutex<Vec<String>>>;
/// Method, end of the path, code and body of an answer.
type Script = Vec<(&'static str, &'static str, u16, Value)>;

/// A client whose requests are answered by the first line of the script that
/// fits; an answer is used once, but those to events are not scripted.
fn client(script: Script) -> (Client, Asked) {
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    let script = Arc::new(Mutex::new(script));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let asked = format!("{} {}", request.method(), request.uri().path());
        seen.lock().unwrap().push(asked.clone());
        let mut script = script.lock().unwrap();
        let at = script
            .iter()
            .position(|(method, path, ..)| asked.starts_with(method) && asked.ends_with(path));
        let (code, body) = match at {
            Some(at) => {
                let (_, _, code, body) = script.remove(at);
                (code, body)
            }
            None if asked.contains("/events") => {
                (201, json!({"metadata": {}, "involvedObject": {}}))
            }
            None => panic!("not scripted: {asked}"),
        };
        async move {
            Ok::<_, tower::BoxError>(
                http::Response::builder()
                    .status(code)
                    .body(Body::from(body.to_string().into_bytes()))
                    .unwrap(),
            )
        }
    });
    (Client::new(service, "default"), asked)
}

fn refusal(code: u16, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": message, "reason": "x"
    })
}

fn vm() -> RawVm {
    serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "ns", "uid": "vm-uid", "generation": 1,
            "resourceVersion": "1",
            "finalizers": ["kubevirt.io/virtualMachineControllerFinalize"]
        },
        "spec": {"running": true, "template": {"spec": {"domain": {}}}}
    }))
    .unwrap()
}

fn vmi(phase: &str, version: u32) -> Value {
    json!({
        "metadata": {
            "name": "web", "namespace": "ns", "uid": "vmi-uid",
            "resourceVersion": version.to_string(),
            "finalizers": ["kubevirt.io/foregroundDeleteVirtualMachine"],
            "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
                "name": "web", "uid": "vm-uid", "controller": true}]
        },
        "spec": {"domain": {}},
        "status": {"phase": phase}
    })
}

fn pod(vmi_uid: &str) -> Value {
    json!({
        "metadata": {
            "name": "p", "namespace": "ns", "uid": "pod-uid", "resourceVersion": "3",
            "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
                "name": "web", "uid": vmi_uid, "controller": true}]
        },
        "spec": {"containers": []}
    })
}

fn name() -> ObjectKey {
    ObjectKey {
        namespace: "ns".to_owned(),
        name: "web".to_owned(),
    }
}

struct Bench {
    executor: Executor,
    index: Rc<RefCell<Index>>,
    asked: Asked,
}

impl Bench {
    fn new(phase: Option<&str>, script: Script) -> Self {
        let (client, asked) = client(script);
        let index = Rc::new(RefCell::new(Index::new("launcher:1")));
        index.borrow_mut().put_vm(vm());
        if let Some(phase) = phase {
            let vmi = serde_json::from_value(vmi(phase, 2)).unwrap();
            index.borrow_mut().put_vmi(vmi);
        }
        let recorder = Recorder::new(client.clone(), "test");
        let executor = Executor::new(client, Rc::clone(&index), WorkQueue::new(), recorder);
        Self {
            executor,
            index,
            asked,
        }
    }

    /// Carries out the first step of the VMI's plan.
    async fn vmi(&self) -> Outcome {
        let plan = self
            .index
            .borrow_mut()
            .decide_vmi(&name(), Timestamp::now());
        let step = plan.steps.into_iter().next().expect("a step");
        let outcome = self.executor.vmi(&Key::Vmi(name()), &name(), step).await;
        // Let the events be written.
        tokio::task::yield_now().await;
        outcome
    }

    /// Carries out the first step of the VM's plan.
    async fn vm(&self) -> Outcome {
        let plan = self
            .index
            .borrow()
            .decide_vm(&name(), 0.0, Timestamp::now());
        let step = plan.steps.into_iter().next().expect("a step");
        let outcome = self.executor.vm(&Key::Vm(name()), &name(), step).await;
        tokio::task::yield_now().await;
        outcome
    }

    fn next_vmi_op(&self) -> Option<decide::vmi::Op> {
        let plan = self
            .index
            .borrow_mut()
            .decide_vmi(&name(), Timestamp::now());
        plan.steps.into_iter().next().map(|step| step.op)
    }

    fn events(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|asked| asked.contains("/events"))
            .count()
    }
}

#[tokio::test]
async fn a_made_pod_is_known_before_the_watch_tells() {
    let bench = Bench::new(
        Some("Pending"),
        vec![("POST", "/pods", 201, pod("vmi-uid"))],
    );
    assert_eq!(bench.vmi().await, Outcome::Progress);
    assert_eq!(bench.events(), 1);
    assert!(!matches!(
        bench.next_vmi_op(),
        Some(decide::vmi::Op::CreatePod(_))
    ));
}

#[tokio::test]
async fn a_pod_made_before_is_taken_and_a_strangers_is_not() {
    let conflict = || ("POST", "/pods", 409, refusal(409, "already exists"));
    let name = decide::pod::pod_name(&serde_json::from_value(vmi("Pending", 2)).unwrap());
    let get: &'static str = Box::leak(format!("/pods/{name}").into_boxed_str());
    let bench = Bench::new(
        Some("Pending"),
        vec![conflict(), ("GET", get, 200, pod("vmi-uid"))],
    );
    assert_eq!(bench.vmi().await, Outcome::Progress);
    assert!(!matches!(
        bench.next_vmi_op(),
        Some(decide::vmi::Op::CreatePod(_))
    ));

    let bench = Bench::new(
        Some("Pending"),
        vec![conflict(), ("GET", get, 200, pod("other"))],
    );
    assert_eq!(bench.vmi().await, Outcome::Progress);
    let Some(decide::vmi::Op::Patch(patch)) = bench.next_vmi_op() else {
        panic!("the failure is told")
    };
    assert!(patch.to_string().contains("already exists"), "{patch}");
}

#[tokio::test]
async fn a_refused_pod_is_told_by_event_and_condition_and_held_back() {
    let no = refusal(403, "exceeded quota");
    let bench = Bench::new(Some("Pending"), vec![("POST", "/pods", 403, no)]);
    assert_eq!(bench.vmi().await, Outcome::Progress);
    assert_eq!(bench.events(), 1);
    let Some(decide::vmi::Op::Patch(patch)) = bench.next_vmi_op() else {
        panic!("the failure is told")
    };
    let text = patch["status"]["conditions"].to_string();
    assert!(
        text.contains("exceeded quota") && text.contains("FailedCreate"),
        "{text}"
    );
}

#[tokio::test]
async fn a_conflict_waits_for_the_watch() {
    let bench = Bench::new(
        Some("Scheduling"),
        vec![(
            "PATCH",
            "/web",
            409,
            refusal(409, "the object has been modified"),
        )],
    );
    bench.index.borrow_mut().put_pod(
        &serde_json::from_value(json!({
            "metadata": pod("vmi-uid")["metadata"],
            "status": {"conditions": [
                {"type": "kubevirt.io/virtual-machine-unpaused", "status": "True"}]}
        }))
        .unwrap(),
    );
    assert_eq!(bench.vmi().await, Outcome::Conflict);
    assert_eq!(bench.events(), 0);
}

#[tokio::test]
async fn an_instance_that_exists_already_is_found_without_an_event() {
    let bench = Bench::new(
        None,
        vec![
            (
                "POST",
                "/virtualmachineinstances",
                409,
                refusal(409, "already exists"),
            ),
            (
                "GET",
                "/virtualmachineinstances/web",
                200,
                vmi("Running", 9),
            ),
        ],
    );
    assert_eq!(bench.vm().await, Outcome::Progress);
    assert_eq!(bench.events(), 0);
    assert_eq!(
        bench.index.borrow().vmi_uid(&name()).as_deref(),
        Some("vmi-uid")
    );
}

#[tokio::test]
async fn an_instance_that_admission_refuses_is_told_in_the_vm() {
    let no = refusal(422, "spec.domain: no");
    let bench = Bench::new(None, vec![("POST", "/virtualmachineinstances", 422, no)]);
    assert_eq!(bench.vm().await, Outcome::Progress);
    assert_eq!(bench.events(), 1);
    let plan = bench
        .index
        .borrow()
        .decide_vm(&name(), 0.0, Timestamp::now());
    let [
        Step {
            op: decide::vm::Op::PatchStatus(patch),
            ..
        },
    ] = plan.steps.as_slice()
    else {
        panic!("{plan:?}")
    };
    assert!(patch.to_string().contains("spec.domain: no"), "{patch}");
    assert!(plan.requeue.is_some());
}

#[tokio::test]
async fn an_instance_that_is_gone_already_counts_as_deleted() {
    let bench = Bench::new(
        Some("Failed"),
        vec![(
            "DELETE",
            "/virtualmachineinstances/web",
            404,
            refusal(404, "not found"),
        )],
    );
    let uid = "vmi-uid".to_owned();
    let step = Step {
        op: decide::vm::Op::DeleteInstance { uid },
        done: None,
        failed: Some("FailedDelete"),
    };
    let outcome = bench.executor.vm(&Key::Vm(name()), &name(), step).await;
    assert_eq!(outcome, Outcome::Progress);
    assert_eq!(bench.index.borrow().vmi_uid(&name()), None);
}

#[tokio::test]
async fn a_patch_that_admission_undoes_is_tried_again_later_and_not_at_once() {
    let mut unchanged = vmi("Pending", 2);
    unchanged["spec"] = json!({"domain": {}});
    let bench = Bench::new(Some("Pending"), vec![("PATCH", "/web", 200, unchanged)]);
    bench.index.borrow_mut().put_pod(
        &serde_json::from_value(json!({
            "metadata": pod("vmi-uid")["metadata"],
            "status": {"conditions": [
                {"type": "kubevirt.io/virtual-machine-unpaused", "status": "True"}]}
        }))
        .unwrap(),
    );
    assert_eq!(bench.vmi().await, Outcome::Failed);
    assert!(bench.executor.queue.is_empty());
}

#[tokio::test]
async fn the_last_finalizer_takes_the_instance_with_it() {
    let mut going = vmi("Failed", 2);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut gone = going.clone();
    gone["metadata"]["finalizers"] = json!([]);
    let bench = Bench::new(None, vec![("PATCH", "/web", 200, gone)]);
    bench
        .index
        .borrow_mut()
        .put_vmi(serde_json::from_value(going).unwrap());
    assert_eq!(bench.vmi().await, Outcome::Progress);
    assert_eq!(bench.index.borrow().vmi_uid(&name()), None);
}
