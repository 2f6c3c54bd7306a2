//! Claims by storage class, profile, source and size.
#![allow(clippy::needless_pass_by_value, clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::cdi::cluster::Class;

fn cluster(provisioner: &str) -> Cluster {
    let class = Class {
        name: "fast".to_owned(),
        provisioner: provisioner.to_owned(),
        default: true,
        waits: true,
        ..Class::default()
    };
    Cluster {
        classes: [("fast".to_owned(), class)].into(),
        ..Cluster::default()
    }
}

fn data_volume(spec: Value) -> DataVolume {
    serde_json::from_value(json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
        "metadata": {"name": "disk", "namespace": "ns", "uid": "dv-uid",
            "labels": {"a": "b"}, "annotations": {"c": "d",
                "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": spec,
    }))
    .unwrap()
}

fn made(spec: Value, cluster: &Cluster) -> Result<PersistentVolumeClaim, Refusal> {
    let dv = data_volume(spec);
    build(&dv, dv.spec.source.as_ref(), None, cluster)
}

fn storage(more: Value) -> Value {
    let mut storage = json!({"resources": {"requests": {"storage": "1Gi"}}});
    for (key, value) in more.as_object().unwrap() {
        storage[key] = value.clone();
    }
    json!({"source": {"upload": {}}, "storage": storage})
}

#[test]
fn gaps_are_filled_by_class_and_profile() {
    let claim = made(storage(json!({})), &cluster("rancher.io/local-path")).unwrap();
    let spec = claim.spec.unwrap();
    assert_eq!(spec.storage_class_name.as_deref(), Some("fast"));
    assert_eq!(spec.access_modes.unwrap(), ["ReadWriteOnce"]);
    assert_eq!(spec.volume_mode.as_deref(), Some("Filesystem"));
    let size = spec.resources.unwrap().requests.unwrap()["storage"].clone();
    assert_eq!(size.0, "1142278537");
}

#[test]
fn a_device_is_as_large_as_its_disk() {
    let claim = made(storage(json!({})), &cluster("rook-ceph.rbd.csi.ceph.com")).unwrap();
    let spec = claim.spec.unwrap();
    assert_eq!(spec.volume_mode.as_deref(), Some("Block"));
    assert_eq!(requested(&spec), Some(1 << 30));
}

#[test]
fn what_the_user_says_holds() {
    let ceph = cluster("rook-ceph.rbd.csi.ceph.com");
    let claim = made(storage(json!({"volumeMode": "Filesystem"})), &ceph).unwrap();
    assert_eq!(claim.spec.unwrap().access_modes.unwrap(), ["ReadWriteOnce"]);
    let claim = made(storage(json!({"accessModes": ["ReadWriteOnce"]})), &ceph).unwrap();
    assert_eq!(claim.spec.unwrap().volume_mode.as_deref(), Some("Block"));
    let exact = json!({"source": {"upload": {}}, "pvc": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    let claim = made(exact, &ceph).unwrap().spec.unwrap();
    assert_eq!(
        (claim.volume_mode.clone(), requested(&claim)),
        (None, Some(1 << 30))
    );
}

#[test]
fn a_claim_that_nobody_can_complete_is_refused() {
    let refusal = made(storage(json!({})), &cluster("acme.example/x")).unwrap_err();
    assert_eq!(refusal.reason, "ErrClaimNotValid");
    assert!(refusal.message.ends_with("StorageProfile fast"));
    let refusal = made(storage(json!({})), &Cluster::default()).unwrap_err();
    assert_eq!(
        refusal.message,
        "DataVolume.storage spec is missing accessMode and no storageClass to choose profile"
    );
}

#[test]
fn labels_annotations_and_owner_are_handed_down() {
    let claim = made(storage(json!({})), &cluster("rancher.io/local-path")).unwrap();
    let labels = claim.metadata.labels.unwrap();
    assert_eq!(
        (labels["a"].as_str(), labels["app"].as_str()),
        ("b", "containerized-data-importer")
    );
    let annotations = claim.metadata.annotations.unwrap();
    assert_eq!(annotations["c"], "d");
    assert_eq!(annotations["cdi.kubevirt.io/storage.upload.target"], "");
    assert_eq!(
        annotations["cdi.kubevirt.io/storage.contentType"],
        "kubevirt"
    );
    assert!(!annotations.keys().any(|name| name.contains("last-applied")));
    let owner = &claim.metadata.owner_references.unwrap()[0];
    assert_eq!(
        (owner.uid.as_str(), owner.controller),
        ("dv-uid", Some(true))
    );
}

#[test]
fn each_source_is_told_to_the_worker() {
    let local = cluster("rancher.io/local-path");
    let cases = [
        (
            json!({"http": {"url": "http://x/y", "secretRef": "s", "certConfigMap": "c",
                "checksum": "md5:0", "extraHeaders": ["A: b"], "secretExtraHeaders": ["h"]}}),
            vec![
                ("import.source", "http"),
                ("import.endpoint", "http://x/y"),
                ("import.secretName", "s"),
                ("import.certConfigMap", "c"),
                ("import.checksum", "md5:0"),
                ("import.extraHeaders.0", "A: b"),
                ("import.secretExtraHeaders.0", "h"),
            ],
        ),
        (
            json!({"s3": {"url": "http://x/y"}}),
            vec![("import.source", "s3"), ("import.endpoint", "http://x/y")],
        ),
        (
            json!({"registry": {"url": "docker://x/y"}}),
            vec![
                ("import.source", "registry"),
                ("import.registryImportMethod", "pod"),
            ],
        ),
        (json!({"blank": {}}), vec![("import.source", "none")]),
    ];
    for (source, wanted) in cases {
        let claim = made(
            json!({"source": source, "storage": {"resources": {"requests": {"storage": "1Gi"}}}}),
            &local,
        )
        .unwrap();
        let annotations = claim.metadata.annotations.unwrap();
        for (name, value) in wanted {
            assert_eq!(
                annotations[&format!("cdi.kubevirt.io/storage.{name}")],
                value,
                "{name}"
            );
        }
    }
}

fn original(size: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": "golden", "namespace": "ns"},
        "spec": {"storageClassName": "fast", "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": size}}},
    }))
    .unwrap()
}

#[test]
fn a_clone_is_at_least_as_large_as_its_original() {
    let local = cluster("rancher.io/local-path");
    let source = json!({"pvc": {"namespace": "ns", "name": "golden"}});
    let clone = |storage: Value, size: &str| {
        let dv = data_volume(json!({"source": source, "storage": storage}));
        build(&dv, dv.spec.source.as_ref(), Some(&original(size)), &local)
    };
    let same = clone(json!({}), "3Gi").unwrap().spec.unwrap();
    assert_eq!(requested(&same), Some(3 << 30));
    let small = clone(
        json!({"resources": {"requests": {"storage": "1Gi"}}}),
        "3Gi",
    )
    .unwrap_err();
    assert_eq!(small.reason, "CloneValidationFailed");
    assert!(
        clone(
            json!({"resources": {"requests": {"storage": "3Gi"}}}),
            "3Gi"
        )
        .is_ok()
    );
    for (kind, snapshot) in [("pvc", None), ("snapshot", Some("true"))] {
        let from = json!({(kind): {"namespace": "other", "name": "golden"}});
        let dv = data_volume(json!({"source": from, "storage": {}}));
        let source = dv.spec.source.as_ref();
        let claim = build(&dv, source, Some(&original("1Gi")), &local).unwrap();
        let notes = claim.metadata.annotations.unwrap();
        assert_eq!(notes[note::CLONE_REQUEST], "other/golden");
        let noted = notes.get(note::FROM_SNAPSHOT).map(String::as_str);
        assert_eq!(noted, snapshot);
    }
    let dv = data_volume(json!({"source": source, "storage": {}}));
    let refusal = build(&dv, dv.spec.source.as_ref(), None, &local).unwrap_err();
    assert_eq!(refusal.reason, "CloneWithoutSource");
}

#[test]
fn a_data_source_leads_to_a_claim_over_one_step() {
    let make = |source: Value| -> DataSource {
        serde_json::from_value(json!({"metadata": {}, "spec": {"source": source}})).unwrap()
    };
    let claim = make(json!({"pvc": {"namespace": "ns", "name": "golden"}}));
    let to = |name: &str| make(json!({"dataSource": {"namespace": "ns", "name": name}}));
    let (one, two) = (to("claim"), to("one"));
    let lookup = |_: &str, name: &str| match name {
        "claim" => Some(&claim),
        "one" => Some(&one),
        "two" => Some(&two),
        _ => None,
    };
    assert_eq!(
        stands_for("ns", "claim", lookup).unwrap().pvc.unwrap().name,
        "golden"
    );
    assert_eq!(
        stands_for("ns", "one", lookup).unwrap().pvc.unwrap().name,
        "golden"
    );
    assert_eq!(
        stands_for("ns", "two", lookup).unwrap_err().reason,
        "MaxReferenceDepthReached"
    );
    assert_eq!(
        stands_for("ns", "none", lookup).unwrap_err().reason,
        "NotFound"
    );
}
