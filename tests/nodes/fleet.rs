//! Many nodes at once: one that is down holds up nobody.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::edge_node::Testbed;

use crate::{attempt, preflight};

#[test]
fn a_node_that_is_down_or_hangs_does_not_hold_up_the_others() {
    let testbed = Testbed::open().unwrap();
    let asks = &testbed.variant("full").unwrap().asks;
    attempt::on("full", |node| {
        let good = preflight::host(node, asks);
        // Nothing listens on the first port; the second takes connections and says nothing.
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = |port: u16| {
            let mut host = good.clone();
            host["ansible_port"] = json!(port);
            host
        };
        let mut stranger = good.clone();
        let known = node.dir().join("other_hosts");
        let other = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
        std::fs::write(
            &known,
            format!("[127.0.0.1]:{} ssh-ed25519 {other}\n", node.port()),
        )
        .unwrap();
        stranger["ansible_ssh_common_args"] =
            json!(format!("-o UserKnownHostsFile={}", known.display()));
        let hosts = [
            ("good", good.clone()),
            ("down", elsewhere(closed)),
            ("silent", elsewhere(silent.local_addr().unwrap().port())),
            ("stranger", stranger),
        ];
        let start = Instant::now();
        let report = preflight::run(node.dir(), &hosts, &["--timeout", "20"]);
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(report.code, Some(3), "{}", report.stderr);
        assert!(!report.verdicts("good").is_empty());
        for name in ["down", "silent", "stranger"] {
            let said = report.node(name)["error"].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "{name}: {}", report.node(name));
        }
        let said = report.node("stranger")["error"].as_str().unwrap();
        assert!(said.contains("key"), "{said}");
    });
}
