//! What the tests of imports, uploads and clones make and look at.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testkit::{Namespace, kubectl};

const WORKERS: &str = "app=containerized-data-importer";

/// As [`testkit::eventually`], with fewer looks: a worker takes seconds, and the looks of several tests would take
/// the processors from it.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    testkit::eventually(what, || {
        let found = probe();
        if found.is_err() {
            std::thread::sleep(Duration::from_millis(400));
        }
        found
    })
}

/// A DataVolume for a disk of `size`.
pub(crate) fn volume(name: &str, source: &Value, size: &str) -> Value {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
        "metadata": {"name": name},
        "spec": {
            "source": source,
            "storage": {"resources": {"requests": {"storage": size}}},
        },
    })
}

/// A DataVolume from a web server.
pub(crate) fn http(name: &str, url: &str, size: &str) -> Value {
    volume(name, &json!({"http": {"url": url}}), size)
}

pub(crate) fn create(ns: &Namespace, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let _ = ns.create(&object.to_string()).expect_ok(name);
}

/// Bytes that do not compress and are no format's.
pub(crate) fn random(length: usize) -> Vec<u8> {
    let mut state = RandomState::new().build_hasher().finish() | 1;
    let mut next = || {
        // xorshift64: any bytes serve.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next)
        .flatten()
        .take(length)
        .collect();
    // Never taken for a header.
    bytes[..8].copy_from_slice(b"edgevirt");
    bytes
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits for `Succeeded`, and looks at what a user sees then.
pub(crate) fn succeeds(ns: &Namespace, name: &str) {
    let dv = eventually(&format!("{name} succeeds"), || {
        let dv = ns.get("dv", name);
        let status = dv["status"].to_string();
        assert_ne!(dv["status"]["phase"], "Failed", "{name}: {status}");
        match dv["status"]["phase"].as_str() {
            Some("Succeeded") => Ok(dv),
            _ => Err(status),
        }
    });
    assert_eq!(condition(&dv, "Ready")["status"], "True", "{dv}");
    let claim = ns.get("pvc", name);
    assert_eq!(claim["status"]["phase"], "Bound", "{claim}");
}

/// Waits for `Failed`: the reason is on the object, says `words`, and an event tells it.
pub(crate) fn fails(ns: &Namespace, name: &str, words: &str) {
    let dv = eventually(&format!("{name} fails"), || {
        let dv = ns.get("dv", name);
        let status = dv["status"].to_string();
        assert_ne!(dv["status"]["phase"], "Succeeded", "{name}: {status}");
        match dv["status"]["phase"].as_str() {
            Some("Failed") => Ok(dv),
            _ => Err(status),
        }
    });
    let ready = condition(&dv, "Ready");
    let message = ready["message"].as_str().unwrap_or_default();
    assert!(message.contains(words), "{name}: {words:?} in {dv}");
    assert_eq!(ready["status"], "False", "{dv}");
    eventually(&format!("event ImportFailed of {name}"), || {
        let field = format!("involvedObject.name={name},reason=ImportFailed");
        let events = ns.kubectl(&["get", "events", "--field-selector", &field, "-o", "name"]);
        if events.stdout.trim().is_empty() {
            Err(format!("{events:?}"))
        } else {
            Ok(())
        }
    });
}

/// A condition of a DataVolume, or `Null`.
pub(crate) fn condition<'a>(dv: &'a Value, kind: &str) -> &'a Value {
    let conditions = dv["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|one| one["type"] == kind)
        .unwrap_or(&Value::Null)
}

/// Waits until no worker of the namespace is left, nor what it needed.
pub(crate) fn no_workers(ns: &Namespace) {
    eventually("no worker is left", || {
        let left = ns
            .kubectl(&["get", "pods,services,secrets", "-l", WORKERS, "-o", "name"])
            .stdout;
        if left.trim().is_empty() {
            Ok(())
        } else {
            Err(left)
        }
    });
}

/// Where the claim's volume is on this node.
pub(crate) fn directory(ns: &Namespace, name: &str) -> PathBuf {
    let volume = ns.get("pvc", name)["spec"]["volumeName"].clone();
    let volume = volume.as_str().expect("a bound claim").to_owned();
    let text = kubectl(&["get", "pv", &volume, "-o", "json"], None).expect_ok("get pv");
    let volume: Value = serde_json::from_str(&text).unwrap();
    let spec = &volume["spec"];
    let path = spec["local"]["path"]
        .as_str()
        .or(spec["hostPath"]["path"].as_str())
        .or(spec["csi"]["volumeAttributes"]["path"].as_str());
    path.unwrap_or_else(|| panic!("expected a volume on this node, found {spec}"))
        .into()
}

/// Proves that the claim's disk begins with these bytes and is zero behind them.
pub(crate) fn holds(ns: &Namespace, name: &str, bytes: &[u8]) {
    let path = directory(ns, name).join("disk.img");
    let mut disk = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut found = Sha256::new();
    let begin = std::io::copy(&mut (&mut disk).take(bytes.len() as u64), &mut found).unwrap();
    assert_eq!(begin, bytes.len() as u64, "{name}: the disk is shorter");
    assert_eq!(hex(&found.finalize()), sha256(bytes), "{name}: other bytes");
    let mut piece = vec![0; 1 << 20];
    loop {
        let n = disk.read(&mut piece).unwrap();
        if n == 0 {
            break;
        }
        assert!(
            piece[..n].iter().all(|byte| *byte == 0),
            "{name}: more than the image's bytes"
        );
    }
}

/// Bytes of the claim's disk, and how many of them the file system keeps.
pub(crate) fn disk_size(ns: &Namespace, name: &str) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(directory(ns, name).join("disk.img")).unwrap();
    (meta.len(), meta.blocks() * 512)
}

/// Deletes a DataVolume and waits until claim and workers are gone with it.
pub(crate) fn delete(ns: &Namespace, name: &str) {
    let _ = ns
        .kubectl(&["delete", "dv", name, "--wait=false"])
        .expect_ok("delete dv");
    ns.wait_gone("dv", name);
    ns.wait_gone("pvc", name);
    no_workers(ns);
}
