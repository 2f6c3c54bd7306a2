//! A second node that joined: it runs guests, and they reach those of the first.
//! Needs a cluster of inventory/two-nodes.yml.

use serde_json::Value;
use testkit::{Console, Namespace, eventually, kubectl};

use crate::manifest;

/// A VMI that may run on one node only.
fn on_node(name: &str, node: &str) -> String {
    let selector = format!("\nspec:\n  nodeSelector: {{kubernetes.io/hostname: {node}}}\n");
    manifest::vmi(name, "#cloud-config\n").replacen("\nspec:\n", &selector, 1)
}

#[test]
fn a_guest_of_the_second_node_is_reached_from_one_of_the_first_and_by_console() {
    eventually("a handler on both nodes", || {
        let text = kubectl(
            &["get", "ds", "-n", "kubevirt", "virt-handler", "-o", "json"],
            None,
        )
        .expect_ok("daemonset");
        let set: Value = serde_json::from_str(&text).unwrap();
        match set["status"]["numberReady"].as_u64() {
            Some(2) => Ok(()),
            other => Err(format!("{other:?} ready")),
        }
    });
    let ns = Namespace::new("nodes");
    for (name, node) in [("first", "edge1"), ("second", "edge2")] {
        let _ = ns.create(&on_node(name, node)).expect_ok("create");
    }
    for (name, node) in [("first", "edge1"), ("second", "edge2")] {
        ns.wait_for("vmi", name, "/status/phase", "Running");
        ns.wait_for("vmi", name, "/status/nodeName", node);
    }
    let mut second = Console::open(ns.name(), "second");
    second.login();
    let _ = second.run("mkdir -p /tmp/www; echo from-edge2 > /tmp/www/index.html; busybox httpd -p 8080 -h /tmp/www");
    let ip = ns.get("vmi", "second")["status"]["interfaces"][0]["ipAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(ip.starts_with("10.244.1."), "{ip}");
    let mut first = Console::open(ns.name(), "first");
    first.login();
    let page = first.run(&format!(
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 20 {ip} 8080"
    ));
    assert!(page.contains("from-edge2"), "{page}");
}
