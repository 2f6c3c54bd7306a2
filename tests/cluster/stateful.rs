//! The walk-through's section "Deploy stateful VM", step by step, its YAML unmodified but for the key it asks for. A
//! Debian stands in for CentOS: nothing else of the image is different to the user.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{Namespace, eventually_within, kubectl};

const MANIFEST: &str = include_str!("../../examples/cdi-centos-vm.yaml");
/// What the walk-through leaves to the reader.
const KEY: &str = "ssh-rsa <controller-public-key> <user>@<node>";
const NAME: &str = "centos-vm";
const VOLUME: &str = "centos-dv";
/// Emulated, Debian needs a minute and more until sshd answers, the first time with cloud-init.
const BOOT: Duration = Duration::from_secs(400);

/// The image that `cargo xtask cloud-image` makes.
fn image() -> String {
    std::env::var("EDGEVIRT_CLOUD_IMAGE")
        .expect("EDGEVIRT_CLOUD_IMAGE: the path that `cargo xtask cloud-image` prints")
}

/// Waits until the guest answers, then runs a command in it as root. What it says on standard output.
fn ssh(ns: &Namespace, key: &Path, command: &str) -> String {
    let words = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=5",
        "-o",
        "LogLevel=ERROR",
    ];
    eventually_within(BOOT, "the guest answers over SSH", || {
        let vmi = ns.get("vmi", NAME);
        let Some(ip) = vmi["status"]["interfaces"][0]["ipAddress"].as_str() else {
            return Err(vmi["status"].to_string());
        };
        let output = Command::new("ssh")
            .args(words)
            .arg("-i")
            .arg(key)
            .arg(format!("root@{ip}"))
            .arg(command)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    })
}

fn default_class() -> String {
    let classes =
        kubectl(&["get", "storageclass", "-o", "json"], None).expect_ok("get storageclass");
    let classes: serde_json::Value = serde_json::from_str(&classes).unwrap();
    let is_default = |class: &&serde_json::Value| {
        class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    };
    let class = classes["items"].as_array().unwrap().iter().find(is_default);
    class.expect("a default storage class")["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_stateful_vm_from_its_image_to_its_deletion() {
    let ns = Namespace::new("stateful");
    let image = image();

    // 2. The address of the upload proxy.
    let services = kubectl(&["get", "services", "-A"], None).expect_ok("get services");
    let proxy = services
        .lines()
        .find(|line| line.contains("cdi-uploadproxy"))
        .and_then(|line| line.split_whitespace().nth(3))
        .unwrap_or_else(|| panic!("no cdi-uploadproxy in {services}"))
        .to_owned();

    // 3. Upload.
    let said = ns
        .virtctl(&[
            "image-upload",
            "dv",
            VOLUME,
            &format!("--image-path={image}"),
            "--insecure",
            "--size=15Gi",
            &format!("--storage-class={}", default_class()),
            &format!("--uploadproxy-url=https://{proxy}:443"),
        ])
        .expect_ok("virtctl image-upload");
    for line in [
        format!("DataVolume {}/{VOLUME} created", ns.name()),
        format!("Waiting for PVC {VOLUME} upload pod to be ready..."),
        "Pod now ready".to_owned(),
        format!("Uploading data to https://{proxy}:443"),
        "Processing completed successfully".to_owned(),
        format!("Uploading {image} completed successfully"),
    ] {
        assert!(said.contains(&line), "no {line:?} in {said}");
    }

    // 4. DataVolume and claim.
    ns.wait_for("dv", VOLUME, "/status/phase", "Succeeded");
    let table = ns.kubectl(&["get", "dv"]).expect_ok("get dv");
    assert!(
        table.contains(VOLUME) && table.contains("Succeeded"),
        "{table}"
    );
    let claim = ns.get("pvc", VOLUME);
    assert_eq!(claim["status"]["phase"], "Bound", "{claim}");
    let persistent = claim["spec"]["volumeName"].as_str().unwrap().to_owned();

    // 5. to 9. A key, the VM with it, started.
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("id_rsa");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-N", "", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    assert!(MANIFEST.contains(KEY));
    let _ = ns
        .create(&MANIFEST.replace(KEY, public.trim()))
        .expect_ok("kubectl create");
    let _ = ns.virtctl(&["start", NAME]).expect_ok("virtctl start");

    // 10. to 13. Its pod, its address, and SSH with the key; what cloud-init was told is there.
    ns.wait_for("vmi", NAME, "/status/phase", "Running");
    let pods = ns.kubectl(&["get", "pods"]).expect_ok("get pods");
    assert!(pods.contains("virt-launcher-centos"), "{pods}");
    let written = ssh(&ns, &key, "ls /etc/sysconfig");
    assert!(written.contains("64bit_strstr_via"), "{written}");

    // The data outlive the guest.
    let _ = ssh(&ns, &key, "echo kept > /root/kept && sync");
    let _ = ns.virtctl(&["stop", NAME]).expect_ok("virtctl stop");
    ns.wait_gone("vmi", NAME);
    let _ = ns.virtctl(&["start", NAME]).expect_ok("virtctl start");
    ns.wait_for("vmi", NAME, "/status/phase", "Running");
    assert_eq!(ssh(&ns, &key, "cat /root/kept").trim(), "kept");

    // "Completely deleting a stateful VM".
    let _ = ns.kubectl(&["delete", "vm", NAME]).expect_ok("delete vm");
    let _ = ns.kubectl(&["delete", "dv", VOLUME]).expect_ok("delete dv");
    let _ = ns
        .kubectl(&["delete", "pv", &persistent, "--ignore-not-found"])
        .expect_ok("delete pv");
    ns.wait_gone("vmi", NAME);
    ns.wait_gone("pvc", VOLUME);
    ns.wait_gone("pv", &persistent);
}
