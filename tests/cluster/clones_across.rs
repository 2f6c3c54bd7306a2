//! Clones of claims of another namespace: by whom, of what, and what is left.

use serde_json::{Value, json};
use testkit::{Namespace, kubectl};

use crate::datavolumes::{
    condition, create, delete, disk_size, eventually, holds, no_workers, random, succeeds, volume,
};
use crate::tokens::{signed, token};
use crate::web::Files;

/// A namespace with a claim `golden` that holds `bytes`.
pub(crate) fn golden(what: &str, bytes: &[u8]) -> Namespace {
    let far = Namespace::new(what);
    let web = Files::default().file("golden.img", bytes.to_vec()).serve();
    let source = json!({"http": {"url": web.url("golden.img")}});
    create(&far, &volume("golden", &source, "32Mi"));
    succeeds(&far, "golden");
    far
}

/// A DataVolume that clones `golden` of `far`.
pub(crate) fn copy(name: &str, far: &Namespace) -> Value {
    let source = json!({"pvc": {"namespace": far.name(), "name": "golden"}});
    volume(name, &source, "32Mi")
}

/// Gives the account `default` of namespace `to` the cluster role `role` in namespace `of`.
fn bind(of: &Namespace, role: &str, to: &Namespace) {
    let account = format!("--serviceaccount={}:default", to.name());
    let role = format!("--clusterrole={role}");
    let words = ["create", "rolebinding", "clones", &role, &account];
    let _ = of.kubectl(&words).expect_ok("rolebinding");
}

/// The worker pods of a namespace.
fn workers(ns: &Namespace) -> Vec<Value> {
    ns.list("pods", "app=containerized-data-importer")
}

#[test]
fn who_may_read_there_gets_the_bytes_and_leaves_nothing() {
    let image = random(9 << 20);
    let (far, ns) = (golden("far", &image), Namespace::new("near"));
    bind(&ns, "cdi.kubevirt.io:edit", &ns);
    let account = format!("--as=system:serviceaccount:{}:default", ns.name());
    let make = |object: &Value| {
        let words = ["-n", ns.name(), "create", "-f", "-", "-v=6", &account];
        kubectl(&words, Some(&object.to_string()))
    };
    // Upstream answers 422, and names the right that is missing.
    let said = make(&copy("mine", &far)).expect_err("a user without a right there");
    assert!(said.contains("422"), "{said}");
    assert!(said.contains("datavolumes/source"), "{said}");
    bind(&far, "cdi.kubevirt.io:clone-sourcer", &ns);
    let _ = make(&copy("mine", &far)).expect_ok("a user with the right");
    // By a name that stands for it, and before there is anything to clone.
    let standing = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataSource", "metadata": {"name": "os"},
        "spec": {"source": {"pvc": {"namespace": far.name(), "name": "golden"}}},
    });
    create(&far, &standing);
    let mut named = copy("named", &far);
    named["spec"]["source"] = Value::Null;
    named["spec"]["sourceRef"] =
        json!({"kind": "DataSource", "namespace": far.name(), "name": "os"});
    let _ = make(&named).expect_ok("a clone by a DataSource");
    let mut early = copy("early", &far);
    early["spec"]["source"]["pvc"]["name"] = json!("later");
    let _ = make(&early).expect_ok("a clone of what is not there");
    for name in ["mine", "named"] {
        succeeds(&ns, name);
        holds(&ns, name, &image);
        let (_, kept) = disk_size(&ns, name);
        assert!(kept < 16 << 20, "holes were written: {kept}");
        let notes = &ns.get("pvc", name)["metadata"]["annotations"];
        assert_eq!(notes["cdi.kubevirt.io/cloneType"], "copy");
    }
    let waits = ns.get("dv", "early");
    assert_eq!(condition(&waits, "Bound")["reason"], "CloneWithoutSource");
    let within = json!({"pvc": {"namespace": far.name(), "name": "golden"}});
    create(&far, &volume("later", &within, "32Mi"));
    succeeds(&ns, "early");
    holds(&ns, "early", &image);
    no_workers(&ns);
    no_workers(&far);
    let policies = ns.list("networkpolicies", "");
    assert!(policies.is_empty(), "{policies:?}");
}

#[test]
fn a_virtual_machine_clones_what_its_namespaces_account_may_read() {
    let image = random(2 << 20);
    let (far, ns) = (golden("os", &image), Namespace::new("machine"));
    // Of the VM's own namespace, and yet of another's claim.
    let standing = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataSource", "metadata": {"name": "os"},
        "spec": {"source": {"pvc": {"namespace": far.name(), "name": "golden"}}},
    });
    create(&ns, &standing);
    let machine = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "guest"},
        "spec": {
            "runStrategy": "Halted",
            "dataVolumeTemplates": [{
                "metadata": {"name": "root"},
                "spec": {
                    "sourceRef": {"kind": "DataSource", "name": "os"},
                    "storage": {"resources": {"requests": {"storage": "32Mi"}}},
                },
            }],
            "template": {"spec": {
                "domain": {
                    "devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}]},
                    "resources": {"requests": {"memory": "64Mi"}},
                },
                "volumes": [{"name": "root", "dataVolume": {"name": "root"}}],
            }},
        },
    });
    create(&ns, &machine);
    eventually("the VM tells that it may not", || {
        let status = ns.get("vm", "guest")["status"].to_string();
        let told =
            status.contains("datavolumes/source") && status.contains("FailedDataVolumeCreate");
        if told { Ok(()) } else { Err(status) }
    });
    bind(&far, "cdi.kubevirt.io:clone-sourcer", &ns);
    eventually("virt-controller tries again", || {
        let found = ns.kubectl(&["get", "dv", "root", "-o", "name"]);
        if found.ok { Ok(()) } else { Err(found.stderr) }
    });
    succeeds(&ns, "root");
    holds(&ns, "root", &image);
    no_workers(&far);
}

#[test]
fn a_source_in_use_is_waited_for_and_a_clone_that_is_given_up_leaves_nothing() {
    let image = random(3 << 20);
    let (far, ns) = (golden("busy", &image), Namespace::new("waits"));
    // A pod that may write it at any time, though no node takes it now.
    let writer = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"},
        "spec": {
            "nodeSelector": {"edgevirt.local/none": "none"},
            "containers": [{"name": "c", "image": "none"}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "golden"}}],
        },
    });
    create(&far, &writer);
    create(&ns, &copy("disk", &far));
    eventually("the writer is waited for", || {
        let dv = ns.get("dv", "disk");
        let why = condition(&dv, "Running")["reason"].clone();
        if why == "CloneSourceInUse" {
            Ok(())
        } else {
            Err(dv["status"].to_string())
        }
    });
    assert!(workers(&far).is_empty() && workers(&ns).is_empty());
    let _ = far
        .kubectl(&["delete", "pod", "writer", "--now"])
        .expect_ok("writer");
    succeeds(&ns, "disk");
    holds(&ns, "disk", &image);
    // Given up as soon as the source is read.
    create(&ns, &copy("given-up", &far));
    eventually("the source is read", || {
        let there = workers(&far);
        if there.is_empty() {
            Err("no pod".to_owned())
        } else {
            Ok(())
        }
    });
    delete(&ns, "given-up");
    no_workers(&far);
}

#[test]
fn a_claim_whose_token_is_not_for_it_gets_nothing() {
    let (far, ns) = (golden("guarded", &random(1 << 20)), Namespace::new("thief"));
    // A good token, as it stands on the DataVolume of somebody who may.
    create(&ns, &copy("mine", &far));
    let good =
        ns.get("dv", "mine")["metadata"]["annotations"]["cdi.kubevirt.io/storage.clone.token"]
            .as_str()
            .expect("a token")
            .to_owned();
    succeeds(&ns, "mine");
    let upload = volume("upload", &json!({"upload": {}}), "16Mi");
    create(&ns, &upload);
    ns.wait_for("dv", "upload", "/status/phase", "UploadReady");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = |name: &str, source: &str, at: u64| {
        json!({
            "operation": "Clone", "name": source, "namespace": far.name(),
            "resource": {"group": "", "version": "v1", "resource": "persistentvolumeclaims"},
            "params": {"targetNamespace": ns.name(), "targetName": name},
            "iss": "cdi-apiserver", "iat": at, "nbf": at, "exp": at + 300,
        })
    };
    let (head, _) = good.rsplit_once('.').unwrap();
    let cases = [
        ("none", None, "found none"),
        ("others", Some(good.clone()), "into"),
        ("unsigned", Some(format!("{head}.")), "not signed"),
        (
            "expired",
            Some(signed(&claims("expired", "golden", now - 400))),
            "expired",
        ),
        (
            "elsewhere",
            Some(signed(&claims("elsewhere", "other", now))),
            "other",
        ),
        ("uploads", Some(token(&ns, "upload")), "something else"),
    ];
    for (name, token, _) in &cases {
        let mut notes = json!({"k8s.io/CloneRequest": format!("{}/golden", far.name())});
        if let Some(token) = token {
            notes["cdi.kubevirt.io/storage.clone.token"] = json!(token);
        }
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "annotations": notes},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "32Mi"}}},
        });
        create(&ns, &claim);
    }
    for (name, _, why) in &cases {
        let note = "cdi.kubevirt.io/storage.condition.running.message";
        eventually(&format!("{name} is refused"), || {
            let claim = ns.get("pvc", name);
            let said = claim["metadata"]["annotations"][note].as_str();
            match said {
                Some(said) if said.contains(why) => Ok(()),
                said => Err(format!("{said:?}")),
            }
        });
        assert_eq!(ns.get("pvc", name)["status"]["phase"], "Pending");
    }
    assert!(workers(&far).is_empty());
}
