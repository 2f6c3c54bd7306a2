//! What the walk-through's section "Validate" shows.

use serde_json::Value;
use testkit::kubectl;

fn pods(namespace: &str) -> Vec<(String, String, String)> {
    let text = kubectl(&["get", "pods", "-n", namespace, "--no-headers"], None).expect_ok("pods");
    text.lines()
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let mut next = || words.next().unwrap_or_default();
            (next(), next(), next())
        })
        .collect()
}

#[test]
fn the_seven_pods_of_the_walk_through_run() {
    let pods = pods("kubevirt");
    for (component, count) in [
        ("virt-api", 2),
        ("virt-controller", 2),
        ("virt-handler", 1),
        ("virt-operator", 2),
    ] {
        let running = pods
            .iter()
            .filter(|(name, ready, status)| {
                name.starts_with(&format!("{component}-")) && ready == "1/1" && status == "Running"
            })
            .count();
        assert_eq!(running, count, "{component}: {pods:?}");
    }
}

#[test]
fn the_kubevirt_object_says_deployed_and_available() {
    let _ = kubectl(
        &[
            "wait",
            "kv",
            "kubevirt",
            "-n",
            "kubevirt",
            "--for",
            "condition=Available",
            "--timeout=5s",
        ],
        None,
    )
    .expect_ok("wait");
    let phase = kubectl(
        &[
            "get",
            "kv",
            "kubevirt",
            "-n",
            "kubevirt",
            "-o",
            "jsonpath={.status.phase}",
        ],
        None,
    )
    .expect_ok("phase");
    assert_eq!(phase, "Deployed");
}

#[test]
fn the_node_offers_what_works_on_it_110_times() {
    let text = kubectl(&["get", "nodes", "-o", "json"], None).expect_ok("nodes");
    let nodes: Value = serde_json::from_str(&text).unwrap();
    let allocatable = &nodes["items"][0]["status"]["allocatable"];
    assert_eq!(
        allocatable["devices.kubevirt.io/tun"], "110",
        "{allocatable}"
    );
    if !std::path::Path::new("/dev/vhost-net").exists() {
        let offered = allocatable["devices.kubevirt.io/vhost-net"]
            .as_str()
            .unwrap_or("0");
        assert_eq!(offered, "0", "a device that is not there is offered");
    }
}

#[test]
fn both_versions_of_the_api_and_the_short_names_are_served() {
    for word in [
        "vm",
        "vms",
        "vmi",
        "vmis",
        "virtualmachines.v1alpha3.kubevirt.io",
    ] {
        let output = kubectl(&["get", word, "-A"], None);
        assert!(output.ok, "kubectl get {word}: {}", output.stderr);
    }
    let explained = kubectl(&["explain", "vmi.spec.domain.devices.disks.disk.bus"], None);
    assert!(explained.ok, "{}", explained.stderr);
}

#[test]
fn virtctl_tells_both_versions() {
    let text = testkit::virtctl(&["version"]).expect_ok("virtctl version");
    assert!(
        text.contains("Client Version") && text.contains("Server Version"),
        "{text}"
    );
}

#[test]
fn a_watch_without_a_list_before_it_begins_with_what_exists() {
    let text = kubectl(
        &[
            "get",
            "--raw",
            "/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts?watch=1&resourceVersion=0&timeoutSeconds=1",
        ],
        None,
    )
    .expect_ok("watch");
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["type"], "ADDED", "{first}");
    assert_eq!(first["object"]["metadata"]["name"], "kubevirt", "{first}");
}

#[test]
fn no_component_may_read_secrets() {
    for account in [
        "kubevirt-apiserver",
        "kubevirt-controller",
        "kubevirt-handler",
    ] {
        let user = format!("system:serviceaccount:kubevirt:{account}");
        for namespace in ["kubevirt", "default"] {
            let output = kubectl(
                &[
                    "auth", "can-i", "get", "secrets", "-n", namespace, "--as", &user,
                ],
                None,
            );
            assert!(!output.ok, "{account} may read secrets in {namespace}");
        }
    }
}
