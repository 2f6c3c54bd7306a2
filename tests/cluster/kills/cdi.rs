//! Whatever dies while an image is on its way, the claim holds the image's bytes in the end, and nothing else is left.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Background, Namespace, eventually, kubectl, virtctl_program};

use crate::csi;
use crate::datavolumes::{create, holds, http, no_workers, random, succeeds};
use crate::fixtures::path;
use crate::web::{Files, Reply};

/// Slow enough that there is a middle.
const RATE: usize = 1 << 20;
const IMAGE: usize = 24 << 20;
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn force(words: &[&str]) {
    let mut all = vec![
        "delete",
        "pod",
        "--grace-period=0",
        "--force",
        "--wait=false",
    ];
    all.extend_from_slice(words);
    let _ = kubectl(&all, None).expect_ok("kill");
}

pub(super) fn kill_component(name: &str) {
    force(&["-n", "cdi", "-l", &format!("cdi.kubevirt.io={name}")]);
}

/// The program in a worker pod of this node, which is known by the pod's name among its variables.
pub(super) fn process(pod: &str) -> String {
    let name = format!("HOSTNAME={pod}");
    let is_worker = |pid: &str| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let named = read("environ")
            .split(|byte| *byte == 0)
            .any(|one| one == name.as_bytes());
        named && read("cmdline").starts_with(b"/usr/bin/cdi-")
    };
    eventually(&format!("a process of {pod}"), || {
        let mut entries = std::fs::read_dir("/proc").unwrap();
        let found = entries.find_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            (name.parse::<u32>().is_ok() && is_worker(&name)).then_some(name)
        });
        found.ok_or_else(|| "none".to_owned())
    })
}

/// Sends a process a signal.
pub(super) fn signal(name: &str, pid: &str) {
    let name = format!("-{name}");
    let done = Command::new("kill").args([&name, pid]).status().unwrap();
    assert!(done.success());
}

fn kill_process(pod: &str) {
    signal("KILL", &process(pod));
}

fn after(what: &str, bytes: u64, count: impl Fn() -> u64) {
    eventually(what, || match count() {
        n if n >= bytes => Ok(()),
        n => Err(format!("{n} of {bytes} bytes")),
    });
}

pub(super) fn again(component: &str) {
    eventually(&format!("{component} is back"), || {
        let label = format!("cdi.kubevirt.io={component}");
        let words = ["get", "pods", "-n", "cdi", "-l", &label, "--no-headers"];
        let pods = kubectl(&words, None).stdout;
        let all = !pods.trim().is_empty() && pods.lines().all(|line| line.contains("1/1"));
        if all { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn an_import_survives_its_importer_its_pod_and_the_controller() {
    let ns = Namespace::new("importer");
    // The pod's name must be the test's own.
    let name = format!("disk-{}", std::process::id());
    let pod = format!("importer-{name}");
    let disk = random(IMAGE);
    let file = Arc::new(disk.clone());
    let web = Files::default()
        .handled("disk", move |_| {
            let mut reply = Reply::of(&file);
            reply.rate = Some(RATE);
            reply
        })
        .serve();
    let sent = || web.sent("disk");
    let some = 3 << 20;
    create(&ns, &http(&name, &web.url("disk"), "32Mi"));
    after("an import begins", some, sent);
    kill_process(&pod);
    let killed = sent();
    after("a new importer begins", killed + some, sent);
    force(&["-n", ns.name(), &pod]);
    let killed = sent();
    after("the importer of a new pod begins", killed + some, sent);
    kill_component("cdi-deployment");
    assert_ne!(ns.get("dv", &name)["status"]["phase"], "Succeeded");
    again("cdi-deployment");
    succeeds(&ns, &name);
    holds(&ns, &name, &disk);
    let restarts = &ns.get("dv", &name)["status"]["restartCount"];
    assert!(restarts.as_i64() >= Some(1), "{restarts}");
    no_workers(&ns);
}

/// A way to a server that is slow until it is opened.
struct Slow {
    port: u16,
    passed: Arc<AtomicU64>,
    open: Arc<AtomicBool>,
}

impl Slow {
    fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slow = Self {
            port: listener.local_addr().unwrap().port(),
            passed: Arc::default(),
            open: Arc::default(),
        };
        let (passed, open) = (Arc::clone(&slow.passed), Arc::clone(&slow.open));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // A server that is gone is one that refuses.
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&address)) else {
                    continue;
                };
                let (passed, open) = (Arc::clone(&passed), Arc::clone(&open));
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pass(client, server, &passed, &open));
                let free = AtomicBool::new(true);
                std::thread::spawn(move || pass(back.0, back.1, &AtomicU64::new(0), &free));
            }
        });
        slow
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, passed: &AtomicU64, open: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
        passed.fetch_add(n as u64, Ordering::SeqCst);
        if !open.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_secs_f64(n as f64 / (2 * RATE) as f64));
        }
    }
    // Either may be closed already.
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn an_upload_survives_its_server_and_the_proxy() {
    let ns = Namespace::new("upload");
    let name = format!("disk-{}", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let disk = random(IMAGE);
    let file = dir.path().join("disk.img");
    std::fs::write(&file, &disk).unwrap();
    let way = Slow::to(crate::tokens::proxy_address());
    let image = format!("--image-path={}", path(&file));
    let upload = |more: &[&str]| {
        let mut command = Background::command(&virtctl_program());
        command
            .args(["--namespace", ns.name(), "image-upload", "dv", &name])
            .args(["--size=32Mi", "--insecure", &image])
            .arg(format!("--uploadproxy-url=https://127.0.0.1:{}", way.port))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        Background::start(&mut command)
    };
    let mut first = upload(&[]);
    let some = 3 << 20;
    after("an upload begins", some, || way.passed());
    kill_process(&format!("cdi-upload-{name}"));
    let killed = way.passed();
    after("the new server gets it", killed + some, || way.passed());
    kill_component("cdi-uploadproxy");
    assert_ne!(ns.get("dv", &name)["status"]["phase"], "Succeeded");
    way.open.store(true, Ordering::SeqCst);
    // It tries a few times by itself; a user would try once more.
    let ended = first.wait(LIMIT);
    again("cdi-uploadproxy");
    if !ended.success() {
        assert_ne!(ns.get("dv", &name)["status"]["phase"], "Succeeded");
        assert!(upload(&["--no-create", "--resume"]).wait(LIMIT).success());
    }
    succeeds(&ns, &name);
    holds(&ns, &name, &disk);
    no_workers(&ns);
}

#[test]
fn clones_by_the_storage_survive_the_controller_and_leave_nothing() {
    let driver = csi::Driver::start();
    let (class, later) = (driver.class_name(""), driver.class_name("later-"));
    let ns = Namespace::new("kills-csi");
    let image = random(3 << 20);
    let web = Files::default().file("golden.img", image.clone()).serve();
    let source = json!({"http": {"url": web.url("golden.img")}});
    create(&ns, &csi::volume("golden", &source, &class, "16Mi"));
    succeeds(&ns, "golden");
    let golden = json!({"pvc": {"namespace": ns.name(), "name": "golden"}});
    // Killed sooner and later after it was asked, so that it is hit at different steps.
    for (at, wait) in [100, 500, 1200].into_iter().enumerate() {
        create(
            &ns,
            &csi::volume(&format!("snapshot-{at}"), &golden, &class, "16Mi"),
        );
        create(
            &ns,
            &csi::volume(&format!("driver-{at}"), &golden, &later, "24Mi"),
        );
        std::thread::sleep(Duration::from_millis(wait));
        kill_component("cdi-deployment");
        again("cdi-deployment");
    }
    for at in 0..3 {
        for (what, how) in [("snapshot", "snapshot"), ("driver", "csi-clone")] {
            csi::cloned(&ns, &format!("{what}-{at}"), &image, how, &Value::Null);
        }
    }
    csi::nothing_temporary(&ns, &[]);
    drop(ns);
}
