//! Disks that outlive the guest, and media made from API objects.
//!
//! Claims are on the default StorageClass, whichever it is.

use serde_json::{Value, json};
use testkit::{Console, Namespace, eventually, kubectl};

/// A VM with the demo guest on a containerDisk and `volumes` beside it, each
/// with the disk that shows it.
fn vm(name: &str, strategy: &str, volumes: &[(Value, Value)]) -> Value {
    let mut disks = vec![json!({"name": "rootfs", "disk": {"bus": "virtio"}})];
    let mut sources = vec![
        json!({"name": "rootfs", "containerDisk": {"image": "kubevirt/cirros-registry-disk-demo"}}),
    ];
    for (volume, disk) in volumes {
        sources.push(volume.clone());
        disks.push(disk.clone());
    }
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"runStrategy": strategy, "template": {"spec": {
            "terminationGracePeriodSeconds": 20,
            "domain": {
                "devices": {
                    "disks": disks,
                    "interfaces": [{"name": "default", "masquerade": {}}],
                },
                "resources": {"requests": {"memory": "192Mi", "cpu": "50m"}},
            },
            "networks": [{"name": "default", "pod": {}}],
            "volumes": sources,
        }}},
    })
}

fn on_claim(claim: &str) -> (Value, Value) {
    (
        json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}}),
        json!({"name": "data", "disk": {"bus": "virtio"}, "serial": "data"}),
    )
}

fn claim(name: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    })
    .to_string()
}

fn create(ns: &Namespace, object: &Value) {
    let _ = ns.create(&object.to_string()).expect_ok("create");
}

fn status(ns: &Namespace, name: &str, wanted: &str) {
    ns.wait_for("vm", name, "/status/printableStatus", wanted);
}

fn console(ns: &Namespace, name: &str) -> Console {
    let mut console = Console::open(ns.name(), name);
    console.login();
    console
}

#[test]
fn a_file_on_a_claim_is_there_after_stop_and_start() {
    let ns = Namespace::new("claim");
    let _ = ns.create(&claim("data")).expect_ok("claim");
    create(&ns, &vm("guest", "Always", &[on_claim("data")]));
    status(&ns, "guest", "Running");
    let mut guest = console(&ns, "guest");
    let _ = guest.run("echo kept | sudo dd of=/dev/vdb conv=notrunc,fsync");
    drop(guest);

    let _ = ns.virtctl(&["stop", "guest"]).expect_ok("stop");
    status(&ns, "guest", "Stopped");
    let _ = ns.virtctl(&["start", "guest"]).expect_ok("start");
    status(&ns, "guest", "Running");
    let mut guest = console(&ns, "guest");
    let read = guest.run("sudo head -c 4 /dev/vdb; echo");
    assert!(read.contains("kept"), "{read}");

    let vmi = ns.get("vmi", "guest");
    let volumes = vmi["status"]["volumeStatus"].as_array().unwrap();
    let data = volumes.iter().find(|one| one["name"] == "data").unwrap();
    assert_eq!(data["persistentVolumeClaimInfo"]["claimName"], "data");
    assert_eq!(
        data["persistentVolumeClaimInfo"]["volumeMode"],
        "Filesystem"
    );
    assert_eq!(data["target"], "vdb");
}

#[test]
fn a_vm_waits_for_its_claim_and_starts_when_it_appears() {
    let ns = Namespace::new("late");
    create(&ns, &vm("guest", "Always", &[on_claim("late")]));
    status(&ns, "guest", "ErrorPvcNotFound");
    ns.wait_for("vmi", "guest", "/status/phase", "Pending");
    let _ = ns.create(&claim("late")).expect_ok("claim");
    status(&ns, "guest", "Running");
}

#[test]
fn two_guests_on_one_image_are_kept_apart() {
    let ns = Namespace::new("locked");
    let _ = ns.create(&claim("data")).expect_ok("claim");
    create(&ns, &vm("first", "Always", &[on_claim("data")]));
    status(&ns, "first", "Running");
    create(&ns, &vm("second", "Once", &[on_claim("data")]));
    eventually("the second guest is refused its disk", || {
        let told = ns.get("vmi", "second")["status"].to_string();
        if told.contains("image of volume data is in use by another virtual machine") {
            Ok(())
        } else {
            Err(told)
        }
    });
    status(&ns, "first", "Running");
}

#[test]
fn an_empty_disk_an_overlay_and_media_of_files_are_in_the_guest() {
    let ns = Namespace::new("files");
    let _ = ns.create(&claim("base")).expect_ok("claim");
    let _ = ns
        .kubectl(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=key=from-a-map",
        ])
        .expect_ok("config map");
    let _ = ns
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "hidden",
            "--from-literal=key=from-a-secret",
        ])
        .expect_ok("secret");
    let cdrom = |name: &str| json!({"name": name, "cdrom": {"bus": "scsi"}});
    let virtio = |name: &str| json!({"name": name, "disk": {"bus": "virtio"}});
    let labels = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
    // A first guest makes the image that the second one lies over.
    create(&ns, &vm("maker", "Always", &[on_claim("base")]));
    status(&ns, "maker", "Running");
    let mut maker = console(&ns, "maker");
    let _ = maker.run("echo from-the-base | sudo dd of=/dev/vdb conv=fsync");
    drop(maker);
    let _ = ns.virtctl(&["stop", "maker"]).expect_ok("stop");
    status(&ns, "maker", "Stopped");

    create(
        &ns,
        &vm(
            "guest",
            "Always",
            &[
                (
                    json!({"name": "empty", "emptyDisk": {"capacity": "32Mi"}}),
                    virtio("empty"),
                ),
                (
                    json!({"name": "over", "ephemeral": {"persistentVolumeClaim": {"claimName": "base"}}}),
                    virtio("over"),
                ),
                (
                    json!({"name": "map", "configMap": {"name": "settings"}}),
                    cdrom("map"),
                ),
                (
                    json!({"name": "sec", "secret": {"secretName": "hidden"}}),
                    cdrom("sec"),
                ),
                (
                    json!({"name": "acc", "serviceAccount": {"serviceAccountName": "default"}}),
                    cdrom("acc"),
                ),
                (
                    json!({"name": "down", "downwardAPI": {"fields": labels}}),
                    cdrom("down"),
                ),
            ],
        ),
    );
    status(&ns, "guest", "Running");
    let mut guest = console(&ns, "guest");
    let size = guest.run("cat /sys/block/vdb/size");
    assert_eq!(size.trim(), (32 * 2048).to_string());
    let base = guest.run("sudo head -c 13 /dev/vdc; echo");
    assert!(base.contains("from-the-base"), "{base}");
    let _ = guest.run("echo overwritten! | sudo dd of=/dev/vdc conv=notrunc,fsync");
    // In which order the guest finds its SCSI devices is its own affair.
    let media = guest.run(
        "for d in /dev/sr?; do sudo mount -o ro $d /mnt; cd /mnt; grep . *; cd /; sudo umount /mnt; done",
    );
    for wanted in [
        "from-a-map",
        "from-a-secret",
        &format!("namespace:{}", ns.name()),
        "kubevirt.io=\"virt-launcher\"",
    ] {
        assert!(media.contains(wanted), "{wanted} in {media}");
    }
    drop(guest);
    let _ = ns.virtctl(&["stop", "guest"]).expect_ok("stop");
    status(&ns, "guest", "Stopped");

    // Nothing of the overlay reached the claim.
    let _ = ns.virtctl(&["start", "maker"]).expect_ok("start");
    status(&ns, "maker", "Running");
    let base = console(&ns, "maker").run("sudo head -c 13 /dev/vdb; echo");
    assert!(base.contains("from-the-base"), "{base}");
}

/// The feature gate HostDisk, as long as this lives.
struct HostDiskGate {
    before: String,
}

impl HostDiskGate {
    const WORDS: [&'static str; 4] = ["--namespace", "kubevirt", "kubevirt", "kubevirt"];

    fn patch(gates: &str) -> testkit::Output {
        let patch = format!(
            r#"{{"spec":{{"configuration":{{"developerConfiguration":{{"featureGates":{gates}}}}}}}}}"#
        );
        let [flag, namespace, kind, name] = Self::WORDS;
        kubectl(
            &[
                flag,
                namespace,
                "patch",
                kind,
                name,
                "--type=merge",
                "--patch",
                &patch,
            ],
            None,
        )
    }

    fn open() -> Self {
        let [flag, namespace, kind, name] = Self::WORDS;
        let path = "-o=jsonpath={.spec.configuration.developerConfiguration.featureGates}";
        let before = kubectl(&[flag, namespace, "get", kind, name, path], None).expect_ok("gates");
        let mut gates: Vec<String> = serde_json::from_str(before.trim()).unwrap_or_default();
        let before = if gates.is_empty() {
            "null".to_owned()
        } else {
            json!(gates).to_string()
        };
        gates.push("HostDisk".to_owned());
        let _ = Self::patch(&json!(gates).to_string()).expect_ok("open the gate");
        Self { before }
    }
}

impl Drop for HostDiskGate {
    fn drop(&mut self) {
        let _ = Self::patch(&self.before);
    }
}

/// What is on the node is the user's: on this node, ours.
struct NodeDirectory(String);

impl NodeDirectory {
    const PARENT: &str = "/var/lib/edgevirt-test";

    fn new(name: &str) -> Self {
        Self(format!("{}/{name}", Self::PARENT))
    }
}

impl Drop for NodeDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        // Unless another test has something there.
        let _ = std::fs::remove_dir(Self::PARENT);
    }
}

#[test]
fn a_disk_of_the_node_is_made_and_kept_and_needs_the_gate() {
    let ns = Namespace::new("hostdisk");
    let directory = NodeDirectory::new(ns.name());
    let host = |path: &str| {
        (
            json!({"name": "host", "hostDisk": {
                "path": path, "type": "DiskOrCreate", "capacity": "16Mi"}}),
            json!({"name": "host", "disk": {"bus": "virtio"}}),
        )
    };
    let image = format!("{}/disk.img", directory.0);
    let wanted = vm("guest", "Always", &[host(&image)]);
    let said = ns
        .create(&wanted.to_string())
        .expect_err("without the gate");
    assert!(
        said.contains("HostDisk feature gate is not enabled"),
        "{said}"
    );

    let gate = HostDiskGate::open();
    eventually("the gate is open", || {
        let output = ns.create(&wanted.to_string());
        if output.ok {
            Ok(())
        } else {
            Err(format!("{output:?}"))
        }
    });
    for (path, why) in [
        ("/etc/disk.img", "must not be below /etc"),
        ("/data/../etc/disk.img", "without relative components"),
    ] {
        let bad = vm("bad", "Halted", &[host(path)]);
        let said = ns.create(&bad.to_string()).expect_err(path);
        assert!(said.contains(why), "{said}");
    }
    status(&ns, "guest", "Running");
    let mut guest = console(&ns, "guest");
    let _ = guest.run("echo kept | sudo dd of=/dev/vdb conv=notrunc,fsync");
    drop(guest);
    let _ = ns.virtctl(&["restart", "guest"]).expect_ok("restart");
    eventually("the guest runs again", || {
        let vm = ns.get("vm", "guest");
        let requests = &vm["status"]["stateChangeRequests"];
        if vm["status"]["printableStatus"] == "Running" && requests.is_null() {
            Ok(())
        } else {
            Err(vm["status"].to_string())
        }
    });
    let read = console(&ns, "guest").run("sudo head -c 4 /dev/vdb; echo");
    assert!(read.contains("kept"), "{read}");
    let _ = ns.kubectl(&["delete", "vm", "guest"]).expect_ok("delete");
    ns.wait_gone("vm", "guest");
    drop(gate);
    drop(directory);
}
