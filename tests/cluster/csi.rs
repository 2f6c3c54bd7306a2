//! Clones that the storage makes, by a real driver behind the sidecars of Kubernetes: `third_party/csi`. The programs
//! run on this node beside the cluster as long as the test does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Background, Namespace, kubectl};

use crate::datavolumes::{
    condition, create, disk_size, eventually, holds, no_workers, random, succeeds,
};
use crate::fixtures;
use crate::web::Files;

/// The longest that a driver takes to take away what a test made.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes of the image.
const IMAGE: usize = 3 << 20;

fn apply(object: &Value) {
    let _ = kubectl(&["apply", "-f", "-"], Some(&object.to_string())).expect_ok("kubectl apply");
}

/// A driver with its sidecars, and the classes of its storage.
pub(crate) struct Driver {
    /// Of the driver and all that is made for it.
    name: String,
    definitions: String,
    programs: Vec<Background>,
    /// Volumes, snapshots, sockets, logs.
    dir: tempfile::TempDir,
}

impl Driver {
    pub(crate) fn start() -> Self {
        let build = concat!(env!("CARGO_MANIFEST_DIR"), "/third_party/build");
        let cache =
            std::env::var("EDGEVIRT_CACHE").unwrap_or_else(|_| "/var/cache/edgevirt".into());
        let said = fixtures::run(Command::new(build).args(["--cache", &cache, "--only", "csi"]));
        let set = said.lines().find_map(|line| line.strip_prefix("set "));
        let set = PathBuf::from(set.expect("the set's directory"));
        let mut driver = Self {
            name: format!("csi-{}.edgevirt.local", std::process::id()),
            definitions: fixtures::path(&set.join("crds")),
            programs: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
        };
        let _ = kubectl(&["apply", "-f", &driver.definitions], None).expect_ok("definitions");
        let crds = [
            "volumesnapshots",
            "volumesnapshotclasses",
            "volumesnapshotcontents",
        ];
        for crd in crds {
            let crd = format!("crd/{crd}.snapshot.storage.k8s.io");
            let words = ["wait", "--for=condition=Established", "--timeout=60s", &crd];
            let _ = kubectl(&words, None).expect_ok("a definition");
        }
        let node = kubectl(
            &["get", "nodes", "-o=jsonpath={.items[0].metadata.name}"],
            None,
        );
        let node = node.expect_ok("a node");
        let socket = fixtures::path(&driver.dir.path().join("csi.sock"));
        let config = std::env::var("KUBECONFIG").expect("KUBECONFIG");
        let data = fixtures::path(driver.dir.path());
        let name = driver.name.clone();
        let (csi, kube) = (
            format!("--csi-address={socket}"),
            format!("--kubeconfig={config}"),
        );
        driver.run(
            &set,
            "directory-driver",
            &[
                "--name",
                &name,
                "--node",
                node.trim(),
                "--data",
                &data,
                "--socket",
                &socket,
            ],
        );
        driver.run(&set, "csi-provisioner", &[&csi, &kube]);
        driver.run(&set, "snapshot-controller", &[&kube]);
        driver.run(&set, "csi-snapshotter", &[&csi, &kube]);
        apply(&json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name},
            "spec": {"attachRequired": false, "podInfoOnMount": false, "fsGroupPolicy": "File"},
        }));
        apply(&json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass",
            "metadata": {"name": name}, "driver": name, "deletionPolicy": "Delete",
        }));
        // Clones as the driver is known, as the driver clones, and of a driver that knows no clones.
        driver.class("", &name, "Immediate", &Value::Null);
        driver.class("later-", &name, "WaitForFirstConsumer", &json!("csi-clone"));
        driver.class(
            "local-",
            "rancher.io/local-path",
            "WaitForFirstConsumer",
            &json!("snapshot"),
        );
        eventually("the driver is registered with the node", || {
            let text = kubectl(
                &[
                    "get",
                    "csinode",
                    node.trim(),
                    "-o=jsonpath={.spec.drivers[*].name}",
                ],
                None,
            )
            .stdout;
            if text.contains(&name) {
                Ok(())
            } else {
                Err(text)
            }
        });
        driver
    }

    fn run(&mut self, set: &Path, program: &str, arguments: &[&str]) {
        let log = File::create(self.dir.path().join(format!("{program}.log"))).unwrap();
        self.programs.push(Background::start(
            Command::new(set.join("bin").join(program))
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log),
        ));
    }

    fn class(&self, prefix: &str, provisioner: &str, binding: &str, clones: &Value) {
        apply(&json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {
                "name": self.class_name(prefix),
                "annotations": {"cdi.kubevirt.io/clone-strategy": clones, "defaultVolumeType": "local"},
            },
            "provisioner": provisioner, "volumeBindingMode": binding, "allowVolumeExpansion": true,
        }));
    }

    pub(crate) fn class_name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.name)
    }

    /// Nothing that the driver has to take away is left.
    fn is_empty(&self) -> Result<(), String> {
        let volumes = "-o=jsonpath={.items[*].spec.csi.driver} {.items[*].spec.storageClassName}";
        let mut left = kubectl(&["get", "pv", volumes], None).stdout;
        left += &kubectl(
            &[
                "get",
                "volumesnapshotcontents",
                "-o=jsonpath={.items[*].spec.driver}",
            ],
            None,
        )
        .stdout;
        if left.contains(&self.name) {
            Err(left)
        } else {
            Ok(())
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // While it still runs, or nobody could take its volumes away. A test that fails says so itself.
        let deadline = Instant::now() + LIMIT;
        let mut left = self.is_empty();
        while left.is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(500));
            left = self.is_empty();
        }
        let quietly = |words: &[&str]| drop(kubectl(words, None));
        for prefix in ["", "later-", "local-"] {
            quietly(&[
                "delete",
                "storageclass",
                &self.class_name(prefix),
                "--ignore-not-found",
            ]);
        }
        quietly(&[
            "delete",
            "volumesnapshotclass",
            &self.name,
            "--ignore-not-found",
        ]);
        quietly(&["delete", "csidriver", &self.name, "--ignore-not-found"]);
        self.programs.clear();
        let socket = format!("/var/lib/kubelet/plugins_registry/{}-reg.sock", self.name);
        let _ = std::fs::remove_file(socket);
        quietly(&[
            "delete",
            "-f",
            &self.definitions,
            "--ignore-not-found",
            "--timeout=60s",
        ]);
        assert!(std::thread::panicking() || left.is_ok(), "{left:?}");
    }
}

/// A DataVolume of storage class `class`.
pub(crate) fn volume(name: &str, source: &Value, class: &str, size: &str) -> Value {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": {"name": name},
        "spec": {
            "source": source,
            "storage": {
                "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "storageClassName": class,
                "resources": {"requests": {"storage": size}},
            },
        },
    })
}

/// A claim of `class` that refers to the VolumeCloneSource `source`.
fn populated(name: &str, source: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "24Mi"}},
            "dataSourceRef": {"apiGroup": "cdi.kubevirt.io", "kind": "VolumeCloneSource", "name": source},
        },
    })
}

/// Waits for a clone; it was made as `how`, for the reason `fallback` if that is a copy.
pub(crate) fn cloned(ns: &Namespace, name: &str, bytes: &[u8], how: &str, fallback: &Value) {
    succeeds(ns, name);
    holds(ns, name, bytes);
    for kind in ["dv", "pvc"] {
        let notes = &ns.get(kind, name)["metadata"]["annotations"];
        assert_eq!(
            notes["cdi.kubevirt.io/cloneType"], how,
            "{kind} {name}: {notes}"
        );
        assert_eq!(
            notes["cdi.kubevirt.io/cloneFallbackReason"], *fallback,
            "{kind} {name}: {notes}"
        );
    }
}

/// What clones are made through is gone.
pub(crate) fn nothing_temporary(ns: &Namespace, user: &[&str]) {
    eventually("nothing temporary is left", || {
        let left = ns
            .kubectl(&[
                "get",
                "volumesnapshots,pvc",
                "-o=jsonpath={.items[*].metadata.name}",
            ])
            .stdout;
        let strange: Vec<&str> = left
            .split_whitespace()
            .filter(|name| name.starts_with("tmp-") || name.starts_with("prime-"))
            .collect();
        if strange.is_empty() {
            Ok(())
        } else {
            Err(format!("{strange:?} beside {user:?}"))
        }
    });
    no_workers(ns);
}

#[test]
fn a_driver_that_can_clones_and_what_it_cannot_is_copied_and_told() {
    let driver = Driver::start();
    let (class, later, local) = (
        driver.class_name(""),
        driver.class_name("later-"),
        driver.class_name("local-"),
    );
    let ns = Namespace::new("csi");
    let image = random(IMAGE);
    let web = Files::default().file("golden.img", image.clone()).serve();
    let http = json!({"http": {"url": web.url("golden.img")}});
    let golden = json!({"pvc": {"namespace": ns.name(), "name": "golden"}});
    let snapshot = json!({"snapshot": {"namespace": ns.name(), "name": "snap"}});
    create(&ns, &volume("golden", &http, &class, "16Mi"));
    // Asked for before there is anything to clone.
    create(&ns, &volume("through", &golden, &class, "16Mi"));
    create(&ns, &volume("restored", &snapshot, &class, "16Mi"));
    succeeds(&ns, "golden");

    // A class of snapshots makes them the way of clones.
    let profile = eventually("the class's profile knows of snapshots", || {
        let text = kubectl(&["get", "storageprofile", &class, "-o", "json"], None).stdout;
        let profile: Value = serde_json::from_str(&text).unwrap_or_default();
        if profile["status"]["cloneStrategy"] == "snapshot" {
            Ok(profile)
        } else {
            Err(text)
        }
    });
    assert_eq!(profile["status"]["snapshotClass"], driver.name, "{profile}");
    cloned(&ns, "through", &image, "snapshot", &Value::Null);

    // The driver's own clones: into a class that waits for a pod, and into a larger claim.
    create(&ns, &volume("driven", &golden, &later, "16Mi"));
    create(&ns, &volume("larger", &golden, &later, "24Mi"));
    // A driver that knows neither snapshots nor clones.
    create(&ns, &volume("copied", &golden, &local, "16Mi"));
    // A user's snapshot, waited for.
    let waits = condition(&ns.get("dv", "restored"), "Bound")["reason"].clone();
    assert_eq!(waits, "CloneWithoutSource");
    create(
        &ns,
        &json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "snap"},
            "spec": {"volumeSnapshotClassName": driver.name, "source": {"persistentVolumeClaimName": "golden"}},
        }),
    );
    // By a name for it, into storage of another driver.
    create(
        &ns,
        &json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataSource", "metadata": {"name": "name"},
            "spec": {"source": snapshot},
        }),
    );
    let mut moved = volume("moved", &Value::Null, &local, "16Mi");
    moved["spec"]["sourceRef"] = json!({"kind": "DataSource", "name": "name"});
    create(&ns, &moved);
    // A claim that refers to a source of clones.
    create(
        &ns,
        &json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "VolumeCloneSource", "metadata": {"name": "source"},
            "spec": {"source": {"kind": "PersistentVolumeClaim", "name": "golden"}},
        }),
    );
    create(&ns, &populated("populated", "source", &class));
    // To ones of a snapshot, which storage of another driver cannot restore.
    create(
        &ns,
        &json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "VolumeCloneSource", "metadata": {"name": "taken"},
            "spec": {"source": {
                "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snap",
            }},
        }),
    );
    create(&ns, &populated("from-snapshot", "taken", &class));
    let mut elsewhere = populated("elsewhere", "taken", &local);
    elsewhere["metadata"]["annotations"] =
        json!({"cdi.kubevirt.io/storage.bind.immediate.requested": ""});
    create(&ns, &elsewhere);

    cloned(&ns, "driven", &image, "csi-clone", &Value::Null);
    cloned(&ns, "larger", &image, "csi-clone", &Value::Null);
    assert!(disk_size(&ns, "larger").0 >= 24 << 20);
    cloned(
        &ns,
        "copied",
        &image,
        "copy",
        &json!("No compatible volumesnapshotclass found"),
    );
    cloned(&ns, "restored", &image, "snapshot", &Value::Null);
    let differs = "The storageclass provisioner does not match the volumesnapshotcontent driver";
    cloned(&ns, "moved", &image, "copy", &json!(differs));
    eventually("the DataSource is ready", || {
        let source = ns.get("datasource", "name");
        if condition(&source, "Ready")["status"] == "True" {
            Ok(())
        } else {
            Err(source.to_string())
        }
    });
    for (name, how) in [
        ("populated", "snapshot"),
        ("from-snapshot", "snapshot"),
        ("elsewhere", "copy"),
    ] {
        eventually("the claim is populated", || {
            let claim = ns.get("pvc", name);
            let notes = &claim["metadata"]["annotations"];
            if notes["cdi.kubevirt.io/clonePhase"] == "Succeeded" {
                assert_eq!(notes["cdi.kubevirt.io/cloneType"], how, "{name}: {notes}");
                Ok(())
            } else {
                Err(claim.to_string())
            }
        });
        holds(&ns, name, &image);
    }
    nothing_temporary(&ns, &["snap"]);

    // From another namespace, directly and by its name, whoever's driver it is: restored there, and
    // copied. One into the driver's own class waits for a pod, which is its server.
    let near = Namespace::new("near");
    let across = "Source and target are in different namespaces";
    create(&near, &volume("far", &snapshot, &local, "16Mi"));
    let mut named = volume("named", &Value::Null, &later, "16Mi");
    named["spec"]["sourceRef"] =
        json!({"kind": "DataSource", "namespace": ns.name(), "name": "name"});
    create(&near, &named);
    for name in ["far", "named"] {
        succeeds(&near, name);
        holds(&near, name, &image);
        let notes = &near.get("pvc", name)["metadata"]["annotations"];
        assert_eq!(notes["cdi.kubevirt.io/cloneType"], "copy", "{notes}");
    }
    let why = &near.get("dv", "named")["metadata"]["annotations"];
    let why = why["cdi.kubevirt.io/cloneFallbackReason"].as_str();
    assert!(why.is_some_and(|why| why.contains(across)), "{why:?}");
    nothing_temporary(&ns, &["snap"]);
    nothing_temporary(&near, &[]);

    // A clone that is given up half-way leaves nothing either.
    create(&ns, &volume("given-up", &golden, &class, "16Mi"));
    let _ = ns
        .kubectl(&["delete", "dv", "given-up"])
        .expect_ok("delete dv");
    ns.wait_gone("pvc", "given-up");
    nothing_temporary(&ns, &["snap"]);
    // The namespaces go before the driver that has to empty them.
    drop(near);
    drop(ns);
}
