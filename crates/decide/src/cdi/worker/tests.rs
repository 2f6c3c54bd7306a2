//! Worker pods by job.
#![allow(clippy::needless_pass_by_value, clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn claim(annotations: Value, mode: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "uid": "claim-uid", "annotations": annotations},
        "spec": {"volumeMode": mode, "resources": {"requests": {"storage": "1142278537"}}},
    }))
    .unwrap()
}

fn cluster() -> Cluster {
    let mut cluster = Cluster {
        worker_image: "worker:1".to_owned(),
        namespace: "cdi".to_owned(),
        ..Cluster::default()
    };
    cluster.config.insecure_registries = vec!["10.0.0.1:5000".to_owned()];
    cluster
}

fn rendered(annotations: Value, mode: &str) -> Value {
    let claim = claim(annotations, mode);
    let job = Job::of(&claim).unwrap();
    let pod = pod(&job, &claim, None, &cluster());
    // What the API server would not take is not there.
    serde_json::from_value::<k8s_openapi::api::core::v1::Pod>(pod.clone()).unwrap();
    pod
}

fn args(pod: &Value) -> String {
    let args = pod["spec"]["containers"][0]["args"].as_array().unwrap();
    let args: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
    args.join(" ")
}

#[test]
fn an_import_says_where_from_and_where_to() {
    let pod = rendered(
        json!({
            "cdi.kubevirt.io/storage.import.source": "http",
            "cdi.kubevirt.io/storage.import.endpoint": "https://x/y.qcow2",
            "cdi.kubevirt.io/storage.import.secretName": "s",
            "cdi.kubevirt.io/storage.import.certConfigMap": "c",
            "cdi.kubevirt.io/storage.import.checksum": "sha256:0",
            "cdi.kubevirt.io/storage.import.extraHeaders.0": "A: b",
            "cdi.kubevirt.io/storage.import.secretExtraHeaders.0": "h",
            "cdi.kubevirt.io/storage.preallocation.requested": "true",
        }),
        "Filesystem",
    );
    assert_eq!(pod["metadata"]["name"], "importer-disk");
    assert_eq!(
        args(&pod),
        "--target /data/disk.img --size 1073741824 --preallocate --source http \
         --endpoint https://x/y.qcow2 --secret-dir /secret --ca-dir /certs --checksum sha256:0 \
         --header-file /headers/0 --header-file /secret-headers/0 --owner-uid claim-uid --metrics 0.0.0.0:8080"
    );
    assert_eq!(
        pod["spec"]["containers"][0]["command"],
        json!(["/usr/bin/cdi-importer"])
    );
    assert_eq!(
        pod["metadata"]["annotations"]["edgevirt.local/header-0"],
        "A: b"
    );
    assert_eq!(
        pod["metadata"]["labels"]["edgevirt.local/claim-uid"],
        "claim-uid"
    );
}

#[test]
fn devices_and_archives_have_their_own_targets() {
    let blank = json!({"cdi.kubevirt.io/storage.import.source": "none"});
    let pod = rendered(blank, "Block");
    assert_eq!(
        args(&pod),
        "--scratch /scratch --target /dev/cdi-block-volume --size 1142278537 --source blank \
         --owner-uid claim-uid --metrics 0.0.0.0:8080"
    );
    assert_eq!(
        pod["spec"]["containers"][0]["volumeDevices"][0]["devicePath"],
        "/dev/cdi-block-volume"
    );
    let archive = json!({
        "cdi.kubevirt.io/storage.upload.target": "",
        "cdi.kubevirt.io/storage.contentType": "archive",
    });
    assert!(args(&rendered(archive, "Filesystem")).contains("--target /data --size"));
}

#[test]
fn only_registries_that_are_named_are_asked_without_tls() {
    for (url, insecure) in [
        ("docker://10.0.0.1:5000/a", true),
        ("docker://10.0.0.2:5000/a", false),
    ] {
        let pod = rendered(
            json!({
                "cdi.kubevirt.io/storage.import.source": "registry",
                "cdi.kubevirt.io/storage.import.endpoint": url,
            }),
            "Filesystem",
        );
        assert_eq!(args(&pod).contains("--insecure"), insecure, "{url}");
    }
}

#[test]
fn an_upload_server_has_certificate_service_and_policy() {
    let claim = claim(
        json!({"cdi.kubevirt.io/storage.upload.target": ""}),
        "Filesystem",
    );
    let pod = pod(&Job::Upload, &claim, None, &cluster());
    assert_eq!(
        args(&pod),
        "--target /data/disk.img --size 1073741824 --listen 0.0.0.0:8443 --tls-dir /tls \
         --client-ca /client-ca/ca-bundle.crt --client-name client.upload-server.cdi.kubevirt.io"
    );
    let service = service(&claim);
    assert_eq!(service["metadata"]["name"], "cdi-upload-disk");
    let (label, value) = service["spec"]["selector"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    assert_eq!(&pod["metadata"]["labels"][label], value);
    assert_eq!(server_names(&claim)[0], "cdi-upload-disk.ns.svc");
    let policy = policy(&claim, "cdi");
    assert_eq!(policy["metadata"]["name"], "cdi-upload-proxy-policy");
    assert_eq!(
        policy["spec"]["podSelector"]["matchLabels"]["cdi.kubevirt.io"],
        pod["metadata"]["labels"]["cdi.kubevirt.io"]
    );
    let secret = certificate(&claim, "c", "k", "ca");
    assert_eq!(secret["stringData"]["ca-bundle.crt"], "ca");
}

#[test]
fn a_cloner_reads_one_claim_and_writes_the_other() {
    let claim = claim(json!({"k8s.io/CloneRequest": "ns/golden"}), "Filesystem");
    let job = Job::of(&claim).unwrap();
    let mut original = claim.clone();
    let pod = |original: &_| pod(&job, &claim, Some(original), &cluster());
    let files = pod(&original);
    assert_eq!(files["metadata"]["name"], "claim-uid-source-pod");
    assert!(args(&files).contains("--from /source/disk.img"));
    assert_eq!(
        files["spec"]["volumes"][1]["persistentVolumeClaim"]["readOnly"],
        true
    );
    original.spec.as_mut().unwrap().volume_mode = Some("Block".to_owned());
    assert!(args(&pod(&original)).contains("--from /dev/cdi-source"));
}

#[test]
fn workers_have_no_rights_and_no_token() {
    let pod = rendered(
        json!({"cdi.kubevirt.io/storage.import.source": "none"}),
        "Filesystem",
    );
    let spec = &pod["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["securityContext"]["runAsUser"], 107);
    assert_eq!(spec["securityContext"]["fsGroup"], 107);
    let security = &spec["containers"][0]["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert!(spec["containers"][0]["resources"]["limits"]["memory"].is_string());
}

#[test]
fn jobs_that_no_worker_can_do_have_a_reason() {
    let vddk = json!({"cdi.kubevirt.io/storage.import.source": "vddk"});
    let vddk = claim(vddk, "Filesystem");
    let refusal = Job::of(&vddk).unwrap().refusal().unwrap();
    assert!(refusal.contains("found vddk"), "{refusal}");
    assert_eq!(Job::of(&claim(json!({"a": "b"}), "Block")), None);
}

#[test]
fn long_names_are_cut_and_stay_apart() {
    let mut claim = claim(json!({}), "Filesystem");
    claim.metadata.name = Some("x".repeat(253));
    let name = Job::Import("http".to_owned()).pod_name(&claim);
    assert!(name.len() <= 253 && name.ends_with("claim-uid"));
}
