//! Every source of a DataVolume: the bytes are the source's, the claim is bound, and nothing of the work is left.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use testkit::{Background, Namespace, kubectl};

use crate::datavolumes::{
    condition, create, delete, disk_size, eventually, fails, hex, holds, http, no_workers, random,
    sha256, succeeds, volume,
};
use crate::fixtures::{self, Added};
use crate::hostile::qcow2;
use crate::web::{Files, HOST, Reply};

const USER: &str = "someone";
const PASSWORD: &str = "let me in";
/// `someone:let me in` as the header has it.
const BASIC: &str = "Basic c29tZW9uZTpsZXQgbWUgaW4=";

fn secret(ns: &Namespace, name: &str, user: &str, password: &str) {
    let _ = ns
        .kubectl(&[
            "create",
            "secret",
            "generic",
            name,
            &format!("--from-literal=accessKeyId={user}"),
            &format!("--from-literal=secretKey={password}"),
        ])
        .expect_ok("secret");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_web_servers_image_is_what_its_checksum_says_or_fails() {
    let ns = Namespace::new("http");
    let raw = random(5 << 20);
    let disk = random(1 << 20);
    let packed = Arc::new(gzip(&raw));
    let image = Arc::new(qcow2(&disk));
    let stream = Arc::clone(&packed);
    let web = Files::default()
        .file("raw.img", raw.clone())
        // A server that knows no ranges.
        .handled("raw.img.gz", move |_| Reply::of(&stream).whole())
        .handled("image.qcow2", move |asked| {
            let reply = Reply::of(&image);
            if asked.authorization.as_deref() == Some(BASIC) {
                reply
            } else {
                reply.status("401 Unauthorized")
            }
        })
        .serve();
    secret(&ns, "right", USER, PASSWORD);
    secret(&ns, "wrong", USER, "let me out");

    let source = |name: &str, more: Value| {
        let mut http = json!({"url": web.url(name)});
        http.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "http": http })
    };
    let checksum = format!("sha256:{}", sha256(&raw));
    let long = format!("sha512:{}", hex(&Sha512::digest(&*packed)));
    let other = format!("sha256:{}", sha256(b"another image"));
    for (name, source) in [
        ("right", source("raw.img", json!({ "checksum": checksum }))),
        ("packed", source("raw.img.gz", json!({ "checksum": long }))),
        ("wrong", source("raw.img", json!({ "checksum": other }))),
        (
            "known",
            source("image.qcow2", json!({"secretRef": "right"})),
        ),
        (
            "unknown",
            source("image.qcow2", json!({"secretRef": "wrong"})),
        ),
    ] {
        create(&ns, &volume(name, &source, "16Mi"));
    }
    for (name, bytes) in [("right", &raw), ("packed", &raw), ("known", &disk)] {
        succeeds(&ns, name);
        assert_eq!(ns.get("dv", name)["status"]["progress"], "100.0%", "{name}");
        holds(&ns, name, bytes);
    }
    let notes = ns.get("pvc", "right")["metadata"]["annotations"].clone();
    assert_eq!(notes["edgevirt.local/image-sha256"], sha256(&raw).as_str());
    fails(&ns, "wrong", "checksum mismatch");

    // Credentials may be mended, so this is tried again, and the reason is told meanwhile.
    eventually("the refusal is told", || {
        let dv = ns.get("dv", "unknown");
        let running = condition(&dv, "Running");
        let message = running["message"].as_str().unwrap_or_default();
        if message.contains("401") && message.contains("look at the secret's credentials") {
            Ok(())
        } else {
            Err(dv["status"].to_string())
        }
    });
    delete(&ns, "unknown");
}

#[test]
fn a_web_server_behind_an_authority_of_its_own_is_believed_when_that_is_named() {
    let ns = Namespace::new("tls");
    let raw = random(3 << 20);
    let host = format!("source.{}.svc", ns.name());
    let web = Files::default()
        .file("raw.img", raw.clone())
        .file("unnamed.img", raw.clone())
        .serve();
    let front = web.over_tls(&host);
    let (port, ca) = (front.port, front.ca.as_str());
    let _ = ns
        .create(
            &json!({"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "source"},
                 "spec": {"ports": [{"port": port}]}},
                {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                 "metadata": {"name": "source", "labels": {"kubernetes.io/service-name": "source"}},
                 "addressType": "IPv4", "ports": [{"name": "", "port": port}],
                 "endpoints": [{"addresses": [HOST]}]},
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authority"},
                 "data": {"ca.pem": ca}},
            ]})
            .to_string(),
        )
        .expect_ok("a service for this machine");
    let url = |name: &str| format!("https://{host}:{port}/{name}");
    let named = json!({"http": {"url": url("raw.img"), "certConfigMap": "authority"}});
    create(&ns, &volume("named", &named, "16Mi"));
    create(&ns, &http("unnamed", &url("unnamed.img"), "16Mi"));
    succeeds(&ns, "named");
    holds(&ns, "named", &raw);
    // Long before the importer would give up: both say at once why nothing comes.
    create(&ns, &http("refused", &format!("http://{HOST}:1/a"), "16Mi"));
    for (name, why) in [
        ("unnamed", "certificate is not accepted: UnknownIssuer"),
        ("refused", "Connection refused"),
    ] {
        eventually("the condition tells why", || {
            let dv = ns.get("dv", name);
            let running = condition(&dv, "Running");
            match running["message"].as_str() {
                Some(message) if message.contains(why) => Ok(()),
                _ => Err(dv["status"].to_string()),
            }
        });
    }
    assert!(front.refused() > 0);
    assert_eq!(web.asked("unnamed.img"), 0);
    let dv = ns.get("dv", "unnamed");
    assert_ne!(dv["status"]["phase"], "Succeeded", "{dv}");
    let _ = ns
        .kubectl(&["delete", "dv", "refused", "--wait=false"])
        .expect_ok("delete one");
    delete(&ns, "unnamed");
}

/// versitygw, serving a directory of its own as long as this lives.
struct S3 {
    port: u16,
    objects: tempfile::TempDir,
    _server: Background,
}

impl S3 {
    fn start() -> Self {
        let build = concat!(env!("CARGO_MANIFEST_DIR"), "/third_party/build");
        let cache =
            std::env::var("EDGEVIRT_CACHE").unwrap_or_else(|_| "/var/cache/edgevirt".into());
        let said =
            fixtures::run(Command::new(build).args(["--cache", &cache, "--only", "versitygw"]));
        let set = said.lines().find_map(|line| line.strip_prefix("set "));
        let program = format!("{}/bin/versitygw", set.expect("the set's directory"));
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind((HOST, 0)).unwrap();
        let port = port.local_addr().unwrap().port();
        let objects = tempfile::tempdir().unwrap();
        let server = Background::start(
            Command::new(program)
                .args(["--access", USER, "--secret", PASSWORD, "--port"])
                .arg(format!("{HOST}:{port}"))
                .arg("posix")
                .arg(objects.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        eventually("the S3 server listens", || {
            std::net::TcpStream::connect((HOST, port))
                .map(|_| ())
                .map_err(|error| error.to_string())
        });
        Self {
            port,
            objects,
            _server: server,
        }
    }
}

#[test]
fn an_object_of_an_s3_server_is_imported_by_who_has_the_keys() {
    let ns = Namespace::new("s3");
    let raw = random(5 << 20);
    let disk = random(1 << 20);
    let s3 = S3::start();
    // To the server a directory is a bucket, and a file an object.
    let bucket = s3.objects.path().join("images");
    std::fs::create_dir_all(bucket.join("some where")).unwrap();
    std::fs::write(bucket.join("some where/raw.img"), &raw).unwrap();
    std::fs::write(bucket.join("image.qcow2"), qcow2(&disk)).unwrap();
    secret(&ns, "right", USER, PASSWORD);
    secret(&ns, "wrong", USER, "let me out");
    let source = |object: &str, secret: &str| {
        let url = format!("http://{HOST}:{}/images/{object}", s3.port);
        json!({"s3": {"url": url, "secretRef": secret}})
    };
    for (name, object, secret) in [
        ("raw", "some%20where/raw.img", "right"),
        ("qcow2", "image.qcow2", "right"),
        ("denied", "image.qcow2", "wrong"),
    ] {
        create(&ns, &volume(name, &source(object, secret), "16Mi"));
    }
    for (name, bytes) in [("raw", &raw), ("qcow2", &disk)] {
        succeeds(&ns, name);
        holds(&ns, name, bytes);
    }
    eventually("the refusal is told", || {
        let dv = ns.get("dv", "denied");
        let message = condition(&dv, "Running")["message"].to_string();
        if message.contains("403") && message.contains("look at the secret's credentials") {
            Ok(())
        } else {
            Err(dv["status"].to_string())
        }
    });
    delete(&ns, "denied");
}

/// The embedded registry, which speaks no TLS, among those that CDI may ask so.
pub(crate) struct Insecure;

/// How many tests have it allowed, and the merge patch that takes it out again.
static ALLOWED: Mutex<(usize, Value)> = Mutex::new((0, Value::Null));

impl Insecure {
    fn patch(config: &Value) {
        let patch = json!({"spec": {"config": config}}).to_string();
        let words = ["patch", "cdi", "cdi", "--type=merge", "--patch", &patch];
        let _ = kubectl(&words, None).expect_ok("patch cdi");
    }

    pub(crate) fn allow(host: &str) -> Self {
        let mut allowed = ALLOWED.lock().unwrap();
        if allowed.0 == 0 {
            let path = "-o=jsonpath={.spec.config}";
            let before = kubectl(&["get", "cdi", "cdi", path], None).expect_ok("get cdi");
            let before: Value = serde_json::from_str(before.trim()).unwrap_or_default();
            let mut all = before["insecureRegistries"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            all.push(json!(host));
            Self::patch(&json!({ "insecureRegistries": all }));
            allowed.1 = if before.is_null() {
                Value::Null
            } else {
                json!({"insecureRegistries": before["insecureRegistries"]})
            };
        }
        allowed.0 += 1;
        Self
    }
}

impl Drop for Insecure {
    fn drop(&mut self) {
        let mut allowed = ALLOWED.lock().unwrap();
        allowed.0 -= 1;
        if allowed.0 == 0 {
            Self::patch(&allowed.1);
        }
    }
}

#[test]
fn an_image_of_a_registry_is_imported_and_cloned_and_a_blank_disk_is_blank() {
    let dir = tempfile::tempdir().unwrap();
    let ns = Namespace::new("registry");
    let disk = fixtures::tiny_disk("from a registry");
    let raw = dir.path().join("disk.raw");
    std::fs::write(&raw, &disk).unwrap();
    let image = Added::new("import:1", &raw);
    let registry = format!("{HOST}:5000");
    let allowed = Insecure::allow(&registry);
    fixtures::registry_secret(&ns);
    let url = |name: &str| json!({"registry": {"url": format!("docker://{registry}/{name}"), "secretRef": "registry"}});
    create(&ns, &volume("blank", &json!({"blank": {}}), "32Mi"));
    create(&ns, &volume("pulled", &url(image.name()), "16Mi"));
    // Asked for at once: it waits until its source is full.
    let clone = json!({"pvc": {"namespace": ns.name(), "name": "pulled"}});
    create(&ns, &volume("cloned", &clone, "24Mi"));
    for name in ["pulled", "cloned"] {
        succeeds(&ns, name);
        holds(&ns, name, &disk);
    }
    succeeds(&ns, "blank");
    holds(&ns, "blank", &[]);
    let (size, kept) = disk_size(&ns, "blank");
    assert!(size >= 32 << 20 && kept < 1 << 20, "{size} {kept}");
    assert!(disk_size(&ns, "cloned").0 >= 24 << 20);
    drop(allowed);
    no_workers(&ns);
    // The claims of DataVolumes go with them, their copies stay.
    delete(&ns, "pulled");
    holds(&ns, "cloned", &disk);
}
