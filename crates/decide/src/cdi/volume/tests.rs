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
        snapshot_classes: Some(Vec::new()),
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
    look: Option<Look>,
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
            look: None,
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
            senders: Vec::new(),
            permit: Ok(()),
            original: self.original.as_ref(),
            look: self.look.as_ref(),
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
        Op::CreateClone { unused, .. } => format!("clone unused {unused}"),
        Op::CreateSnapshot { unused, .. } => format!("snapshot unused {unused}"),
        Op::PatchVolume(_) => "patch volume".to_owned(),
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
    assert_eq!(world.ops(), ["patch volume"]);
    world.dv.as_mut().unwrap().metadata.annotations =
        Some([(note::CLONE_TYPE.to_owned(), "copy".to_owned())].into());
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

/// A world with a class of a driver that clones as `strategy` says, and a full original.
fn driver(strategy: &str) -> World {
    let source = json!({"pvc": {"namespace": "ns", "name": "golden"}});
    let mut world = World::new(Some(dv(source)), None, None);
    let class = world.cluster.classes.get_mut("local").unwrap();
    class.provisioner = "csi.example".to_owned();
    class.waits = false;
    class.expands = true;
    class.clone_strategy = Some(strategy.to_owned());
    let profile: api::cdi::StorageProfile = serde_json::from_value(json!({
        "metadata": {"name": "local"}, "spec": {"claimPropertySets": [
            {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"},
        ]},
    }))
    .unwrap();
    world.cluster.profiles.insert("local".to_owned(), profile);
    world.cluster.snapshot_classes = Some(vec![crate::cdi::strategy::SnapshotClass {
        name: "snaps".to_owned(),
        driver: "csi.example".to_owned(),
        default: true,
    }]);
    world.look = Some(Look {
        driver: Some("csi.example".to_owned()),
        snapshot: None,
    });
    world.original = Some(
        serde_json::from_value(json!({
            "metadata": {"name": "golden", "namespace": "ns"},
            "spec": {
                "storageClassName": "local", "volumeMode": "Filesystem",
                "resources": {"requests": {"storage": "1142278537"}},
            },
            "status": {"phase": "Bound", "capacity": {"storage": "1142278537"}},
        }))
        .unwrap(),
    );
    world
}

/// The claim that the plan makes.
fn planned(world: &World) -> PersistentVolumeClaim {
    let plan = world.plan();
    let mut claims = plan.steps.into_iter().filter_map(|step| match step.op {
        Op::CreateClaim(claim) | Op::CreateClone { claim, .. } => Some(*claim),
        _ => None,
    });
    let mut claim = claims.next_back().unwrap();
    claim.metadata.uid = Some("claim-uid".to_owned());
    claim
}

#[test]
fn a_drivers_clone_is_complete_when_it_is_bound_and_needs_no_pod() {
    let mut world = driver("csi-clone");
    assert_eq!(world.ops(), ["clone unused golden"]);
    let mut claim = planned(&world);
    claim.status = serde_json::from_value(json!({"phase": "Pending"})).unwrap();
    world.claim = Some(claim);
    assert_eq!(world.ops(), ["patch volume"]);
    let dv = world.dv.as_mut().unwrap();
    dv.metadata.annotations = Some([(note::CLONE_TYPE.to_owned(), "csi-clone".to_owned())].into());
    let Op::PatchStatus(status) = &world.plan().steps[0].op else {
        panic!("{:?}", world.plan());
    };
    assert_eq!(status["status"]["phase"], "CSICloneInProgress");
    let claim = world.claim.as_mut().unwrap();
    claim.status = serde_json::from_value(json!({"phase": "Bound"})).unwrap();
    let plan = world.plan();
    let Op::PatchClaim(patch) = &plan.steps[0].op else {
        panic!("{plan:?}");
    };
    assert_eq!(
        patch["metadata"]["annotations"][note::POD_PHASE],
        "Succeeded"
    );
    let notes = claim_notes(&mut world);
    notes.insert(note::POD_PHASE.to_owned(), "Succeeded".to_owned());
    let Op::PatchStatus(status) = &world.plan().steps[0].op else {
        panic!("{:?}", world.plan());
    };
    assert_eq!(status["status"]["phase"], "Succeeded");
}

fn claim_notes(world: &mut World) -> &mut std::collections::BTreeMap<String, String> {
    let claim = world.claim.as_mut().unwrap();
    claim.metadata.annotations.as_mut().unwrap()
}

#[test]
fn a_clone_through_a_snapshot_leaves_none() {
    let mut world = driver("snapshot");
    assert_eq!(world.ops(), ["snapshot unused golden"]);
    let snapshot = |ready| smart::Snapshot {
        ready,
        size: 1 << 31,
        ..smart::Snapshot::default()
    };
    world.look.as_mut().unwrap().snapshot = Some(snapshot(false));
    let plan = world.plan();
    let Op::PatchStatus(status) = &plan.steps[0].op else {
        panic!("{plan:?}");
    };
    assert_eq!(status["status"]["phase"], "SnapshotForSmartCloneInProgress");
    assert!(plan.requeue.is_some());
    world.look.as_mut().unwrap().snapshot = Some(snapshot(true));
    assert_eq!(world.ops(), ["create claim"]);
    let mut claim = planned(&world);
    let spec = claim.spec.as_ref().unwrap();
    assert_eq!(
        spec.data_source.as_ref().unwrap().name,
        "tmp-snapshot-dv-uid"
    );
    assert_eq!(requested_bytes(spec), 1 << 31);
    claim.status = serde_json::from_value(json!({"phase": "Bound"})).unwrap();
    world.claim = Some(claim);
    // The snapshot goes before the claim forgets it, and before anybody hears of success.
    assert_eq!(world.ops(), ["delete VolumeSnapshot", "patch claim"]);
    claim_notes(&mut world).remove(note::TEMPORARY_SOURCE);
    assert_eq!(world.ops(), ["patch claim"]);
}

fn requested_bytes(spec: &k8s_openapi::api::core::v1::PersistentVolumeClaimSpec) -> u64 {
    crate::cdi::size::requested(spec).unwrap()
}

#[test]
fn a_drivers_clone_gets_a_pod_when_it_waits_for_one_or_its_image_is_to_grow() {
    let mut world = driver("csi-clone");
    world.cluster.classes.get_mut("local").unwrap().waits = true;
    let mut claim = planned(&world);
    claim.status = serde_json::from_value(json!({"phase": "Pending"})).unwrap();
    world.claim = Some(claim);
    assert_eq!(world.ops(), ["create prep-claim-uid"]);

    let mut world = driver("csi-clone");
    let resources = &mut world
        .dv
        .as_mut()
        .unwrap()
        .spec
        .storage
        .as_mut()
        .unwrap()
        .resources;
    *resources = serde_json::from_value(json!({"requests": {"storage": "2Gi"}})).unwrap();
    let mut claim = planned(&world);
    claim.status = serde_json::from_value(json!({"phase": "Bound"})).unwrap();
    world.claim = Some(claim);
    assert_eq!(world.ops(), ["create prep-claim-uid"]);
}

#[test]
fn storage_is_looked_at_and_the_original_full_before_anything_is_cloned() {
    let mut world = driver("csi-clone");
    let look = world.look.take();
    assert_eq!(world.ops(), ["status Pending"]);
    world.look = look;
    world.original.as_mut().unwrap().status = None;
    assert_eq!(world.ops(), ["status Pending"]);
    // A copy can be asked for before its original is full.
    let mut world = driver("copy");
    world.original.as_mut().unwrap().status = None;
    world.look = None;
    assert_eq!(world.ops(), ["create claim"]);
}

#[test]
fn what_falls_back_tells_why() {
    let mut world = driver("csi-clone");
    world.look.as_mut().unwrap().driver = None;
    let plan = world.plan();
    assert_eq!(
        plan.steps[0].done.as_ref().unwrap().reason,
        "IncompatibleProvisioners"
    );
    let notes = planned(&world).metadata.annotations.unwrap();
    assert_eq!(notes[note::CLONE_TYPE], "copy");
    assert_eq!(notes[note::CLONE_FALLBACK], "Provisioners are incompatible");
    assert_eq!(notes[note::CLONE_REQUEST], "ns/golden");
}

#[test]
fn a_snapshot_is_restored_or_copied_from_a_claim_that_goes_afterwards() {
    let mut world = driver("snapshot");
    let source = json!({"snapshot": {"namespace": "ns", "name": "snap"}});
    world.dv = Some(dv(source));
    world.original = None;
    world.look = Some(Look::default());
    let plan = world.plan();
    let Op::PatchStatus(status) = &plan.steps[0].op else {
        panic!("{plan:?}");
    };
    let bound = &status["status"]["conditions"][0];
    assert_eq!(bound["reason"], "CloneWithoutSource");
    assert!(plan.requeue.is_some());
    let mut snapshot = smart::Snapshot {
        driver: Some("csi.example".to_owned()),
        size: 1 << 30,
        ..smart::Snapshot::default()
    };
    world.look.as_mut().unwrap().snapshot = Some(snapshot.clone());
    assert_eq!(world.ops(), ["status Pending"]);
    snapshot.ready = true;
    world.look.as_mut().unwrap().snapshot = Some(snapshot.clone());
    let claim = planned(&world);
    let source = claim.spec.unwrap().data_source.unwrap();
    assert_eq!(
        (source.kind.as_str(), source.name.as_str()),
        ("VolumeSnapshot", "snap")
    );
    assert!(
        !claim
            .metadata
            .annotations
            .unwrap()
            .contains_key(note::TEMPORARY_SOURCE)
    );

    snapshot.block = true;
    world.look.as_mut().unwrap().snapshot = Some(snapshot);
    let dv = world.dv.as_mut().unwrap();
    dv.spec.storage.as_mut().unwrap().volume_mode = Some("Filesystem".to_owned());
    assert_eq!(world.ops(), ["create claim", "create claim"]);
    let mut claim = planned(&world);
    let notes = claim.metadata.annotations.as_mut().unwrap();
    assert_eq!(notes[note::CLONE_REQUEST], "ns/tmp-source-pvc-dv-uid");
    notes.insert(note::POD_PHASE.to_owned(), "Succeeded".to_owned());
    claim.status = serde_json::from_value(json!({"phase": "Bound"})).unwrap();
    world.claim = Some(claim);
    assert_eq!(world.ops(), ["delete PersistentVolumeClaim", "patch claim"]);
}

#[test]
fn nothing_but_what_is_temporary_is_deleted_for_an_annotation() {
    let mut world = driver("csi-clone");
    let mut claim = planned(&world);
    claim.status = serde_json::from_value(json!({"phase": "Bound"})).unwrap();
    world.claim = Some(claim);
    for what in [
        "VolumeSnapshot/backup",
        "PersistentVolumeClaim/golden",
        "Secret/tmp-snapshot-1",
    ] {
        claim_notes(&mut world).insert(note::TEMPORARY_SOURCE.to_owned(), what.to_owned());
        assert_eq!(world.ops(), ["patch claim"], "{what}");
    }
}
