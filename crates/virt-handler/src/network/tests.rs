//! The real thing, in network namespaces of its own: a "node" with a bridge, a
//! "pod" as a CNI plugin makes it, a "client" beside it, and in place of the
//! guest behind the tap a namespace on one more port of the pod's bridge.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::fd::OwnedFd;
use std::process::Command;

use super::*;
use serde_json::{from_value, json};

/// Namespaces with names of this test run, removed at its end.
struct Lab {
    prefix: String,
    records: tempfile::TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["node", "pod", "client", "guest"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.name(name)])
                .status();
        }
    }
}

impl Lab {
    fn new(case: &str) -> Self {
        let lab = Self {
            prefix: format!("vh{}{case}", std::process::id()),
            records: tempfile::tempdir().unwrap(),
        };
        for name in ["node", "pod", "client", "guest"] {
            run("ip", &["netns", "add", &lab.name(name)]);
        }
        lab.ip(
            "node",
            "link add cni0 address 0a:00:00:00:00:ff type bridge",
        );
        lab.ip("node", "addr add 10.77.0.1/24 dev cni0");
        lab.ip("node", "link set cni0 up");
        for (name, host) in [("pod", 5), ("client", 6)] {
            lab.ip(
                "node",
                &format!(
                    "link add v{name} type veth peer name eth0 netns {}",
                    lab.name(name)
                ),
            );
            // As the bridge CNI plugin does it with hairpin mode.
            lab.ip("node", &format!("link set v{name} master cni0"));
            lab.ip(
                "node",
                &format!("link set v{name} type bridge_slave hairpin on"),
            );
            lab.ip("node", &format!("link set v{name} up"));
            lab.ip(name, "link set lo up");
            lab.ip(
                name,
                &format!("link set eth0 mtu 1400 address 0a:00:00:00:00:0{host} up"),
            );
            lab.ip(name, &format!("addr add 10.77.0.{host}/24 dev eth0"));
            lab.ip(name, "route add default via 10.77.0.1");
        }
        lab
    }

    fn name(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    fn ip(&self, namespace: &str, command: &str) {
        let name = self.name(namespace);
        let mut args = vec!["-n", name.as_str()];
        args.extend(command.split(' '));
        run("ip", &args);
    }

    fn namespace(&self, of: &str) -> OwnedFd {
        std::fs::File::open(format!("/run/netns/{}", self.name(of)))
            .unwrap()
            .into()
    }

    fn join(&self, interface: &serde_json::Value) -> Networks {
        let vmi: VirtualMachineInstance = from_value(json!({
            "metadata": {"name": "a"},
            "spec": {
                "domain": {"devices": {"interfaces": [interface]}},
                "networks": [{"name": "default", "pod": {}}]
            }
        }))
        .unwrap();
        let wish = plan::wish(&vmi).unwrap().unwrap();
        let path = record::path(self.records.path(), "uid");
        let namespace = self.namespace("pod");
        let join = || join_here(&path, "uid", &wish, &resolv::Resolv::default()).unwrap();
        let record = host::netns::run_in(std::os::fd::AsFd::as_fd(&namespace), join).unwrap();
        record.networks()
    }

    /// Puts a guest on the pod's bridge.
    fn guest(&self, networks: &Networks) {
        let nic = &networks.nics[0];
        let lease = nic.dhcp.as_ref().unwrap();
        self.ip(
            "pod",
            &format!(
                "link add vguest type veth peer name eth0 netns {}",
                self.name("guest")
            ),
        );
        self.ip("pod", &format!("link set vguest master {BRIDGE} up"));
        self.ip(
            "guest",
            &format!("link set eth0 mtu {} address {} up", nic.mtu, nic.mac),
        );
        self.ip(
            "guest",
            &format!("addr add {}/{} dev eth0", lease.address, lease.prefix_len),
        );
        self.ip(
            "guest",
            &format!("route add default via {}", lease.gateway.unwrap()),
        );
    }

    fn in_namespace(&self, namespace: &str, command: &str) -> (bool, String) {
        let name = self.name(namespace);
        let mut args = vec!["netns", "exec", name.as_str()];
        args.extend(command.split(' '));
        let output = Command::new("ip").args(args).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    /// One TCP connection from a namespace to an address, answered in another.
    fn connects(&self, from: &str, to: &str, listener: &str) -> bool {
        let (from, listener) = (self.namespace(from), self.namespace(listener));
        let socket = host::netns::run_in(std::os::fd::AsFd::as_fd(&listener), || {
            std::net::TcpListener::bind("0.0.0.0:8080").unwrap()
        })
        .unwrap();
        let address = format!("{to}:8080").parse().unwrap();
        let wait = std::time::Duration::from_secs(3);
        host::netns::run_in(std::os::fd::AsFd::as_fd(&from), || {
            std::net::TcpStream::connect_timeout(&address, wait).is_ok()
        })
        .unwrap()
            && socket.accept().is_ok()
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "makes network namespaces, so it needs root"]
fn a_bridged_guest_is_the_pod_for_everybody() {
    let lab = Lab::new("b");
    let networks = lab.join(&json!({"name": "default", "bridge": {}}));
    assert_eq!(networks.nics[0].mac, "0a:00:00:00:00:05");
    // A handler that was killed anywhere on the way does it all again.
    assert_eq!(
        lab.join(&json!({"name": "default", "bridge": {}})),
        networks
    );
    assert_eq!(load(lab.records.path(), "uid"), networks);

    let (_, links) = lab.in_namespace("pod", "ip -d link");
    assert!(
        links.contains("eth0-nic") && !links.contains(" eth0:") && !links.contains(" eth0@"),
        "{links}"
    );
    assert!(
        links.contains("tun type tap")
            && links.contains("user 107")
            && links.contains("vnet_hdr on"),
        "{links}"
    );
    assert!(links.contains("learning off"), "{links}");
    let (_, addresses) = lab.in_namespace("pod", "ip -4 addr");
    assert!(
        addresses.contains("169.254.75.10/32") && !addresses.contains("10.77"),
        "{addresses}"
    );

    let (_, rules) = lab.in_namespace("pod", "nft list table bridge kubevirt");
    assert!(
        rules.contains("iifname \"tap0\" udp dport 67 drop"),
        "{rules}"
    );

    lab.guest(&networks);
    assert!(lab.connects("client", "10.77.0.5", "guest"));
    assert!(lab.connects("node", "10.77.0.5", "guest"));
    assert!(lab.connects("guest", "10.77.0.6", "client"));
    forget(lab.records.path(), "uid");
    assert_eq!(load(lab.records.path(), "uid"), Networks::default());
}

#[test]
#[ignore = "makes network namespaces, so it needs root"]
fn a_masqueraded_guest_is_reached_and_goes_out_by_the_pods_address() {
    let lab = Lab::new("m");
    let networks = lab.join(&json!({"name": "default", "masquerade": {}}));
    assert_eq!(
        lab.join(&json!({"name": "default", "masquerade": {}})),
        networks
    );
    let (_, addresses) = lab.in_namespace("pod", "ip -4 addr");
    assert!(
        addresses.contains("10.77.0.5/24") && addresses.contains("10.0.2.1/24"),
        "{addresses}"
    );
    lab.guest(&networks);
    assert!(lab.connects("client", "10.77.0.5", "guest"));
    assert!(lab.connects("guest", "10.77.0.6", "client"));
    // kubectl port-forward opens connections on the pod's loopback.
    assert!(lab.connects("pod", "127.0.0.1", "guest"));
}

#[test]
#[ignore = "makes network namespaces, so it needs root"]
fn only_listed_ports_are_let_in() {
    let lab = Lab::new("p");
    let networks = lab.join(&json!({"name": "default", "masquerade": {}, "ports": [{"port": 22}]}));
    lab.guest(&networks);
    assert!(!lab.connects("client", "10.77.0.5", "guest"));
    assert!(lab.connects("guest", "10.77.0.6", "client"));
}
