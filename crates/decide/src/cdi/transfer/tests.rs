//! Transfers step by step, with what may come in between at every step.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bench;

use super::*;
use bench::{Cluster, NOW, SOURCE, TARGET, read};

const KINDS: [&str; 2] = ["DataVolume", "PersistentVolumeClaim"];

/// How many steps a transfer takes.
fn length(kind: &str) -> usize {
    let mut cluster = Cluster::new(kind);
    let steps = std::iter::repeat_with(|| cluster.step()).take_while(|went| *went);
    steps.count()
}

#[test]
fn the_volume_changes_its_claim_and_is_what_it_was() {
    for kind in KINDS {
        let mut cluster = Cluster::new(kind);
        let mut phases = Vec::new();
        while cluster.step() {
            let phase = cluster.status().0.to_owned();
            if phases.last() != Some(&phase) {
                phases.push(phase);
            }
        }
        assert_eq!(phases, ["", "Pending", "Running", "Complete"], "{kind}");
        assert!(cluster.has_moved(kind), "{kind}: {:?}", cluster.objects);
        let status = &cluster.objects["transfer"]["status"];
        assert!(status.get("data").is_none_or(Value::is_null), "{status}");
        assert_eq!(status["conditions"][0]["status"], "True");
        let finalizers = &cluster.objects["transfer"]["metadata"]["finalizers"];
        assert!(finalizers.as_array().unwrap().is_empty());
        assert_eq!(cluster.events.len(), 1);
        let claim = &cluster.objects["target-claim"];
        let meta = &claim["metadata"];
        assert_eq!(
            (&meta["namespace"], &meta["name"]),
            (&json!("b"), &json!("disk"))
        );
        assert_eq!(claim["spec"]["volumeName"], "pv-1");
        assert_eq!(claim["spec"]["storageClassName"], "local");
        assert!(claim["spec"]["dataSourceRef"].is_null());
        assert_eq!(meta["labels"], json!({"app": "x"}));
        let notes = &meta["annotations"];
        assert_eq!(
            (&notes["mine"], &notes[note::CONTENT_TYPE]),
            (&json!("yes"), &json!("kubevirt"))
        );
        for gone in [
            note::SOURCE,
            note::ENDPOINT,
            note::SECRET,
            "pv.kubernetes.io/bind-completed",
            note::OBJECT_TRANSFER,
        ] {
            assert!(notes[gone].is_null(), "{gone}");
        }
        if kind == "DataVolume" {
            let dv = &cluster.objects["target-dv"];
            assert_eq!(notes[note::POPULATED_FOR], "disk");
            assert_eq!(meta["ownerReferences"][0]["uid"], dv["metadata"]["uid"]);
            assert_eq!(dv["metadata"]["labels"]["l"], "1");
            assert_eq!(dv["spec"]["source"]["http"]["url"], "http://x");
            let notes = &dv["metadata"]["annotations"];
            assert!(notes[note::CLONE_TOKEN].is_null() && notes["mine"] == "yes");
        }
    }
}

#[test]
fn who_deletes_it_on_the_way_gets_all_back_or_all_moved() {
    for kind in KINDS {
        let mut back = 0;
        for steps in 0..=length(kind) {
            let mut cluster = Cluster::after(kind, steps);
            cluster.leave();
            cluster.settle();
            assert!(!cluster.has("transfer"), "{kind} {steps}: it stays");
            let before = cluster.is_as_before(kind);
            assert!(
                before || cluster.has_moved(kind),
                "{kind} {steps}: {:?}",
                cluster.objects
            );
            back += usize::from(before);
        }
        assert!(back > 3 && back < length(kind), "{kind}: {back}");
    }
}

#[test]
fn a_target_that_somebody_else_makes_costs_nothing() {
    for kind in KINDS {
        for what in TARGET {
            for steps in 0..length(kind) {
                let mut cluster = Cluster::after(kind, steps);
                if cluster.has(what) || (what == "target-dv" && cluster.has("target-claim")) {
                    continue;
                }
                let stranger = json!({"metadata": {"name": "disk", "namespace": "b"}, "spec": {}, "status": {"phase": "Pending"}});
                cluster.make(what, stranger);
                cluster.settle();
                let (phase, message) = cluster.status();
                assert_eq!(phase, "Error", "{kind} {what} {steps}");
                assert!(message.contains("\"b/disk\" already exists"), "{message}");
                assert!(
                    cluster.has("claim") && cluster.policy() == "Delete",
                    "{kind} {what} {steps}"
                );
                // It goes on when the name is free.
                cluster.gone(what);
                cluster.settle();
                assert!(cluster.has_moved(kind), "{kind} {what} {steps}");
            }
        }
    }
}

#[test]
fn nothing_is_lost_when_somebody_deletes_what_moves_once_it_is_retained() {
    for kind in KINDS {
        for what in ["dv", "claim", "target-dv", "target-claim"] {
            for steps in 0..length(kind) {
                let mut cluster = Cluster::after(kind, steps);
                if cluster.policy() != "Retain" || !cluster.has(what) {
                    continue;
                }
                cluster.gone(what);
                cluster.react();
                cluster.settle();
                assert!(
                    cluster.has_moved(kind),
                    "{kind} {what} {steps}: {:?}",
                    cluster.status()
                );
            }
        }
    }
}

#[test]
fn a_namespace_that_goes_away_on_the_way_leaves_the_data_in_a_volume_that_is_retained() {
    for kind in KINDS {
        for steps in 0..length(kind) - 2 {
            for home in [Home::Leaving, Home::Missing] {
                let mut cluster = Cluster::after(kind, steps);
                let whole = SOURCE.iter().filter(|what| cluster.has(what)).count();
                cluster.home = home;
                cluster.gone("target-dv");
                cluster.gone("target-claim");
                cluster.settle();
                let kept = cluster.policy();
                if kept == "Retain" {
                    assert_eq!(cluster.status().0, "Error", "{kind} {steps}");
                    assert!(
                        cluster
                            .status()
                            .1
                            .contains("PersistentVolume pv-1 keeps the data"),
                        "{:?}",
                        cluster.status()
                    );
                    let mut given_up = cluster.clone();
                    given_up.leave();
                    given_up.settle();
                    assert!(!given_up.has("transfer") && given_up.policy() == "Retain");
                    assert_eq!(given_up.events.last().unwrap().reason, "TransferAbandoned");
                } else {
                    assert!(
                        kept == "Delete" && whole > 0 && cluster.has("claim"),
                        "{kind} {steps}"
                    );
                }
                cluster.home = Home::There;
                cluster.settle();
                assert!(
                    cluster.has_moved(kind),
                    "{kind} {steps} {:?}",
                    cluster.status()
                );
            }
        }
    }
}

#[test]
fn a_pod_that_comes_on_the_way_is_waited_for() {
    for kind in KINDS {
        for steps in 0..length(kind) {
            let mut cluster = Cluster::after(kind, steps);
            if !cluster.has("claim") {
                continue;
            }
            cluster.users.push("reader".to_owned());
            cluster.settle();
            assert!(
                cluster.has("claim") && cluster.policy() != "lost",
                "{kind} {steps}"
            );
            assert!(
                cluster.status().1.contains("reader"),
                "{:?}",
                cluster.status()
            );
            cluster.users.clear();
            if cluster.objects["claim"]["metadata"]["deletionTimestamp"].is_string() {
                cluster.gone("claim");
            }
            cluster.settle();
            assert!(
                cluster.has_moved(kind),
                "{kind} {steps}: {:?}",
                cluster.status()
            );
        }
    }
}

#[test]
fn a_source_that_is_not_fit_is_waited_for_and_the_condition_says_why() {
    type Change = fn(&mut Cluster);
    let both: [(&str, Change); 11] = [
        ("Source is being deleted", |c| {
            c.objects["claim"]["metadata"]["deletionTimestamp"] = json!("2027-01-01T00:00:00Z")
        }),
        ("PVC not bound", |c| {
            c.objects["claim"]["status"]["phase"] = json!("Pending")
        }),
        ("Source not populated", |c| {
            c.objects["claim"]["metadata"]["annotations"][note::POD_PHASE] = json!("Running")
        }),
        (
            "PVC has finalizer: snapshot.storage.kubernetes.io/pvc-as-source-protection",
            |c| {
                c.objects["claim"]["metadata"]["finalizers"] = json!([COPIED[1]]);
            },
        ),
        ("Required annotation missing: need: it", |c| {
            c.objects["transfer"]["spec"]["source"]["requiredAnnotations"] = json!({"need": "it"});
        }),
        ("Source in use by another transfer: other", |c| {
            c.others.push("other");
            c.objects["claim"]["metadata"]["annotations"][note::OBJECT_TRANSFER] = json!("other");
        }),
        (
            "PV not bound",
            |c| {
                c.objects["volume"]["spec"] =
                    json!({"persistentVolumeReclaimPolicy": "Retain", "claimRef": {"uid": "c-2"}})
            },
        ),
        ("PV not bound", |c| c.objects["volume"] = Value::Null),
        ("Pods using", |c| c.users.push("pod".to_owned())),
        ("expected namespace b, found none", |c| {
            c.home = Home::Missing
        }),
        ("expected namespace b, found it being deleted", |c| {
            c.home = Home::Leaving
        }),
    ];
    for kind in KINDS {
        for (words, change) in both {
            expect(kind, words, change);
        }
    }
    expect("DataVolume", "No source", |c| c.objects["dv"] = Value::Null);
    expect("DataVolume", "Source not populated", |c| {
        c.objects["dv"]["status"] = json!({"phase": "ImportInProgress"})
    });
    expect("DataVolume", "Source DV has no PVC", |c| {
        c.objects["claim"] = Value::Null
    });
    expect("DataVolume", "PVC is not the source DV's", |c| {
        c.objects["claim"]["metadata"]["ownerReferences"] = json!([])
    });
    expect("DataVolume", "Source is being deleted", |c| {
        c.objects["dv"]["metadata"]["deletionTimestamp"] = json!("2027-01-01T00:00:00Z");
    });
    expect("PersistentVolumeClaim", "No source", |c| {
        c.objects["claim"] = Value::Null
    });
    expect(
        "PersistentVolumeClaim",
        "PVC belongs to DataVolume disk",
        |c| {
            let whole = Cluster::new("DataVolume");
            c.objects["dv"] = whole.objects["dv"].clone();
            c.objects["claim"] = whole.objects["claim"].clone();
        },
    );
    expect(
        "PersistentVolumeClaim",
        "PVC belongs to PersistentVolumeClaim other",
        |c| {
            c.objects["claim"]["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "other", "uid": "o", "controller": true}]);
        },
    );
}

fn expect(kind: &str, words: &str, change: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::new(kind);
    change(&mut cluster);
    cluster.react();
    let before = cluster.objects["volume"].clone();
    cluster.settle();
    let (phase, message) = cluster.status();
    assert_eq!(phase, "Pending", "{kind}: {words}");
    assert!(message.contains(words), "{kind}: {words:?} in {message:?}");
    assert_eq!(before, cluster.objects["volume"], "{kind}: {words}");
    cluster.leave();
    cluster.settle();
    assert!(!cluster.has("transfer") && cluster.objects["volume"] == before);
}

#[test]
fn a_mark_of_a_transfer_that_is_no_more_holds_nobody_up() {
    let mut cluster = Cluster::new("DataVolume");
    cluster.objects["dv"]["metadata"]["annotations"][note::OBJECT_TRANSFER] = json!("gone");
    cluster.settle();
    assert!(cluster.has_moved("DataVolume"));
}

#[test]
fn a_volume_that_somebody_gave_away_is_left_to_him() {
    let mut cluster = Cluster::new("PersistentVolumeClaim");
    while cluster.has("claim") {
        assert!(cluster.step());
    }
    cluster.objects["volume"]["spec"]["claimRef"] =
        json!({"namespace": "c", "name": "x", "uid": "other"});
    cluster.settle();
    assert_eq!(cluster.status(), ("Error", "PV bound to wrong PVC"));
    assert_eq!(
        cluster.objects["volume"]["spec"]["claimRef"]["uid"],
        "other"
    );
    assert_eq!(cluster.policy(), "Retain");
}

#[test]
fn a_failed_step_is_told_and_told_once() {
    let cluster = Cluster::after("DataVolume", 5);
    assert_eq!(cluster.status().0, "Running");
    let transfer: ObjectTransfer = read(&cluster.objects["transfer"]).unwrap();
    let plan = failed(&transfer, "exceeded quota", NOW);
    let Op::PatchStatus(patch) = &plan.steps[0].op else {
        panic!("{plan:?}")
    };
    assert_eq!(patch["status"]["phase"], "Error");
    let mut told = json!(transfer);
    json_patch::merge(&mut told, patch);
    let transfer: ObjectTransfer = read(&told).unwrap();
    assert!(failed(&transfer, "exceeded quota", NOW).steps.is_empty());
}

#[test]
fn in_its_own_namespace_a_source_keeps_its_owners() {
    let mut cluster = Cluster::new("DataVolume");
    cluster.objects["dv"]["metadata"]["ownerReferences"] = json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "vm", "uid": "vm"}]);
    let dv: DataVolume = read(&cluster.objects["dv"]).unwrap();
    let memory = objects::Memory::of(
        &read(&cluster.objects["claim"]).unwrap(),
        Some(&dv),
        &read(&cluster.objects["volume"]).unwrap(),
    );
    let mut transfer: ObjectTransfer = read(&cluster.objects["transfer"]).unwrap();
    let owners = |transfer: &ObjectTransfer| {
        memory
            .new_data_volume(transfer)
            .unwrap()
            .metadata
            .owner_references
    };
    assert_eq!(owners(&transfer), None);
    transfer.spec.target = api::cdi::TransferTarget {
        namespace: None,
        name: Some("other".to_owned()),
    };
    assert_eq!(owners(&transfer).unwrap().len(), 1);
    assert_eq!(memory.new_claim(&transfer).metadata.owner_references, None);
}

#[test]
fn a_target_that_waits_for_its_volume_is_touched_once() {
    let mut cluster = Cluster::new("PersistentVolumeClaim");
    while cluster.objects["target-claim"]["status"]["phase"] != "Bound" {
        assert!(cluster.step());
    }
    cluster.objects["target-claim"]["status"]["phase"] = json!("Pending");
    let told = cluster.plan().steps.remove(0);
    let Op::PatchStatus(status) = told.op else {
        panic!("{told:?}")
    };
    json_patch::merge(&mut cluster.objects["transfer"], &status);
    assert!(cluster.plan().steps.is_empty());
    let later = Timestamp::from_second(1).unwrap();
    let touch = cluster.plan_at(later).steps.remove(0);
    let Op::PatchClaim(_, patch) = touch.op else {
        panic!("{touch:?}")
    };
    json_patch::merge(&mut cluster.objects["target-claim"], &patch);
    assert!(cluster.plan_at(later).steps.is_empty());
}
