//! Bad input: upstream's status code, field path and reason; nothing is changed.

use testkit::{Namespace, eventually};

use crate::manifest;

/// The manifest with one piece of text replaced, refused with all of `words`.
fn refused(ns: &Namespace, from: &str, to: &str, words: &[&str]) {
    let good = manifest::vmi("bad", "#cloud-config\n");
    let bad = good.replacen(from, to, 1);
    assert_ne!(good, bad, "{from:?} is not in the manifest");
    let said = ns.create(&bad).expect_err(to);
    for word in words {
        assert!(said.contains(word), "expected {word:?} in {said}");
    }
    assert!(ns.get("vmi", "bad").is_null(), "a refused VMI is there");
}

#[test]
fn a_vmi_that_cannot_be_is_refused_with_the_field() {
    let ns = Namespace::new("refuse");
    refused(
        &ns,
        "bus: virtio",
        "bus: floppy",
        &["spec.domain.devices.disks[0]", "bus"],
    );
    refused(
        &ns,
        "    - name: cloudinit\n",
        "    - name: rootfs\n",
        &["spec.domain.devices.disks[1].name"],
    );
    refused(
        &ns,
        "      - name: cloudinit\n        disk",
        "      - name: nowhere\n        disk",
        &["spec.domain.devices.disks[1].name", "nowhere"],
    );
    refused(
        &ns,
        "    userData: |\n        #cloud-config",
        "    userDataBase64: '!!not base64!!'",
        &["spec.volumes[1].cloudInitNoCloud.userDataBase64"],
    );
    refused(
        &ns,
        "containerDisk:\n      image: kubevirt/cirros-registry-disk-demo",
        "hostDisk:\n      path: /data/disk.img\n      type: Disk",
        &["HostDisk feature gate is not enabled"],
    );
}

#[test]
fn a_missing_image_and_too_much_memory_are_told_in_the_status() {
    let ns = Namespace::new("wait");
    let missing = manifest::vmi("noimage", "#cloud-config\n").replace(
        "kubevirt/cirros-registry-disk-demo",
        "kubevirt/there-is-no-such-image",
    );
    let _ = ns.create(&missing).expect_ok("create");
    let huge =
        manifest::vm("huge", "runStrategy: Always").replace("memory: 192Mi", "memory: 900Gi");
    let _ = ns.create(&huge).expect_ok("create");
    ns.wait_for(
        "vm",
        "huge",
        "/status/printableStatus",
        "ErrorUnschedulable",
    );
    eventually("the missing image is named", || {
        let vmi = ns.get("vmi", "noimage");
        let text = vmi["status"]["conditions"].to_string();
        if text.contains("ImagePull") {
            Ok(())
        } else {
            Err(text)
        }
    });
}

#[test]
fn requests_that_do_not_fit_the_state_are_refused_and_change_nothing() {
    let ns = Namespace::new("state");
    let _ = ns
        .create(&manifest::vm("guest", "running: false"))
        .expect_ok("create");
    ns.wait_for("vm", "guest", "/status/printableStatus", "Stopped");

    let said = ns
        .virtctl(&["stop", "guest"])
        .expect_err("stop of a stopped VM");
    assert!(said.contains("VM is not running"), "{said}");
    let said = ns
        .virtctl(&["restart", "guest"])
        .expect_err("restart of a stopped VM");
    assert!(
        said.contains("does not support manual restart requests"),
        "{said}"
    );
    let said = ns
        .virtctl(&["pause", "vm", "guest"])
        .expect_err("pause of a stopped VM");
    assert!(said.contains("not"), "{said}");
    let said = ns
        .virtctl(&["console", "guest"])
        .expect_err("console of a stopped VM");
    assert!(
        said.contains("virtualmachineinstance.kubevirt.io \"guest\" not found"),
        "{said}"
    );
    let said = ns
        .virtctl(&["start", "nobody"])
        .expect_err("start of no VM");
    assert!(said.contains("not found"), "{said}");

    let _ = ns.virtctl(&["start", "guest"]).expect_ok("start");
    ns.wait_for("vmi", "guest", "/status/phase", "Running");
    let said = ns
        .virtctl(&["start", "guest"])
        .expect_err("start of a running VM");
    assert!(said.contains("VM is already running"), "{said}");
    let said = ns
        .virtctl(&["unpause", "vm", "guest"])
        .expect_err("unpause of a VM that is not paused");
    assert!(said.contains("VMI is not paused"), "{said}");
    assert_eq!(ns.get("vmi", "guest")["status"]["phase"], "Running");
}
