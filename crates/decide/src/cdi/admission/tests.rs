//! What is let through, what is refused, and how.
#![allow(clippy::needless_pass_by_value, clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn request(operation: &str, resource: &str, object: Value, old: Value) -> Request {
    parse(json!({"request": {
        "uid": "u", "operation": operation, "namespace": "ns",
        "resource": {"group": "cdi.kubevirt.io", "version": "v1beta1", "resource": resource},
        "object": object, "oldObject": old,
    }}))
    .unwrap()
}

fn data_volume(source: Value) -> Value {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
        "metadata": {"name": "disk", "namespace": "ns"},
        "spec": {
            "source": source,
            "storage": {"resources": {"requests": {"storage": "1Gi"}}},
        },
    })
}

fn create(object: Value) -> Verdict {
    validate(
        &request("CREATE", "datavolumes", object, Value::Null),
        &Context::default(),
    )
}

#[test]
fn each_source_that_works_is_let_through() {
    for source in [
        json!({"upload": {}}),
        json!({"blank": {}}),
        json!({"http": {"url": "https://x/y.qcow2", "secretRef": "s", "certConfigMap": "c",
            "extraHeaders": ["A: b"], "checksum": format!("md5:{}", "0".repeat(32))}}),
        json!({"s3": {"url": "http://s3/bucket/key", "secretRef": "s"}}),
        json!({"registry": {"url": "docker://registry/image:1", "pullMethod": "pod"}}),
        json!({"pvc": {"namespace": "ns", "name": "golden"}}),
    ] {
        let verdict = create(data_volume(source.clone()));
        assert!(verdict.allowed, "{source}: {}", verdict.message);
    }
}

#[test]
fn what_does_not_work_is_refused_with_field_and_reason() {
    let cases = [
        (
            json!({"gcs": {"url": "gs://b/o"}}),
            "spec.source.gcs",
            "Google Cloud",
        ),
        (
            json!({"imageio": {"url": "x", "diskId": "y"}}),
            "spec.source.imageio",
            "oVirt",
        ),
        (json!({"vddk": {}}), "spec.source.vddk", "VMware"),
        (json!({"floppy": {}}), "spec.source.floppy", "no such field"),
        (
            json!({"http": {"url": "ftp://x/y"}}),
            "spec.source.http.url",
            "scheme",
        ),
        (
            json!({"http": {"url": ""}}),
            "spec.source.http.url",
            "empty",
        ),
        (
            json!({"http": {"url": "http://u:p@x/y"}}),
            "spec.source.http.url",
            "secretRef",
        ),
        (
            json!({"http": {"url": "http://x/y", "checksum": "sha256:12"}}),
            "spec.source.http.checksum",
            "hexadecimal",
        ),
        (
            json!({"http": {"url": "https://x/y", "insecureSkipVerify": true}}),
            "spec.source.http.insecureSkipVerify",
            "certConfigMap",
        ),
        (
            json!({"registry": {"url": "docker://x/y", "pullMethod": "node"}}),
            "spec.source.registry.pullMethod",
            "pod",
        ),
        (
            json!({"registry": {"url": "oci-archive://x/y"}}),
            "spec.source.registry.url",
            "docker",
        ),
        (
            json!({"upload": {}, "blank": {}}),
            "spec.source",
            "Multiple",
        ),
        (json!({}), "spec.source", "Missing"),
    ];
    for (source, field, words) in cases {
        let verdict = create(data_volume(source.clone()));
        assert!(!verdict.allowed, "{source}");
        assert!(
            verdict
                .causes
                .iter()
                .any(|cause| cause.field == field && cause.message.contains(words)),
            "{source}: {:?}",
            verdict.causes
        );
    }
}

#[test]
fn the_claim_must_be_able_to_hold_a_disk() {
    let cases = [
        (json!({"storage": null}), "Missing Data volume PVC"),
        (
            json!({"pvc": {"accessModes": ["ReadWriteOnce"]}}),
            "Duplicate storage definition",
        ),
        (
            json!({"storage": {"resources": null}}),
            "Storage size is missing",
        ),
        (
            json!({"storage": {"resources": {"requests": {"storage": "0"}}}}),
            "Storage size can't be equal or less than zero",
        ),
        (
            json!({"storage": {"resources": {"requests": {"storage": "512Ki"}}}}),
            "Storage size should be at least 1MiB",
        ),
        (
            json!({"storage": null, "pvc": {"resources": {"requests": {"storage": "1Gi"}}}}),
            "at least 1 access mode",
        ),
        (
            json!({"storage": null, "pvc": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "resources": {"requests": {"storage": "1Gi"}}}}),
            "PVC multiple accessModes",
        ),
        (
            json!({"contentType": "archive", "storage": {"volumeMode": "Block",
                "resources": {"requests": {"storage": "1Gi"}}}}),
            "cannot have block volumeMode",
        ),
        (
            json!({"checkpoints": [{"current": "a", "previous": ""}]}),
            "several stages",
        ),
    ];
    for (patch, words) in cases {
        let mut object = data_volume(json!({"upload": {}}));
        json_patch::merge(&mut object["spec"], &patch);
        let verdict = create(object);
        assert!(
            !verdict.allowed && verdict.message.contains(words),
            "{patch}: {}",
            verdict.message
        );
    }
}

#[test]
fn a_clone_may_take_its_size_from_its_source() {
    let mut object = data_volume(json!({"pvc": {"namespace": "ns", "name": "golden"}}));
    object["spec"]["storage"] = json!({});
    assert!(create(object).allowed);
}

#[test]
fn somebody_else_may_fill_the_claim() {
    let mut object = data_volume(Value::Null);
    object["spec"]["storage"]["dataSourceRef"] =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    assert!(create(object).allowed);
}

#[test]
fn the_spec_of_a_data_volume_stays() {
    let old = data_volume(json!({"upload": {}}));
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"a": "b"});
    let update = |new: &Value| {
        validate(
            &request("UPDATE", "datavolumes", new.clone(), old.clone()),
            &Context::default(),
        )
    };
    assert!(update(&new).allowed);
    new["spec"]["preallocation"] = json!(true);
    assert_eq!(update(&new).message, "Cannot update DataVolume Spec");
}

fn transfer(change: impl Fn(&mut Value), ctx: &Context) -> Verdict {
    let mut object = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "ObjectTransfer",
        "metadata": {"name": "move"},
        "spec": {
            "source": {"kind": "DataVolume", "namespace": "a", "name": "disk"},
            "target": {"namespace": "b"},
        },
    });
    change(&mut object["spec"]);
    validate(
        &request("CREATE", "objecttransfers", object, Value::Null),
        ctx,
    )
}

#[test]
fn a_transfer_goes_from_somewhere_to_somewhere_else_where_nothing_is() {
    let free = Context::default();
    for good in [
        json!({}),
        json!({"target": {"name": "other", "namespace": null}}),
        json!({"target": {"namespace": "b", "name": "other"}}),
        json!({"source": {"kind": "PersistentVolumeClaim", "apiVersion": "v1"}}),
        json!({"source": {"requiredAnnotations": {"a": "b"}}}),
    ] {
        let verdict = transfer(|spec| json_patch::merge(spec, &good), &free);
        assert!(verdict.allowed, "{good}: {}", verdict.message);
    }
    for (wrong, field, words) in [
        (
            json!({"source": {"kind": "Pod"}}),
            "spec.source.kind",
            "Unsupported kind \"Pod\"",
        ),
        (
            json!({"source": {"apiVersion": "v2"}}),
            "spec.source.apiVersion",
            "expected cdi.kubevirt.io/v1beta1",
        ),
        (
            json!({"target": {"namespace": null}}),
            "spec.target",
            "must be supplied",
        ),
        (
            json!({"target": {"namespace": "a"}}),
            "spec.target",
            "another place",
        ),
        (
            json!({"target": {"name": "../x"}}),
            "spec.target.name",
            "../x",
        ),
        (
            json!({"parentName": "whole"}),
            "spec.parentName",
            "not supported",
        ),
    ] {
        let verdict = transfer(|spec| json_patch::merge(spec, &wrong), &free);
        assert!(!verdict.allowed, "{wrong}");
        assert_eq!(verdict.causes[0].field, field, "{}", verdict.message);
        assert!(verdict.message.contains(words), "{}", verdict.message);
    }
    let there = Context {
        transfer_target_exists: true,
        ..free
    };
    let verdict = transfer(|_| {}, &there);
    let words = "ObjectTransfer target \"b/disk\" already exists";
    assert!(verdict.message.contains(words), "{}", verdict.message);
}

#[test]
fn where_a_transfer_goes_is_not_changed_on_the_way() {
    let object = |namespace: &str| {
        json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "ObjectTransfer",
            "metadata": {"name": "move"},
            "spec": {
                "source": {"kind": "DataVolume", "namespace": "a", "name": "disk"},
                "target": {"namespace": namespace},
            },
        })
    };
    let update = |new| {
        let request = request("UPDATE", "objecttransfers", new, object("b"));
        validate(&request, &Context::default())
    };
    assert!(update(object("b")).allowed);
    let verdict = update(object("c"));
    assert!(
        verdict.message.contains("ObjectTransfer spec is immutable"),
        "{}",
        verdict.message
    );
}

#[test]
fn there_is_one_cdi_and_it_stays_while_it_is_needed() {
    let cdi = json!({"spec": {"uninstallStrategy": "BlockUninstallIfWorkloadsExist"}});
    let judge = |operation, ctx: &Context| {
        validate(&request(operation, "cdis", cdi.clone(), cdi.clone()), ctx).allowed
    };
    let none = Context::default();
    let both = Context {
        has_cdi: true,
        has_data_volumes: true,
        ..none
    };
    assert!(judge("CREATE", &none) && !judge("CREATE", &both));
    assert!(judge("DELETE", &none) && !judge("DELETE", &both));
    let webhook = json!({"spec": {"config": {"importProxy": {"HTTPProxy": "http://p"}}}});
    let verdict = validate(&request("CREATE", "cdis", webhook, Value::Null), &none);
    assert!(
        verdict
            .message
            .contains("spec.config.importProxy is not supported")
    );
}

#[test]
fn a_data_source_stands_for_one_thing_that_can_be_cloned() {
    for (source, allowed) in [
        (json!({"pvc": {"namespace": "ns", "name": "g"}}), true),
        (json!({"snapshot": {"namespace": "ns", "name": "g"}}), true),
        (
            json!({"dataSource": {"namespace": "ns", "name": "other"}}),
            true,
        ),
        (
            json!({"dataSource": {"namespace": "ns", "name": "self"}}),
            false,
        ),
        (
            json!({"dataSource": {"namespace": "there", "name": "other"}}),
            false,
        ),
    ] {
        let object = json!({"metadata": {"name": "self"}, "spec": {"source": source}});
        let verdict = validate(
            &request("CREATE", "datasources", object, Value::Null),
            &Context::default(),
        );
        assert_eq!(verdict.allowed, allowed, "{source}: {}", verdict.message);
    }
}

#[test]
fn requests_for_other_kinds_are_not_ours() {
    let body = json!({"request": {"uid": "u", "operation": "CREATE",
        "resource": {"group": "", "resource": "pods"}}});
    assert!(answer(body, &Context::default()).is_err());
}

#[test]
fn volume_sources_are_looked_at_like_those_of_data_volumes() {
    let made = |kind: &str, resource: &str, spec: Value| {
        let object = json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": kind,
            "metadata": {"name": "s", "namespace": "ns"}, "spec": spec,
        });
        let request = request("CREATE", resource, object, Value::Null);
        validate(&request, &Context::default())
    };
    let import = |spec| made("VolumeImportSource", "volumeimportsources", spec);
    for spec in [
        json!({"source": {"http": {"url": "http://x/y"}}, "contentType": "archive"}),
        json!({"source": {"registry": {"url": "docker://x/y"}}}),
        json!({"source": {"blank": {}}, "preallocation": true}),
    ] {
        let verdict = import(spec.clone());
        assert!(verdict.allowed, "{spec}: {}", verdict.message);
    }
    for (spec, words) in [
        (json!({}), "Missing"),
        (json!({"source": {}}), "Missing"),
        (json!({"source": {"http": {"url": "ftp://x"}}}), "scheme"),
        (
            json!({"source": {"blank": {}, "s3": {"url": "http://x/y"}}}),
            "Multiple",
        ),
        (json!({"source": {"vddk": {}}}), "VMware"),
        (
            json!({"source": {"blank": {}}, "targetClaim": "x"}),
            "targetClaim",
        ),
    ] {
        let verdict = import(spec.clone());
        assert!(!verdict.allowed, "{spec}");
        let told = verdict
            .causes
            .iter()
            .any(|cause| cause.message.contains(words));
        assert!(told, "{spec}: {:?}", verdict.causes);
    }
    assert!(made("VolumeUploadSource", "volumeuploadsources", json!({})).allowed);
    let clone = |kind: &str, group: &str| {
        let spec = json!({"source": {"apiGroup": group, "kind": kind, "name": "golden"}});
        made("VolumeCloneSource", "volumeclonesources", spec)
    };
    let group = "snapshot.storage.k8s.io";
    assert!(clone("PersistentVolumeClaim", "").allowed);
    assert!(clone("VolumeSnapshot", group).allowed);
    for (kind, group) in [
        ("VolumeSnapshot", ""),
        ("PersistentVolumeClaim", group),
        ("VolumeGroupSnapshot", group),
    ] {
        let verdict = clone(kind, group);
        assert!(verdict.message.contains("or a VolumeSnapshot"), "{kind}");
    }
}

#[test]
fn volume_sources_stay_what_they_were() {
    let object = |content: &str| {
        json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "VolumeUploadSource",
            "metadata": {"name": "s", "namespace": "ns"}, "spec": {"contentType": content},
        })
    };
    let request = request(
        "UPDATE",
        "volumeuploadsources",
        object("archive"),
        object("kubevirt"),
    );
    let verdict = validate(&request, &Context::default());
    assert!(
        verdict
            .message
            .contains("Cannot update VolumeUploadSource Spec"),
        "{}",
        verdict.message
    );
}

fn cron(change: impl Fn(&mut Value)) -> Verdict {
    let mut object = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataImportCron",
        "metadata": {"name": "nightly", "namespace": "ns"},
        "spec": {
            "schedule": "30 1 * * 1", "managedDataSource": "golden", "importsToKeep": 2,
            "garbageCollect": "Outdated", "retentionPolicy": "None",
            "template": {"spec": {
                "source": {"registry": {"url": "docker://r/disk:1", "secretRef": "s",
                    "certConfigMap": "c", "pullMethod": "pod"}},
                "storage": {"resources": {"requests": {"storage": "1Gi"}}},
            }},
        },
    });
    change(&mut object);
    validate(
        &request("CREATE", "dataimportcrons", object, Value::Null),
        &Context::default(),
    )
}

#[test]
fn a_cron_is_let_through_when_its_image_can_be_looked_at_and_imported() {
    assert!(cron(|_| ()).allowed, "{}", cron(|_| ()).message);
    assert!(cron(|cron| cron["spec"]["schedule"] = json!("")).allowed);
    type Change = (&'static str, Value, &'static str, &'static str);
    let cases: [Change; 18] = [
        (
            "/spec/schedule",
            json!("61 * * * *"),
            "spec.schedule",
            "minute",
        ),
        (
            "/spec/schedule",
            json!("@every 5m"),
            "spec.schedule",
            "@hourly",
        ),
        (
            "/spec/importsToKeep",
            json!(-1),
            "spec.importsToKeep",
            "zero",
        ),
        (
            "/spec/managedDataSource",
            json!(""),
            "spec.managedDataSource",
            "subdomain",
        ),
        (
            "/spec/managedDataSource",
            json!("a".repeat(64)),
            "spec.managedDataSource",
            "longer",
        ),
        (
            "/spec/managedDataSource",
            json!("A b"),
            "spec.managedDataSource",
            "subdomain",
        ),
        (
            "/metadata/name",
            json!("a".repeat(64)),
            "metadata.name",
            "longer",
        ),
        (
            "/spec/template/spec/source",
            json!({}),
            "spec.template",
            "Missing source",
        ),
        (
            "/spec/template/spec/source",
            json!({"http": {"url": "http://x/y"}}),
            "spec.template.spec.source.http",
            "digest",
        ),
        (
            "/spec/template/spec/source",
            json!({"pvc": {"namespace": "ns", "name": "x"}}),
            "spec.template.spec.source.pvc",
            "digest",
        ),
        (
            "/spec/template/spec/source/registry/url",
            json!("http://r/x"),
            "spec.template.spec.source.registry.url",
            "docker",
        ),
        (
            "/spec/template/spec/source/registry/url",
            json!("docker://u:p@r/x"),
            "spec.template.spec.source.registry.url",
            "secretRef",
        ),
        (
            "/spec/template/spec/source/registry/pullMethod",
            json!("node"),
            "spec.template.spec.source.registry.pullMethod",
            "pullMethod pod",
        ),
        (
            "/spec/template/spec/source/registry/secretRef",
            json!("../x"),
            "spec.template.spec.source.registry.secretRef",
            "subdomain",
        ),
        (
            "/spec/template/spec/source/registry",
            json!({"imageStream": "x"}),
            "spec.template.spec.source.registry.imageStream",
            "OpenShift",
        ),
        (
            "/spec/template/spec/storage",
            json!({}),
            "spec.template.spec.Storage.resources.requests.size",
            "missing",
        ),
        (
            "/spec/template/spec/contentType",
            json!("kubevirt"),
            "spec.template",
            "Unsettable",
        ),
        (
            "/spec/serviceAccountName",
            json!("-"),
            "spec.serviceAccountName",
            "subdomain",
        ),
    ];
    for (at, value, field, word) in cases {
        let verdict = cron(|cron| {
            let (parent, name) = at.rsplit_once('/').unwrap();
            cron.pointer_mut(parent).unwrap()[name] = value.clone();
        });
        let found = verdict
            .causes
            .iter()
            .any(|cause| cause.field == field && cause.message.contains(word));
        assert!(
            !verdict.allowed && found,
            "{at} {value}: {:?}",
            verdict.causes
        );
    }
}

#[test]
fn the_spec_of_a_cron_stays_as_it_is() {
    let judge = |new: Value| {
        let old = json!({"spec": {"schedule": ""}, "metadata": {"name": "a"}});
        validate(
            &request("UPDATE", "dataimportcrons", new, old),
            &Context::default(),
        )
    };
    assert!(
        judge(json!({"spec": {"schedule": ""}, "metadata": {"name": "a", "labels": {}}})).allowed
    );
    let refused = judge(json!({"spec": {"schedule": "@daily"}}));
    assert_eq!(refused.causes[0].field, "DataImportCron.Spec");
    assert!(
        refused
            .message
            .contains("Cannot update DataImportCron Spec")
    );
}
