//! The launcher pod as a whole, and its names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "tests build their values in place"
)]

use serde_json::{Value, json};

use super::*;

fn vmi(name: &str, spec: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": "0c5b9c40-7b0e-4a6c-9b5c-5c2f6d0f8a11",
            "labels": {"app": "web"},
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "edgevirt.io/vm-template": "x",
                "note": "kept"
            }
        },
        "spec": spec
    }))
    .unwrap()
}

/// A claim `files` and a claim `blocks`.
fn storage() -> Storage {
    let claim = |name: &str, mode: &str| {
        let claim = serde_json::from_value(json!({
            "spec": {"volumeMode": mode, "resources": {"requests": {"storage": "1Gi"}}}
        }))
        .unwrap();
        (name.to_owned(), crate::storage::ClaimFacts::from(&claim))
    };
    Storage {
        claims: [claim("files", "Filesystem"), claim("blocks", "Block")].into(),
        ..Storage::default()
    }
}

#[test]
fn every_volume_that_is_more_than_the_launchers_own() {
    let vmi = vmi(
        "web",
        json!({"volumes": [
            {"name": "root", "dataVolume": {"name": "files"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "blocks"}},
            {"name": "ro", "persistentVolumeClaim": {"claimName": "files", "readOnly": true}},
            {"name": "eph", "ephemeral": {"persistentVolumeClaim": {"claimName": "files"}}},
            {"name": "host", "hostDisk": {"path": "/data/a/disk.img", "type": "DiskOrCreate", "capacity": "1Gi"}},
            {"name": "here", "hostDisk": {"path": "/data/b/disk.img", "type": "Disk"}},
            {"name": "cm", "configMap": {"name": "m", "optional": true}},
            {"name": "sec", "secret": {"secretName": "s"}},
            {"name": "sa", "serviceAccount": {"serviceAccountName": "acc"}},
            {"name": "down", "downwardAPI": {"fields": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "disk", "containerDisk": {"image": "disk"}}
        ]}),
    );
    let pod = rendered(&vmi);
    let compute = &pod["spec"]["containers"][0];
    let list = |value: &Value, skip: usize| -> Vec<Value> {
        value
            .as_array()
            .unwrap()
            .iter()
            .skip(skip)
            .cloned()
            .collect()
    };
    insta::assert_snapshot!(
        "volumes",
        serde_json::to_string_pretty(&json!({
            "args": compute["args"],
            "mounts": list(&compute["volumeMounts"], 4),
            "devices": compute["volumeDevices"],
            "volumes": list(&pod["spec"]["volumes"], 4),
            "security": pod["spec"]["securityContext"],
            "account": pod["spec"]["serviceAccountName"],
            "automount": pod["spec"]["automountServiceAccountToken"],
        }))
        .unwrap()
    );
    // The user's image sees nothing of it.
    assert_eq!(
        list(&pod["spec"]["containers"][1]["volumeMounts"], 1),
        Vec::<Value>::new()
    );
    assert!(
        rendered(&stateless())["spec"]["securityContext"]
            .get("fsGroup")
            .is_none()
    );
}

#[test]
fn a_claim_that_is_not_known_makes_no_pod() {
    let vmi = vmi(
        "web",
        json!({"volumes": [{"name": "a", "dataVolume": {"name": "none"}}]}),
    );
    let error = render(&vmi, &Settings::new("l"), &storage()).unwrap_err();
    assert!(error.to_string().contains("spec.volumes[0]"), "{error}");
}

fn stateless() -> VirtualMachineInstance {
    vmi(
        "web",
        json!({
            "domain": {
                "cpu": {"cores": 2},
                "devices": {
                    "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                    "interfaces": [{"name": "default", "bridge": {}}]
                },
                "resources": {"requests": {"memory": "2056M"}}
            },
            "architecture": "amd64",
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [
                {"name": "seed", "cloudInitNoCloud": {"userData": "x"}},
                {"name": "root", "containerDisk": {"image": "disk", "imagePullSecret": "s"}},
                {"name": "more", "containerDisk": {"image": "disk2", "path": "/a/b.img",
                    "imagePullPolicy": "Never", "imagePullSecret": "s"}}
            ]
        }),
    )
}

fn rendered(vmi: &VirtualMachineInstance) -> Value {
    let settings = Settings {
        use_emulation: true,
        ..Settings::new("launcher:1")
    };
    serde_json::to_value(render(vmi, &settings, &storage()).unwrap()).unwrap()
}

#[test]
fn names_are_stable_and_fit() {
    let name = pod_name(&stateless());
    assert_eq!(name, pod_name(&stateless()));
    assert!(name.starts_with("virt-launcher-web-"), "{name}");
    assert_eq!(name.len(), "virt-launcher-web-".len() + 5);
    let mut other = stateless();
    other.metadata.uid = Some("another".to_owned());
    assert_ne!(name, pod_name(&other));
    let long = vmi(&"n".repeat(250), json!({}));
    assert_eq!(pod_name(&long).len(), 253);

    for (name, expected) in [
        ("web", "web"),
        ("web.lab", "web"),
        (&"n".repeat(80), &"n".repeat(63)),
    ] {
        assert_eq!(hostname(&vmi(name, json!({}))), *expected);
    }
    assert_eq!(hostname(&vmi("web", json!({"hostname": "other"}))), "other");
    // sha1 of 64 times n begins with these digits.
    let id = vmi_id(&vmi(&"n".repeat(64), json!({})));
    assert_eq!(id.len(), 63);
    assert!(id.starts_with(&format!("{}-", "n".repeat(54))), "{id}");
}

#[test]
fn metadata_is_the_vmis_and_ours() {
    let pod = rendered(&stateless());
    let meta = &pod["metadata"];
    assert_eq!(
        meta["labels"],
        json!({
            "app": "web",
            "kubevirt.io": "virt-launcher",
            "kubevirt.io/created-by": "0c5b9c40-7b0e-4a6c-9b5c-5c2f6d0f8a11",
            "vm.kubevirt.io/name": "web",
            "vmi.kubevirt.io/id": "web",
        })
    );
    assert_eq!(
        meta["annotations"],
        json!({
            "note": "kept",
            "kubevirt.io/domain": "web",
            "kubectl.kubernetes.io/default-container": "compute",
            "kubevirt.io/migrationTransportUnix": "true",
        })
    );
    let owner = &meta["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["controller"]),
        (&json!("VirtualMachineInstance"), &json!(true))
    );
}

#[test]
fn compute_comes_first_and_is_confined() {
    let pod = rendered(&stateless());
    let spec = &pod["spec"];
    assert!(spec.get("initContainers").is_none());
    let compute = &spec["containers"][0];
    assert_eq!(compute["name"], "compute");
    assert_eq!(
        compute["command"],
        json!([
            "/usr/bin/virt-launcher",
            "--uid",
            "0c5b9c40-7b0e-4a6c-9b5c-5c2f6d0f8a11",
            "--name",
            "web",
            "--namespace",
            "ns",
            "--grace-period",
            "30"
        ])
    );
    let security = &compute["securityContext"];
    assert_eq!(
        security["capabilities"],
        json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})
    );
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["runAsUser"], 107);
    assert_eq!(spec["terminationGracePeriodSeconds"], 60);
    assert_eq!(spec["restartPolicy"], "Never");
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["enableServiceLinks"], false);
    assert_eq!(
        spec["readinessGates"],
        json!([{"conditionType": "kubevirt.io/virtual-machine-unpaused"}])
    );
    assert_eq!(
        spec["nodeSelector"],
        json!({"kubevirt.io/schedulable": "true", "kubernetes.io/arch": "amd64"})
    );
    let mounts: Vec<&str> = compute["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    assert_eq!(
        mounts,
        [
            "/var/run/kubevirt-private",
            "/var/run/kubevirt/container-disks",
            "/var/run/kubevirt-ephemeral-disks",
            "/tmp"
        ]
    );
}

#[test]
fn each_container_disk_gets_a_container_with_the_helper() {
    let pod = rendered(&stateless());
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 3);
    assert_eq!(containers[1]["name"], "volumeroot");
    assert_eq!(containers[1]["image"], "disk");
    assert!(containers[1].get("imagePullPolicy").is_none());
    assert_eq!(
        containers[1]["command"],
        json!(["/usr/libexec/edgevirt/container-disk"])
    );
    assert_eq!(
        containers[1]["args"],
        json!([
            "--socket",
            "/var/run/kubevirt/container-disks/disk_1.sock",
            "--path",
            "/disk"
        ])
    );
    assert_eq!(
        containers[1]["resources"]["limits"]["devices.kubevirt.io/container-disk"],
        "1"
    );
    assert_eq!(
        containers[2]["args"][1],
        "/var/run/kubevirt/container-disks/disk_2.sock"
    );
    assert_eq!(containers[2]["args"][3], "/a/b.img");
    assert_eq!(containers[2]["imagePullPolicy"], "Never");
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "s"}]));
}

#[test]
fn placement_and_dns_are_the_users() {
    let vmi = vmi(
        "web",
        json!({
            "terminationGracePeriodSeconds": 0,
            "subdomain": "sub",
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["192.0.2.1"]},
            "nodeSelector": {"disk": "ssd"},
            "affinity": {"podAntiAffinity": {}},
            "tolerations": [{"key": "edge"}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "schedulerName": "other",
            "priorityClassName": "high"
        }),
    );
    let spec = rendered(&vmi)["spec"].clone();
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["subdomain"], "sub");
    assert_eq!(spec["dnsPolicy"], "None");
    assert_eq!(spec["dnsConfig"]["nameservers"][0], "192.0.2.1");
    assert_eq!(spec["nodeSelector"]["disk"], "ssd");
    assert_eq!(spec["affinity"], json!({"podAntiAffinity": {}}));
    assert_eq!(spec["tolerations"][0]["key"], "edge");
    assert_eq!(spec["topologySpreadConstraints"][0]["topologyKey"], "zone");
    assert_eq!(spec["schedulerName"], "other");
    assert_eq!(spec["priorityClassName"], "high");
}

#[test]
fn secrets_with_cloud_init_data_are_mounted_into_compute_alone() {
    let vmi = vmi(
        "web",
        json!({"volumes": [
            {"name": "a", "cloudInitNoCloud": {"userData": "x"}},
            {"name": "b", "cloudInitNoCloud": {"secretRef": {"name": "s"}}},
            {"name": "c", "cloudInitConfigDrive": {
                "secretRef": {"name": "s"}, "networkDataSecretRef": {"name": "n"}}},
            {"name": "root", "containerDisk": {"image": "disk"}}
        ]}),
    );
    let spec = rendered(&vmi)["spec"].clone();
    let volumes: Vec<&Value> = spec["volumes"].as_array().unwrap().iter().skip(4).collect();
    assert_eq!(
        volumes,
        [
            &json!({"name": "b-udata", "secret": {"secretName": "s"}}),
            &json!({"name": "c-udata", "secret": {"secretName": "s"}}),
            &json!({"name": "c-ndata", "secret": {"secretName": "n"}}),
        ]
    );
    let mounts = |container: usize| {
        let mounts = spec["containers"][container]["volumeMounts"]
            .as_array()
            .unwrap();
        mounts
            .iter()
            .filter(|mount| mount["readOnly"] == true)
            .cloned()
            .collect::<Vec<_>>()
    };
    let at = |name: &str, path: &str| json!({"name": name, "mountPath": format!("/var/run/kubevirt-secrets/{path}"), "readOnly": true});
    assert_eq!(
        mounts(0),
        [
            at("b-udata", "b/userdata"),
            at("c-udata", "c/userdata"),
            at("c-ndata", "c/networkdata"),
        ]
    );
    assert!(mounts(1).is_empty(), "the user's image sees the secrets");
}
