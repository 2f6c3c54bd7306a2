//! Guests of every size use all of their memory in pods that ask for the guest's memory and a small, computed overhead.

use serde_json::Value;
use testkit::{Console, Namespace, kubectl};

use crate::fixtures::{self, Added};
use crate::manifest;

/// What upstream asks for beside a guest like these.
const UPSTREAM_MIB: f64 = 288.0;

/// The formula of docs/memory-overhead.md for one vCPU, graphics, and that many disks and network interfaces.
fn overhead_mib(guest_mib: f64, disks: f64, interfaces: f64, emulated: bool) -> f64 {
    let emulation = if emulated { 40.0 + 4.0 } else { 0.0 };
    guest_mib / 512.0 + 64.0 + 2.0 + 3.0 * disks + interfaces + 32.0 + emulation
}

fn emulated() -> bool {
    let kubevirts = kubectl(&["get", "kv", "-A", "-o", "json"], None).expect_ok("kv");
    let kubevirts: Value = serde_json::from_str(&kubevirts).unwrap();
    kubevirts["items"][0]["spec"]["configuration"]["developerConfiguration"]["useEmulation"] == true
}

/// The compute container of a VMI's one pod, and its status.
fn compute(ns: &Namespace, vmi: &str) -> (Value, Value) {
    let pods = ns.list("pods", &format!("app={vmi}"));
    assert_eq!(pods.len(), 1, "{vmi} was given another pod");
    let named = |list: &Value| {
        let list = list.as_array().unwrap();
        list.iter()
            .find(|c| c["name"] == "compute")
            .unwrap()
            .clone()
    };
    (
        named(&pods[0]["spec"]["containers"]),
        named(&pods[0]["status"]["containerStatuses"]),
    )
}

/// A quantity in Ki, Mi or Gi as MiB.
fn mib(quantity: &Value) -> f64 {
    let text = quantity.as_str().unwrap();
    let (number, unit) = text.split_at(text.len() - 2);
    let factor = match unit {
        "Ki" => 1.0 / 1024.0,
        "Mi" => 1.0,
        "Gi" => 1024.0,
        _ => panic!("unexpected quantity {text}"),
    };
    number.parse::<f64>().unwrap() * factor
}

#[test]
fn guests_from_64_mib_to_4_gib_fill_their_memory_in_a_pod_limited_to_what_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    std::fs::write(&raw, fixtures::tiny_disk("small guest")).unwrap();
    let image = Added::new("small", &raw);
    let ns = Namespace::new("memory");
    let limited = |text: String, was: &str, memory: &str| {
        let to = format!(
            "resources:\n      limits: {{memory: {memory}}}\n      requests: {{memory: {memory},"
        );
        let text = text.replace("resources:\n      requests: {memory: 64Mi,", &to);
        text.replace(
            &format!("resources:\n      requests: {{memory: {was},"),
            &to,
        )
    };
    // 64 MiB are too few for a Linux of today with the demo guest's programs; firmware and a boot sector fit.
    let small = limited(manifest::tiny("m64", image.name()), "64Mi", "64Mi");
    let _ = ns.create(&small).expect_ok("m64");
    let guests = [
        ("m256", "256Mi", 256.0, 90),
        ("m1024", "1Gi", 1024.0, 740),
        ("m4096", "4Gi", 4096.0, 3300),
    ];
    for (name, memory, ..) in guests {
        let vmi = limited(manifest::vmi(name, "#cloud-config\n"), "192Mi", memory);
        assert!(vmi.contains("limits"), "{vmi}");
        let _ = ns.create(&vmi).expect_ok(name);
    }
    let emulated = emulated();
    let check = |name: &str, guest: f64, disks: f64, interfaces: f64| {
        let (container, status) = compute(&ns, name);
        let asked = mib(&container["resources"]["requests"]["memory"]);
        let overhead = asked - guest;
        let computed = overhead_mib(guest, disks, interfaces, emulated);
        assert!(
            (overhead - computed).abs() < 0.01,
            "{name}: {overhead} MiB, computed {computed}"
        );
        assert!(overhead < 0.6 * UPSTREAM_MIB, "{name}: {overhead} MiB");
        assert_eq!(
            mib(&container["resources"]["limits"]["memory"]),
            asked,
            "{name}"
        );
        assert_eq!(status["restartCount"], 0, "{name}: {status}");
        assert!(status["state"]["running"].is_object(), "{name}: {status}");
        assert_eq!(ns.get("vmi", name)["status"]["phase"], "Running", "{name}");
    };
    for (name, memory, guest, fill) in guests {
        ns.wait_for("vmi", name, "/status/phase", "Running");
        let mut console = Console::open(ns.name(), name);
        console.login();
        // What is allocated is cleared, so every page is touched.
        let said = console.run(&format!(
            "sudo mount -t tmpfs -o size=100% fill /mnt; time sudo fallocate -l {fill}M /mnt/fill; du -m /mnt/fill"
        ));
        assert!(
            said.contains(&format!("{fill}\t/mnt/fill")),
            "{memory}: not filled: {said}"
        );
        check(name, guest, 2.0, 1.0);
    }
    ns.wait_for("vmi", "m64", "/status/phase", "Running");
    check("m64", 64.0, 1.0, 0.0);
    // All of them still run after the last was filled.
    for (name, _, guest, _) in guests {
        check(name, guest, 2.0, 1.0);
    }
}
