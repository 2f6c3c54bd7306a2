//! The way of a claim from its reference to its volume.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, clippy::panic)]

use serde_json::json;

use super::*;

const PRIME: &str = "prime-u1";

fn cluster(provisioner: &str, waits: bool) -> Cluster {
    let class = Class {
        name: "c".to_owned(),
        provisioner: provisioner.to_owned(),
        waits,
        ..Class::default()
    };
    Cluster {
        classes: [("c".to_owned(), class)].into(),
        snapshot_classes: Some(Vec::new()),
        ..Cluster::default()
    }
}

fn claim(kind: &str, annotations: Value, phase: &str, volume: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "uid": "u1", "annotations": annotations},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "c", "volumeMode": "Filesystem",
            "volumeName": volume,
            "selector": {"matchLabels": {"a": "b"}},
            "resources": {"requests": {"storage": "1Gi"}},
            "dataSourceRef": {"apiGroup": "cdi.kubevirt.io", "kind": kind, "name": "src"},
        },
        "status": {"phase": phase},
    }))
    .unwrap()
}

fn import() -> VolumeImportSource {
    serde_json::from_value(json!({
        "metadata": {"name": "src", "namespace": "ns"},
        "spec": {"source": {"http": {"url": "http://x/y"}}, "preallocation": true},
    }))
    .unwrap()
}

/// Decides on `claim` with this source and prime.
fn plan(
    claim: &PersistentVolumeClaim,
    source: Option<Source<'_>>,
    prime: Option<&PersistentVolumeClaim>,
    cluster: &Cluster,
) -> (Standing, Plan<Op>) {
    let mut plan = Plan::default();
    let view = View {
        reference: reference(claim).unwrap(),
        source,
        prime,
        progress: Some(41.5),
        original: None,
        look: None,
    };
    let standing = decide(
        &view,
        claim,
        cluster,
        false,
        Timestamp::UNIX_EPOCH,
        &mut plan,
    );
    (standing, plan)
}

/// The prime that is made for `claim`, as it is later.
fn prime(claim: &PersistentVolumeClaim, annotations: &[(&str, &str)]) -> PersistentVolumeClaim {
    let source = import();
    let mut prime = super::prime(
        claim,
        Source::Import(&source),
        &cluster("rancher.io/local-path", true),
    );
    prime.metadata.uid = Some("u2".to_owned());
    for (name, value) in annotations {
        let all = prime.metadata.annotations.as_mut().unwrap();
        all.insert((*name).to_owned(), (*value).to_owned());
    }
    prime.spec.as_mut().unwrap().volume_name = Some("pv-1".to_owned());
    prime
}

/// The claim with what the plan's patch says.
fn patched(claim: &PersistentVolumeClaim, plan: &Plan<Op>) -> PersistentVolumeClaim {
    let Op::PatchClaim(patch) = &plan.steps[0].op else {
        panic!("expected a patch of the claim, found {:?}", plan.steps)
    };
    let mut value = json!(claim);
    for (name, new) in patch["metadata"]["annotations"].as_object().unwrap() {
        let all = value["metadata"]["annotations"].as_object_mut().unwrap();
        if new.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), new.clone());
        }
    }
    serde_json::from_value(value).unwrap()
}

#[test]
fn only_our_kinds_are_references() {
    let ours = claim("VolumeCloneSource", json!({}), "Pending", "");
    assert_eq!(reference(&ours).unwrap().kind, Kind::Clone);
    assert_eq!(
        reference(&claim("DataVolume", json!({}), "Pending", "")),
        None
    );
    let mut strange = ours.clone();
    let spec = strange.spec.as_mut().unwrap();
    spec.data_source_ref.as_mut().unwrap().api_group = Some("other".to_owned());
    assert_eq!(reference(&strange), None);
}

#[test]
fn a_prime_is_made_when_source_class_and_node_are_there() {
    let local = cluster("rancher.io/local-path", true);
    let source = import();
    let found = Some(Source::Import(&source));
    let waits = claim("VolumeImportSource", json!({}), "Pending", "");
    assert_eq!(plan(&waits, found, None, &local).0, Standing::Waits);
    for annotations in [
        json!({note::SELECTED_NODE: "edge1"}),
        json!({note::IMMEDIATE_BINDING: ""}),
    ] {
        let ready = claim("VolumeImportSource", annotations.clone(), "Pending", "");
        let (standing, plan) = plan(&ready, found, None, &local);
        assert_eq!(standing, Standing::Works);
        let Op::CreateClaim(prime) = &plan.steps[0].op else {
            panic!("{:?}", plan.steps)
        };
        assert_eq!(prime.metadata.name.as_deref(), Some(PRIME));
        assert_eq!(of(prime, note::SOURCE), Some("http"));
        assert_eq!(of(prime, note::PREALLOCATION_REQUESTED), Some("true"));
        assert_eq!(of(prime, note::POPULATOR_KIND), Some("VolumeImportSource"));
        assert_eq!(
            of(prime, note::SELECTED_NODE),
            annotations[note::SELECTED_NODE].as_str()
        );
        let spec = prime.spec.as_ref().unwrap();
        assert!(spec.selector.is_none() && spec.data_source_ref.is_none());
        assert_eq!(spec.volume_mode.as_deref(), Some("Filesystem"));
        let event = plan.steps[0].done.as_ref().unwrap();
        assert_eq!(event.reason, "CreatedPVCPrimeSuccessfully");
    }
}

#[test]
fn what_keeps_a_claim_from_its_data_is_told_once() {
    let source = import();
    let found = Some(Source::Import(&source));
    let csi = cluster("x.csi", false);
    let ready = claim("VolumeImportSource", json!({}), "Pending", "");
    let mut afar = ready.clone();
    let spec = afar.spec.as_mut().unwrap();
    spec.data_source_ref.as_mut().unwrap().namespace = Some("far".to_owned());
    let mut by_hand = ready.clone();
    by_hand.spec.as_mut().unwrap().storage_class_name = Some(String::new());
    for (claim, source, cluster, reason) in [
        (&ready, None, &csi, "SourceNotFound"),
        (&afar, found, &csi, "CrossNamespace"),
        (&by_hand, found, &csi, "ErrClaimNotValid"),
        (
            &ready,
            found,
            &cluster("kubernetes.io/rbd", false),
            "ErrClaimNotValid",
        ),
    ] {
        let (standing, first) = plan(claim, source, None, cluster);
        assert!(matches!(standing, Standing::Stuck(found, _) if found == reason));
        assert_eq!(first.steps[0].done.as_ref().unwrap().reason, reason);
        let told = patched(claim, &first);
        let (_, again) = plan(&told, source, None, cluster);
        assert!(again.steps.is_empty(), "{:?}", again.steps);
    }
}

#[test]
fn a_claim_follows_its_prime_gets_its_volume_and_lets_it_go() {
    let csi = cluster("x.csi", false);
    let target = claim("VolumeImportSource", json!({}), "Pending", "");
    let runs = prime(
        &target,
        &[(note::POD_PHASE, "Running"), (note::RUNNING, "true")],
    );
    let (_, first) = plan(&target, None, Some(&runs), &csi);
    let target = patched(&target, &first);
    assert_eq!(of(&target, note::POD_PHASE), Some("Running"));
    assert_eq!(of(&target, note::PVC_PRIME), Some(PRIME));
    assert_eq!(of(&target, note::POPULATOR_PROGRESS), Some("41.50%"));
    let (_, waits) = plan(&target, None, Some(&runs), &csi);
    assert!(waits.steps.is_empty() && waits.requeue.is_some());

    let full = prime(&target, &[(note::POD_PHASE, "Succeeded")]);
    let (_, told) = plan(&target, None, Some(&full), &csi);
    let target = patched(&target, &told);
    assert_eq!(of(&target, note::POPULATOR_PROGRESS), Some("100.0%"));
    assert_eq!(of(&target, note::PVC_PRIME), None);
    let (_, takes) = plan(&target, None, Some(&full), &csi);
    assert_eq!(
        takes.steps[0].op,
        Op::Rebind {
            volume: "pv-1".to_owned(),
            from: "u2".to_owned(),
            to: "u1".to_owned(),
        }
    );
    assert_eq!(
        takes.steps[0].done.as_ref().unwrap().reason,
        "importSucceeded"
    );

    let mut bound = target.clone();
    bound.status = serde_json::from_value(json!({"phase": "Bound"})).unwrap();
    bound.spec.as_mut().unwrap().volume_name = Some("pv-1".to_owned());
    let (standing, tidies) = plan(&bound, None, Some(&full), &csi);
    assert_eq!(standing, Standing::Done);
    assert!(matches!(&tidies.steps[0].op, Op::DeleteClaim { name, .. } if name == PRIME));
    let (standing, rests) = plan(&bound, None, None, &csi);
    assert_eq!((standing, rests.steps.len()), (Standing::Done, 0));
}

#[test]
fn an_empty_volume_of_a_provisioner_that_knows_no_sources_is_no_success() {
    let csi = cluster("x.csi", false);
    let target = claim("VolumeImportSource", json!({}), "Bound", "pv-empty");
    for prime in [
        None,
        Some(prime(&target, &[(note::POD_PHASE, "Succeeded")])),
    ] {
        let (standing, plan) = plan(&target, None, prime.as_ref(), &csi);
        assert!(matches!(standing, Standing::Stuck("NotPopulated", _)));
        assert_eq!(plan.steps.len(), 1);
    }
}

#[test]
fn a_worker_that_gives_up_is_told_with_its_reason() {
    let csi = cluster("x.csi", false);
    let target = claim("VolumeImportSource", json!({}), "Pending", "");
    let failed = prime(
        &target,
        &[
            (note::POD_PHASE, "Failed"),
            (note::FATAL_ERROR, "true"),
            (note::RUNNING_MESSAGE, "a backing file"),
        ],
    );
    let (_, first) = plan(&target, None, Some(&failed), &csi);
    let event = first.steps[0].done.as_ref().unwrap();
    assert!(event.warning && event.message.contains("a backing file"));
    let target = patched(&target, &first);
    let (standing, rests) = plan(&target, None, Some(&failed), &csi);
    assert!(matches!(standing, Standing::Stuck(_, why) if why.contains("a backing file")));
    assert!(rests.steps.is_empty());
}

#[test]
fn a_strangers_claim_is_not_taken_for_the_prime() {
    let csi = cluster("x.csi", false);
    let target = claim("VolumeImportSource", json!({}), "Pending", "");
    let mut strange = prime(&target, &[(note::POD_PHASE, "Succeeded")]);
    strange.metadata.owner_references = None;
    let (standing, _) = plan(&target, None, Some(&strange), &csi);
    assert!(matches!(
        standing,
        Standing::Stuck("ErrCreatingPVCPrime", _)
    ));
}

#[test]
fn uploads_and_clones_are_asked_for_by_annotations_of_the_prime() {
    let csi = cluster("x.csi", false);
    let upload = VolumeUploadSource::default();
    let target = claim("VolumeUploadSource", json!({}), "Pending", "");
    let made = super::prime(&target, Source::Upload(&upload), &csi);
    assert_eq!(of(&made, note::UPLOAD_TARGET), Some(""));
    let clone: VolumeCloneSource = serde_json::from_value(json!({
        "metadata": {"name": "src", "namespace": "ns"},
        "spec": {"source": {"kind": "PersistentVolumeClaim", "name": "golden"}, "priorityClassName": "high"},
    }))
    .unwrap();
    let target = claim("VolumeCloneSource", json!({}), "Pending", "");
    let made = super::prime(&target, Source::Clone(&clone), &csi);
    assert_eq!(of(&made, note::CLONE_REQUEST), Some("ns/golden"));
    assert_eq!(of(&made, note::PRIORITY_CLASS), Some("high"));
    let (_, first) = plan(&target, Some(Source::Clone(&clone)), Some(&made), &csi);
    // Not bound to anything yet, and owned by the claim: its phase is told.
    let told = patched(&target, &first);
    assert_eq!(of(&told, note::CLONE_PHASE), Some("HostClone"));
    assert_eq!(of(&told, note::CLONE_TYPE), Some("copy"));
}

#[test]
fn a_clone_of_a_snapshot_waits_until_it_is_ready_and_is_restored_or_copied() {
    let source: VolumeCloneSource = serde_json::from_value(json!({
        "metadata": {"name": "src", "namespace": "ns"},
        "spec": {"source": {
            "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snap",
        }},
    }))
    .unwrap();
    let claim = claim("VolumeCloneSource", json!({}), "Pending", "");
    let snapshot = |ready| Look {
        snapshot: Some(smart::Snapshot {
            ready,
            size: 1 << 20,
            driver: Some("csi.example".to_owned()),
            ..smart::Snapshot::default()
        }),
        ..Look::default()
    };
    let decided = |look: Option<&Look>, provisioner: &str| {
        let mut cluster = cluster(provisioner, false);
        cluster.classes.get_mut("c").unwrap().expands = true;
        let class = Class {
            name: "of-the-driver".to_owned(),
            provisioner: "csi.example".to_owned(),
            ..Class::default()
        };
        cluster.classes.insert(class.name.clone(), class);
        let view = View {
            reference: reference(&claim).unwrap(),
            source: Some(Source::Clone(&source)),
            prime: None,
            progress: None,
            original: None,
            look,
        };
        let mut plan = Plan::default();
        let now = Timestamp::UNIX_EPOCH;
        let standing = decide(&view, &claim, &cluster, false, now, &mut plan);
        (standing, plan)
    };
    for (look, reason) in [
        (None, "SnapshotNotReady"),
        (Some(Look::default()), "CloneWithoutSource"),
        (Some(snapshot(false)), "SnapshotNotReady"),
    ] {
        let (standing, plan) = decided(look.as_ref(), "csi.example");
        assert!(matches!(standing, Standing::Stuck(why, _) if why == reason));
        assert_eq!(
            json!(patched(&claim, &plan))["metadata"]["annotations"][note::CLONE_PHASE],
            "Pending"
        );
        assert!(plan.requeue.is_some());
    }
    let look = snapshot(true);
    let made = |plan: &Plan<Op>| {
        let claims = plan.steps.iter().map(|step| match &step.op {
            Op::CreateClaim(claim) => claim.as_ref().clone(),
            other => panic!("expected claims to be made, found {other:?}"),
        });
        claims.collect::<Vec<_>>()
    };
    let (_, plan) = decided(Some(&look), "csi.example");
    let [prime] = made(&plan).try_into().unwrap();
    let spec = prime.spec.as_ref().unwrap();
    assert_eq!(prime.metadata.name.as_deref(), Some(PRIME));
    assert_eq!(spec.data_source.as_ref().unwrap().name, "snap");
    assert_eq!(of(&prime, note::CLONE_TYPE), Some("snapshot"));

    let (_, plan) = decided(Some(&look), "other.example");
    let [temporary, prime] = made(&plan).try_into().unwrap();
    let restored = temporary.spec.as_ref().unwrap();
    assert_eq!(restored.data_source.as_ref().unwrap().name, "snap");
    assert_eq!(of(&prime, note::CLONE_TYPE), Some("copy"));
    let name = temporary.metadata.name.unwrap();
    let copied = format!("ns/{name}");
    assert_eq!(of(&prime, note::CLONE_REQUEST), Some(copied.as_str()));
}
