//! Volumes that are accepted, and the DataVolumes that a VM brings with it.

use serde_json::{Value, json};

use crate::{ALICE, context, create, create_with, vm, vmi, with};

fn fields(object: &Value) -> Vec<String> {
    let (_, verdict) = create(object);
    verdict
        .causes
        .into_iter()
        .map(|cause| cause.field)
        .collect()
}

#[test]
fn every_source_of_a_disk_is_accepted() {
    for source in [
        json!({"persistentVolumeClaim": {"claimName": "c"}}),
        json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}),
        json!({"dataVolume": {"name": "c"}}),
        json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}}),
        json!({"configMap": {"name": "m", "optional": true, "volumeLabel": "stuff"}}),
        json!({"secret": {"secretName": "s"}}),
        json!({"serviceAccount": {"serviceAccountName": "default"}}),
        json!({"downwardAPI": {"fields": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
        json!({"cloudInitConfigDrive": {"userData": "x"}}),
        json!({"emptyDisk": {"capacity": "1Gi"}}),
    ] {
        let mut volume = source;
        volume["name"] = json!("root");
        let told = volume.to_string();
        let (_, verdict) = create(&with(vmi(), "/spec/volumes/0", volume));
        assert!(verdict.allowed, "{told}: {}", verdict.message);
    }
}

#[test]
fn a_disk_of_the_node_needs_the_gate() {
    let mut ctx = context();
    ctx.config.feature_gates = vec!["HostDisk".to_owned()];
    let disk = json!({"name": "root", "hostDisk": {
        "path": "/data/disk.img", "type": "DiskOrCreate", "capacity": "1Gi", "shared": true}});
    let (_, verdict) = create_with(&with(vmi(), "/spec/volumes/0", disk), &ctx, ALICE);
    assert!(verdict.allowed, "{}", verdict.message);
}

#[test]
fn a_lun_is_on_the_scsi_bus_by_itself() {
    let vmi = with(
        vmi(),
        "/spec/volumes/0",
        json!({"name": "root", "dataVolume": {"name": "c"}}),
    );
    let lun = json!({"name": "root", "lun": {}});
    let (stored, verdict) = create(&with(vmi, "/spec/domain/devices/disks/0", lun));
    assert!(verdict.allowed, "{}", verdict.message);
    let disk = &stored["spec"]["domain"]["devices"]["disks"][0];
    assert_eq!(disk["lun"]["bus"], "scsi");
}

#[test]
fn a_claim_cannot_be_called_as_a_volume_of_the_launchers() {
    let volume = json!({"name": "private", "persistentVolumeClaim": {"claimName": "c"}});
    let vmi = with(vmi(), "/spec/volumes/2", volume);
    assert_eq!(fields(&vmi), ["spec.volumes[2].name"]);
}

#[test]
fn a_read_only_claim_is_no_sata_hard_disk() {
    let volume =
        json!({"name": "root", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}});
    let vmi = with(vmi(), "/spec/volumes/0", volume);
    let vmi = with(
        vmi,
        "/spec/domain/devices/disks/0",
        json!({"name": "root", "disk": {}}),
    );
    assert_eq!(fields(&vmi), ["spec.domain.devices.disks[0].disk.bus"]);
}

/// A VM with this template for its root disk.
fn with_template(patch: &[(&str, Value)]) -> Value {
    let mut template = json!({
        "metadata": {"name": "c"},
        "spec": {
            "storage": {"resources": {"requests": {"storage": "1Gi"}}},
            "source": {"http": {"url": "http://192.0.2.1/a.qcow2"}}
        }
    });
    for (pointer, value) in patch {
        template = with(template, pointer, value.clone());
    }
    let vm = with(vm(), "/spec/dataVolumeTemplates", json!([template]));
    with(
        vm,
        "/spec/template/spec/volumes/0",
        json!({"name": "root", "dataVolume": {"name": "c"}}),
    )
}

#[test]
fn templates_of_data_volumes_are_checked() {
    let entry = "spec.dataVolumeTemplate[0]";
    for (patch, expected) in [
        (vec![], vec![]),
        (
            vec![("/metadata/name", json!(""))],
            vec![format!("{entry}.name")],
        ),
        (
            vec![("/metadata/name", json!("other"))],
            vec![entry.to_owned()],
        ),
        (
            vec![("/metadata/namespace", json!("elsewhere"))],
            vec![format!("{entry}.metadata.namespace")],
        ),
        (
            vec![("/spec/storage", Value::Null)],
            vec![format!("{entry}.PVC.Storage")],
        ),
        (
            vec![("/spec/pvc", json!({}))],
            vec![format!("{entry}.PVC.Storage")],
        ),
        (
            vec![("/spec/source", Value::Null)],
            vec![format!("{entry}.source.sourceRef")],
        ),
        (
            vec![("/spec/source/blank", json!({}))],
            vec![format!("{entry}.source")],
        ),
        (
            vec![(
                "/spec/source",
                json!({"pvc": {"name": "a", "namespace": "default"}}),
            )],
            vec![],
        ),
        (
            vec![(
                "/spec/source",
                json!({"pvc": {"name": "a", "namespace": "golden"}}),
            )],
            // Who may is asked when the DataVolume is made.
            vec![],
        ),
        (
            vec![(
                "/spec/source",
                json!({"snapshot": {"name": "a", "namespace": "golden"}}),
            )],
            vec![format!("{entry}.spec.source.snapshot.namespace")],
        ),
    ] {
        assert_eq!(fields(&with_template(&patch)), expected, "{patch:?}");
    }
    let mut twice = with_template(&[]);
    let first = twice["spec"]["dataVolumeTemplates"][0].clone();
    twice["spec"]["dataVolumeTemplates"] = json!([first.clone(), first]);
    assert_eq!(fields(&twice), ["spec.dataVolumeTemplate[1].metadata.name"]);
}
