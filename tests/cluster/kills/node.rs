//! The node's own services go away, gently and not: the guest does not notice.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Console, Namespace, edgevirt, eventually_within, kubectl};

use super::{RECOVERY, uptime};
use crate::datavolumes::http;
use crate::fixtures::{self, Added, run};
use crate::manifest;

/// How the embedded cluster's services are supervised where PID 1 is not systemd.
const SUPERVISOR: &str = "/etc/edgevirt/supervisord.conf";
/// Where the embedded cluster's registry keeps its images.
const REGISTRY: &str = "/var/lib/edgevirt/registry";
/// Longer than this no packet of the guest's may be missing: TCP repeats a lost one after 1 s, then 2 s.
const GAP_MAX: Duration = Duration::from_secs(4);

/// Knocks at the guest's SSH port from the node all the time; its server's banner is the answer.
struct Knocker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(u32, Duration)>>,
}

impl Knocker {
    fn start(guest: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut answers, mut last, mut gap) = (0, Instant::now(), Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                if answered(guest) {
                    answers += 1;
                    last = Instant::now();
                }
                gap = gap.max(last.elapsed());
                std::thread::sleep(Duration::from_millis(200));
            }
            (answers, gap.max(last.elapsed()))
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// How often it was answered, and the longest time without an answer.
    fn stop(mut self) -> (u32, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Knocker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn answered(guest: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&guest, Duration::from_secs(1)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut banner = [0; 4];
    stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-"
}

fn supervisor(words: &[&str]) -> String {
    run(Command::new("supervisorctl")
        .args(["-c", SUPERVISOR])
        .args(words))
}

fn systemd(words: &[&str]) -> String {
    run(Command::new("systemctl").args(words))
}

/// Restarts a service, or kills its process so that its supervisor has to.
fn hit(service: &str, kill: bool) {
    let supervised = Path::new(SUPERVISOR).exists();
    let unit = format!("edgevirt-{service}.service");
    let _ = match (supervised, kill) {
        (true, false) => supervisor(&["restart", service]),
        (true, true) => {
            let pid = supervisor(&["pid", service]);
            run(Command::new("kill").args(["-KILL", pid.trim()]))
        }
        (false, false) => systemd(&["restart", &unit]),
        (false, true) => systemd(&["kill", "--signal=KILL", &unit]),
    };
}

/// Bytes of the registry's files.
fn registry_size() -> u64 {
    let said = run(Command::new("du").args(["-s", "--block-size=1", REGISTRY]));
    said.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_removed_image_leaves_the_disk_when_the_registry_starts_again_and_others_stay() {
    const SIZE: usize = 16 << 20;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk.raw");
    let mut disk = fixtures::tiny_disk("stays");
    std::fs::write(&file, &disk).unwrap();
    let stays = Added::new("stays", &file);
    // Bytes that no compression makes less of.
    disk.resize(SIZE, 0);
    std::fs::File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut disk[512..])
        .unwrap();
    std::fs::write(&file, &disk).unwrap();
    let goes = Added::new("goes", &file);
    let full = registry_size();
    drop(goes);

    hit("registry", false);
    eventually_within(
        RECOVERY,
        "the registry has the image that stays only",
        || {
            let said = edgevirt(&["image", "ls"]);
            let right = said.ok && said.stdout.contains(stays.name());
            let left = registry_size();
            (right && left + SIZE as u64 <= full + (1 << 20))
                .then_some(())
                .ok_or(format!(
                    "{} {}: {full} bytes, then {left}",
                    said.stdout, said.stderr
                ))
        },
    );
    let ns = Namespace::new("registry");
    let _ = ns
        .create(&manifest::tiny("stays", stays.name()))
        .expect_ok("create");
    ns.wait_for("vmi", "stays", "/status/phase", "Running");
}

fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| {
        all.iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    })
}

#[test]
fn restarting_and_killing_the_nodes_services_leaves_the_guest_running_and_its_status_right() {
    let ns = Namespace::new("nodekill");
    let _ = ns
        .create(&manifest::vm("guest", "runStrategy: RerunOnFailure"))
        .expect_ok("create");
    ns.wait_for("vmi", "guest", "/status/phase", "Running");
    let vmi = ns.get("vmi", "guest");
    let (uid, node) = (
        &vmi["metadata"]["uid"],
        vmi["status"]["nodeName"].as_str().unwrap(),
    );
    let ip = vmi["status"]["interfaces"][0]["ipAddress"]
        .as_str()
        .unwrap();
    let mut console = Console::open(ns.name(), "guest");
    console.login();
    let begin = (uptime(&mut console), Instant::now());
    drop(console);
    let guest = SocketAddr::new(ip.parse().unwrap(), 22);
    eventually_within(RECOVERY, "the guest's SSH answers", || {
        if answered(guest) {
            Ok(())
        } else {
            Err("no banner".to_owned())
        }
    });
    let knocker = Knocker::start(guest);

    for (service, kill) in [
        ("kubelet", false),
        ("kubelet", true),
        ("containerd", false),
        ("containerd", true),
        ("kube-apiserver", false),
        ("kube-apiserver", true),
    ] {
        hit(service, kill);
        eventually_within(
            RECOVERY,
            &format!("all is right after {service}, killed: {kill}"),
            || {
                let node = kubectl(&["get", "node", node, "-o", "json"], None);
                let node: Value = serde_json::from_str(&node.stdout).map_err(|_| node.stderr)?;
                let pods = ns.kubectl(&["get", "pods", "-l", "app=guest", "-o", "json"]);
                let pods: Value = serde_json::from_str(&pods.stdout).map_err(|_| pods.stderr)?;
                let vmi = ns.get("vmi", "guest");
                let right = condition(&node, "Ready")
                    && condition(&pods["items"][0], "Ready")
                    && vmi["metadata"]["uid"] == *uid
                    && vmi["status"]["phase"] == "Running"
                    && condition(&vmi, "Ready");
                if !right {
                    return Err(format!("{}\n{}", vmi["status"], pods["items"][0]["status"]));
                }
                // Not only remembered: a request reaches the guest and its effect comes back.
                let paused = ns.virtctl(&["pause", "vmi", "guest"]);
                if !paused.ok {
                    return Err(paused.stderr);
                }
                // It is refused as long as the status does not say that the guest is paused.
                eventually_within(RECOVERY, "the guest goes on", || {
                    let resumed = ns.virtctl(&["unpause", "vmi", "guest"]);
                    resumed.ok.then_some(()).ok_or(resumed.stderr)
                });
                Ok(())
            },
        );
    }

    let (answers, gap) = knocker.stop();
    assert!(
        answers > 20 && gap < GAP_MAX,
        "{answers} answers, {gap:?} without one"
    );
    let mut console = Console::open(ns.name(), "guest");
    console.send("\r");
    console.expect("$ ", Duration::from_secs(60));
    let grown = uptime(&mut console) - begin.0;
    let passed = begin.1.elapsed().as_secs_f64();
    assert!(
        grown > 0.8 * passed,
        "uptime grew by {grown} s in {passed} s: another guest"
    );
    // What comes next is admitted: with the node, its webhooks' endpoints had gone.
    let volume = http("disk", "http://nobody.invalid/disk", "16Mi").to_string();
    eventually_within(RECOVERY, "CDI's admission answers", || {
        let words = ["create", "--dry-run=server", "-n", ns.name(), "-f", "-"];
        let said = kubectl(&words, Some(&volume));
        said.ok.then_some(()).ok_or(said.stderr)
    });
}
