//! Rounds against an API server that only keeps what it is given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use decide::operator::{API, CONTROLLER, HANDLER};
use kube_kit::testing::World;
use serde_json::json;

use super::*;

const KUBEVIRT: &str = "/apis/kubevirt.io/v1/namespaces/kubevirt/kubevirts/kubevirt";

fn operator(client: kube::Client) -> Operator {
    let config = Config {
        namespace: "kubevirt".into(),
        version: "v0.1.0".into(),
        image: "r/virt:1".into(),
        launcher_image: "r/virt-launcher:1".into(),
    };
    Operator::new(client, config)
}

fn world() -> World<Operator> {
    let kubevirt = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "spec": {},
        "metadata": { "name": "kubevirt", "namespace": "kubevirt", "uid": "u", "resourceVersion": "1", "generation": 1 }
    });
    World::new(KUBEVIRT, &kubevirt, operator)
}

fn all_ready(world: &mut World<Operator>) {
    world.roll_out("Deployment", API);
    world.roll_out("Deployment", CONTROLLER);
    world.roll_out("DaemonSet", HANDLER);
    for name in look::aggregated() {
        world.serve(&name);
    }
}

#[tokio::test]
async fn an_installation_applies_once_waits_for_readiness_and_then_rests() {
    let mut world = world();
    let log = world.settle().await;
    let count = |part: &str| log.iter().filter(|line| line.contains(part)).count();
    assert_eq!(
        count("PATCH /apis/apps/v1/namespaces/kubevirt/deployments/"),
        2
    );
    assert_eq!(count("PATCH /api/v1/namespaces/kubevirt/secrets/"), 4);
    let at = |part: &str| log.iter().position(|line| line.contains(part)).unwrap();
    assert!(at("customresourcedefinitions/virtualmachines.") < at("deployments/virt-api"));
    assert!(at("clusterroles/kubevirt-handler") < at("clusterrolebindings/kubevirt-handler"));
    assert_eq!(world.owner()["status"]["phase"], "Deploying");
    assert_eq!(
        world.writes().await,
        Vec::<String>::new(),
        "nothing changed, nothing is written"
    );

    all_ready(&mut world);
    assert_eq!(world.writes().await, [format!("PATCH {KUBEVIRT}/status")]);
    assert_eq!(world.owner()["status"]["phase"], "Deployed");
    assert_eq!(
        world.settle().await,
        Vec::<String>::new(),
        "at rest there is no request at all"
    );
}

#[tokio::test]
async fn what_is_deleted_or_changed_comes_back_alone() {
    let mut world = world();
    world.settle().await;
    all_ready(&mut world);
    world.settle().await;
    world.lose("Service", "virt-api");
    assert_eq!(
        world.settle().await,
        ["PATCH /api/v1/namespaces/kubevirt/services/virt-api"]
    );
    world.change("ClusterRole", "kubevirt.io:view");
    assert_eq!(
        world.settle().await,
        ["PATCH /apis/rbac.authorization.k8s.io/v1/clusterroles/kubevirt.io:view"]
    );
    world.lose("Secret", "kubevirt-virt-api-certs");
    assert_eq!(
        world.writes().await,
        ["PATCH /api/v1/namespaces/kubevirt/secrets/kubevirt-virt-api-certs"]
    );
}

#[tokio::test]
async fn fewer_replicas_take_the_budgets_away() {
    let mut world = world();
    world.settle().await;
    let mut object = world.owner();
    object["spec"] = json!({ "infra": { "replicas": 1 } });
    world.see(&object);
    let mut gone = world.settle().await;
    gone.retain(|line| line.starts_with("DELETE"));
    assert_eq!(gone.len(), 2);
    assert!(
        gone.iter()
            .all(|line| line.contains("poddisruptionbudgets"))
    );
}

#[tokio::test]
async fn lives_of_certificates_that_cannot_be_are_told_and_nothing_is_made() {
    let mut world = world();
    let mut object = world.owner();
    object["spec"] =
        json!({ "certificateRotateStrategy": { "selfSigned": { "ca": { "duration": "soon" } } } });
    world.see(&object);
    assert_eq!(
        world.settle().await,
        [
            format!("PATCH {KUBEVIRT}"),
            format!("PATCH {KUBEVIRT}/status")
        ]
    );
    let message = world.owner()["status"]["conditions"].to_string();
    assert!(message.contains("selfSigned.ca.duration"), "{message}");
}

#[tokio::test]
async fn deletion_empties_the_cluster_in_stages_and_lets_go() {
    let mut world = world();
    world.settle().await;
    let stages = world.delete().await;
    assert_eq!(stages[..2], [4, 2], "webhooks and APIServices, then CRDs");
    assert!(stages[2] > 15);
    let left = world.server.lock().unwrap().objects.clone();
    assert_eq!(left.keys().collect::<Vec<_>>(), [KUBEVIRT]);
    assert_eq!(world.owner()["metadata"]["finalizers"], json!([]));
    assert_eq!(world.owner()["status"]["phase"], "Deleted");
}

/// All of the leader but the watches, which end at once here: it lists, finds
/// the owner, then follows what it makes, and installs.
#[tokio::test]
async fn a_leader_that_finds_an_owner_installs() {
    let server = world().server;
    let leading = kube_kit::operator::lead(operator(kube_kit::testing::client(&server)));
    let installed = async {
        let path = "/apis/apps/v1/namespaces/kubevirt/deployments/virt-api";
        while !server.lock().unwrap().objects.contains_key(path) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = leading => panic!("ended: {ended:?}"),
        installed = tokio::time::timeout(Duration::from_secs(30), installed) => {
            let log = server.lock().unwrap().log.clone();
            installed.unwrap_or_else(|_| panic!("not installed: {log:#?}"));
        }
    }
}
