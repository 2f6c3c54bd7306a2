//! Steps by what is there.
#![allow(clippy::needless_pass_by_value, clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::cdi::cluster::Class;

fn cluster() -> Cluster {
    let class = Class {
        name: "local".to_owned(),
        provisioner: "rancher.io/local-path".to_owned(),
        default: true,
        waits: true,
        ..Class::default()
    };
    Cluster {
        classes: [("local".to_owned(), class)].into(),
        worker_image: "worker:1".to_owned(),
        namespace: "cdi".to_owned(),
        ..Cluster::default()
    }
}

fn dv(source: Value) -> DataVolume {
    serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "uid": "dv-uid"},
        "spec": {"source": source, "storage": {"resources": {"requests": {"storage": "1Gi"}}}},
    }))
    .unwrap()
}

/// The claim that is made for the DataVolume, as it is with more annotations.
fn claim(dv: &DataVolume, annotations: &[(&str, &str)], phase: &str) -> PersistentVolumeClaim {
    let mut claim = claim::build(dv, dv.spec.source.as_ref(), None, &cluster()).unwrap();
    claim.metadata.uid = Some("claim-uid".to_owned());
    let all = claim.metadata.annotations.as_mut().unwrap();
    for (name, value) in annotations {
        all.insert((*name).to_owned(), (*value).to_owned());
    }
    claim.status = serde_json::from_value(json!({"phase": phase})).unwrap();
    claim
}

fn pod(phase: &str, more: Value) -> Pod {
    let mut status = json!({"phase": phase});
    for (key, value) in more.as_object().unwrap() {
        status[key] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "pod-uid"},
        "status": status,
    }))
    .unwrap()
}

struct World {
    dv: Option<DataVolume>,
    claim: Option<PersistentVolumeClaim>,
    pod: Option<Pod>,
    original: Option<PersistentVolumeClaim>,
    failure: Option<Failure>,
    renew_at: Option<Timestamp>,
    /// Policy and service are there.
    ways: bool,
    cluster: Cluster,
}

impl World {
    fn new(dv: Option<DataVolume>, claim: Option<PersistentVolumeClaim>, pod: Option<Pod>) -> Self {
        Self {
            dv,
            claim,
            pod,
            original: None,
            failure: None,
            renew_at: None,
            ways: true,
            cluster: cluster(),
        }
    }

    fn plan(&self) -> Plan<Op> {
        let source = self.dv.as_ref().and_then(|dv| dv.spec.source.clone());
        let seen = Observed {
            dv: self.dv.as_ref(),
            claim: self.claim.as_ref(),
            pod: self.pod.as_ref(),
            source: Ok(source),
            original: self.original.as_ref(),
            population: None,
            progress: None,
            retrying: None,
            renew_at: self.renew_at,
            policy: self.ways,
            service: self.ways,
            failure: self.failure.as_ref(),
            cluster: &self.cluster,
        };
        decide(&seen, Timestamp::UNIX_EPOCH)
    }

    fn ops(&self) -> Vec<String> {
        self.plan()
            .steps
            .iter()
            .map(|step| name(&step.op))
            .collect()
    }
}

fn name(op: &Op) -> String {
    match op {
        Op::CreateClaim(_) => "create claim".to_owned(),
        Op::PatchClaim(_) => "patch claim".to_owned(),
        Op::Certify => "certify".to_owned(),
        Op::Rebind { volume, .. } => format!("rebind {volume}"),
        Op::DeleteClaim { name, .. } => format!("delete claim {name}"),
        Op::Apply(object) | Op::TryApply(object) => {
            format!("apply {}", object["kind"].as_str().unwrap())
        }
        Op::CreatePod { pod, .. } => {
            format!("create {}", pod["metadata"]["name"].as_str().unwrap())
        }
        Op::DeletePod { .. } => "delete pod".to_owned(),
        Op::Delete { kind, .. } => format!("delete {kind}"),
        Op::PatchStatus(status) => {
            format!("status {}", status["status"]["phase"].as_str().unwrap())
        }
    }
}

fn upload() -> DataVolume {
    dv(json!({"upload": {}}))
}

#[test]
fn an_upload_goes_from_claim_to_server() {
    let dv = upload();
    assert_eq!(
        World::new(Some(dv.clone()), None, None).ops(),
        ["create claim"]
    );
    let fresh = claim(&dv, &[], "Pending");
    assert_eq!(
        World::new(Some(dv.clone()), Some(fresh.clone()), None).ops(),
        [
            "apply NetworkPolicy",
            "certify",
            "apply Service",
            "create cdi-upload-disk"
        ]
    );
    let world = World::new(Some(dv), Some(fresh), Some(pod("Pending", json!({}))));
    assert_eq!(world.ops(), ["patch claim"]);
}

#[test]
fn a_finished_upload_leaves_only_the_claim() {
    let dv = upload();
    let done = claim(
        &dv,
        &[("cdi.kubevirt.io/storage.pod.phase", "Succeeded")],
        "Bound",
    );
    let ended = pod("Succeeded", json!({}));
    let world = World::new(Some(dv.clone()), Some(done.clone()), Some(ended.clone()));
    assert_eq!(
        world.ops(),
        ["delete Service", "delete Secret", "delete pod"]
    );
    assert_eq!(
        World::new(Some(dv.clone()), Some(done), None).ops(),
        ["status Succeeded"]
    );
    let kept = claim(
        &dv,
        &[
            ("cdi.kubevirt.io/storage.pod.phase", "Succeeded"),
            ("cdi.kubevirt.io/storage.pod.retainAfterCompletion", "true"),
        ],
        "Bound",
    );
    assert_eq!(
        World::new(Some(dv), Some(kept), Some(ended)).ops(),
        ["status Succeeded"]
    );
}

#[test]
fn a_new_controller_makes_a_new_certificate_for_a_server_it_finds() {
    let dv = upload();
    let mut waiting = claim(&dv, &[], "Bound");
    let server = pod(
        "Running",
        json!({"containerStatuses": [{
            "name": "uploadserver", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}},
        }]}),
    );
    let told = changes(&waiting, &server, &Job::Upload, None);
    for (name, value) in told {
        let all = waiting.metadata.annotations.as_mut().unwrap();
        all.insert(name, value.as_str().unwrap().to_owned());
    }
    let mut world = World::new(Some(dv), Some(waiting), Some(server));
    assert_eq!(world.ops(), ["certify"]);
    world.renew_at = Some(Timestamp::from_second(60).unwrap());
    assert_eq!(world.ops(), ["status UploadReady"]);
    // What somebody took away while the upload waits comes back.
    world.ways = false;
    assert_eq!(world.ops(), ["apply NetworkPolicy", "apply Service"]);
    world.ways = true;
    assert_eq!(
        world.plan().requeue,
        Some(std::time::Duration::from_secs(60))
    );
}

#[test]
fn a_claim_without_a_data_volume_is_filled_too() {
    let mut alone = claim(&upload(), &[], "Pending");
    alone.metadata.owner_references = None;
    assert_eq!(World::new(None, Some(alone), None).ops().len(), 4);
}

#[test]
fn a_worker_goes_with_its_claim() {
    let dv = dv(json!({"blank": {}}));
    let mut leaving = claim(&dv, &[], "Bound");
    leaving.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let world = World::new(None, Some(leaving.clone()), Some(pod("Running", json!({}))));
    assert_eq!(world.ops(), ["delete pod"]);
    assert_eq!(
        World::new(None, Some(leaving), None).ops(),
        Vec::<String>::new()
    );
}

#[test]
fn what_failed_for_good_is_not_tried_again() {
    let dv = dv(json!({"http": {"url": "http://x/y"}}));
    let failed = claim(
        &dv,
        &[
            ("cdi.kubevirt.io/storage.pod.phase", "Failed"),
            ("cdi.kubevirt.io/storage.import.fatalError", "true"),
        ],
        "Bound",
    );
    let world = World::new(
        Some(dv.clone()),
        Some(failed.clone()),
        Some(pod("Running", json!({}))),
    );
    assert_eq!(world.ops(), ["delete pod"]);
    assert_eq!(
        World::new(Some(dv), Some(failed), None).ops(),
        ["status Failed"]
    );
}

#[test]
fn a_pod_that_was_evicted_is_replaced_after_a_while() {
    let dv = dv(json!({"http": {"url": "http://x/y"}}));
    let mut evicted = pod("Failed", json!({"reason": "Evicted"}));
    let mut waiting = claim(&dv, &[], "Bound");
    let told = changes(&waiting, &evicted, &Job::Import("http".to_owned()), None);
    for (name, value) in told {
        let all = waiting.metadata.annotations.as_mut().unwrap();
        all.insert(name, value.as_str().unwrap().to_owned());
    }
    let at =
        |second| serde_json::from_value(json!(Timestamp::from_second(second).unwrap())).unwrap();
    evicted.metadata.creation_timestamp = at(-5);
    let world = World::new(
        Some(dv.clone()),
        Some(waiting.clone()),
        Some(evicted.clone()),
    );
    assert_eq!(world.ops(), ["status ImportScheduled"]);
    assert!(world.plan().requeue.is_some());
    evicted.metadata.creation_timestamp = at(-20);
    let world = World::new(Some(dv), Some(waiting), Some(evicted));
    assert_eq!(world.ops(), ["delete pod", "patch claim"]);
}

#[test]
fn a_clone_waits_for_its_original() {
    let dv = dv(json!({"pvc": {"namespace": "ns", "name": "golden"}}));
    let original = claim(&upload(), &[], "Bound");
    let mut target =
        claim::build(&dv, dv.spec.source.as_ref(), Some(&original), &cluster()).unwrap();
    target.metadata.uid = Some("claim-uid".to_owned());
    let mut world = World::new(Some(dv), Some(target), None);
    assert_eq!(world.ops(), ["status Pending"]);
    world.original = Some(original.clone());
    assert_eq!(world.ops(), ["status Pending"]);
    let full = claim(
        &upload(),
        &[("cdi.kubevirt.io/storage.pod.phase", "Succeeded")],
        "Bound",
    );
    world.original = Some(full);
    assert_eq!(world.ops(), ["create claim-uid-source-pod"]);
}

#[test]
fn somebody_elses_claim_is_left_alone() {
    let dv = dv(json!({"blank": {}}));
    let mut other = claim(&dv, &[], "Bound");
    other.metadata.owner_references = None;
    let plan = World::new(Some(dv.clone()), Some(other.clone()), None).plan();
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(
        plan.steps[0].done.as_ref().unwrap().reason,
        "ErrResourceExists"
    );
    other.metadata.annotations = serde_json::from_value(json!({
        "cdi.kubevirt.io/allowClaimAdoption": "true"
    }))
    .unwrap();
    assert_eq!(
        World::new(Some(dv), Some(other), None).ops(),
        ["patch claim"]
    );
}

#[test]
fn consumers_are_waited_for_only_when_that_is_configured() {
    let dv = dv(json!({"blank": {}}));
    let mut world = World::new(Some(dv.clone()), Some(claim(&dv, &[], "Pending")), None);
    assert_eq!(world.ops(), ["create importer-disk"]);
    world.cluster.config.feature_gates = vec![HONOR_GATE.to_owned()];
    assert_eq!(world.ops(), ["status WaitForFirstConsumer"]);
    for hint in [
        "volume.kubernetes.io/selected-node",
        "cdi.kubevirt.io/storage.bind.immediate.requested",
    ] {
        world.claim = Some(claim(&dv, &[(hint, "")], "Pending"));
        assert_eq!(world.ops(), ["create importer-disk"]);
    }
}

#[test]
fn a_step_that_failed_is_told_and_tried_later() {
    let mut world = World::new(Some(upload()), None, None);
    world.failure = Some(Failure {
        reason: "ErrExceededQuota".to_owned(),
        message: "exceeded quota".to_owned(),
        retry_at: Timestamp::from_second(5).unwrap(),
    });
    let plan = world.plan();
    let Op::PatchStatus(status) = &plan.steps[0].op else {
        panic!("{plan:?}")
    };
    assert_eq!(
        status["status"]["conditions"][0]["reason"],
        "ErrExceededQuota"
    );
    assert_eq!(plan.requeue, Some(std::time::Duration::from_secs(5)));
}

#[test]
fn a_data_volume_that_leaves_gets_no_claim() {
    let mut dv = upload();
    dv.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(World::new(Some(dv), None, None).ops(), Vec::<String>::new());
}
