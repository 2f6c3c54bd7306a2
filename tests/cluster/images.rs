//! `edgevirt image`: the walk-through's section "Create Docker image" without Docker.

use std::time::Duration;

use serde_json::Value;
use testkit::{Console, Namespace, edgevirt, eventually};

use crate::fixtures::{self, Added, path};
use crate::manifest;

const LINE: Duration = Duration::from_secs(30);

fn boots(ns: &Namespace, vmi: &str, line: &str) {
    ns.wait_for("vmi", vmi, "/status/phase", "Running");
    let _ = Console::open(ns.name(), vmi).expect(line, LINE);
}

fn listed() -> Vec<String> {
    let text = edgevirt(&["image", "ls", "--output", "json"]).expect_ok("image ls");
    let images: Value = serde_json::from_str(&text).unwrap();
    images
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_vm_boots_from_a_raw_disk_an_oci_archive_and_a_docker_archive() {
    let dir = tempfile::tempdir().unwrap();
    let ns = Namespace::new("image");
    let raw = dir.path().join("disk.raw");
    std::fs::write(&raw, fixtures::tiny_disk("first from raw")).unwrap();
    let oci = fixtures::oci_archive(dir.path(), fixtures::tiny_disk("from an oci archive"));
    let docker = fixtures::docker_archive(dir.path(), fixtures::tiny_disk("from docker save"));

    let raw_image = Added::new("raw", &raw);
    let oci_image = Added::new("oci:1.0", &oci);
    let docker_image = Added::new("docker:1.0", &docker);
    for (name, image) in [
        ("raw", &raw_image),
        ("oci", &oci_image),
        ("docker", &docker_image),
    ] {
        let _ = ns
            .create(&manifest::tiny(name, image.name()))
            .expect_ok(name);
    }
    boots(&ns, "raw", "first from raw");
    boots(&ns, "oci", "from an oci archive");
    boots(&ns, "docker", "from docker save");

    // Without a tag the pull policy is Always: what is added again is what the next VM has.
    let pods = ns.list("pods", "app=raw");
    let containers = pods[0]["spec"]["containers"].as_array().unwrap();
    let disk = containers
        .iter()
        .find(|c| c["name"] == "volumerootfs")
        .unwrap();
    assert_eq!(disk["imagePullPolicy"], "Always", "{disk}");
    std::fs::write(&raw, fixtures::tiny_disk("second from raw")).unwrap();
    let _ = edgevirt(&["image", "add", raw_image.name(), "--file", &path(&raw)]).expect_ok("again");
    let _ = ns
        .create(&manifest::tiny("raw2", raw_image.name()))
        .expect_ok("raw2");
    boots(&ns, "raw2", "second from raw");

    // Removed images are not listed, cannot be removed twice, and cannot be pulled.
    let names = listed();
    let latest = format!("{}:latest", raw_image.name());
    for name in [latest.as_str(), oci_image.name(), docker_image.name()] {
        assert!(names.iter().any(|n| n == name), "{name} not in {names:?}");
    }
    let said = edgevirt(&["image", "rm", raw_image.name()]).expect_ok("rm");
    assert_eq!(said.trim(), format!("{latest} removed"));
    assert!(!listed().contains(&latest), "{latest} is still listed");
    let said = edgevirt(&["image", "rm", raw_image.name()]).expect_err("rm again");
    assert!(said.contains(&latest), "{said}");
    let _ = ns
        .create(&manifest::tiny("raw3", raw_image.name()))
        .expect_ok("raw3");
    eventually("the removed image cannot be pulled", || {
        let conditions = ns.get("vmi", "raw3")["status"]["conditions"].to_string();
        if conditions.contains("ImagePull") {
            Ok(())
        } else {
            Err(conditions)
        }
    });
}

#[test]
fn what_is_no_image_is_refused_and_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |file: &str, content: &[u8], words: &[&str]| {
        let file = dir.path().join(file);
        std::fs::write(&file, content).unwrap();
        let said = edgevirt(&["image", "add", "test/refused", "--file", &path(&file)])
            .expect_err("no image");
        for word in words {
            assert!(said.contains(word), "expected {word:?} in {said}");
        }
    };
    // A qcow2 that leans on a file of the node, and a tar that is no image.
    let mut qcow2 = vec![0; 1024];
    qcow2[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    qcow2[15] = 104;
    qcow2[19] = 11;
    qcow2[104..115].copy_from_slice(b"/etc/shadow");
    refused("hostile.qcow2", &qcow2, &["hostile.qcow2", "backing file"]);
    let file = dir.path().join("plain.tar");
    let _ = fixtures::run(
        std::process::Command::new("tar")
            .args(["--create", "--file"])
            .arg(&file)
            .args(["--directory", env!("CARGO_MANIFEST_DIR"), "README.md"]),
    );
    let tar = std::fs::read(&file).unwrap();
    refused("plain.tar", &tar, &["plain.tar", "manifest.json"]);
    assert!(!listed().iter().any(|name| name.starts_with("test/refused")));
}
