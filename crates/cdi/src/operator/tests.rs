//! Rounds against an API server that only keeps what it is given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kube_kit::testing::World;
use serde_json::json;

use super::*;

const CDI_PATH: &str = "/apis/cdi.kubevirt.io/v1beta1/cdis/cdi";

fn world() -> World<Operator> {
    let config = Config {
        namespace: "cdi".into(),
        version: "v0.1.0".into(),
        image: "r/virt:1".into(),
    };
    let cdi = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "CDI", "spec": {},
        "metadata": { "name": "cdi", "uid": "u", "resourceVersion": "1", "generation": 1 }
    });
    World::new(CDI_PATH, &cdi, |client| Operator::new(client, config))
}

fn all_ready(world: &mut World<Operator>) {
    for name in decide::cdi::operator::DEPLOYMENTS {
        world.roll_out("Deployment", name);
    }
    for name in decide::cdi::operator::api_service_names() {
        world.serve(&name);
    }
}

#[tokio::test]
async fn an_installation_applies_once_waits_for_readiness_and_then_rests() {
    let mut world = world();
    let log = world.settle().await;
    let count = |part: &str| log.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("PATCH /apis/apps/v1/namespaces/cdi/deployments/"), 3);
    assert_eq!(count("PATCH /api/v1/namespaces/cdi/secrets/"), 7);
    assert_eq!(count("PATCH /api/v1/namespaces/cdi/configmaps/"), 4);
    let at = |part: &str| log.iter().position(|line| line.contains(part)).unwrap();
    assert!(at("customresourcedefinitions/datavolumes.") < at("cdiconfigs/config"));
    assert_eq!(world.owner()["status"]["phase"], "Deploying");
    assert_eq!(world.writes().await, Vec::<String>::new());

    all_ready(&mut world);
    assert_eq!(world.writes().await, [format!("PATCH {CDI_PATH}/status")]);
    assert_eq!(world.owner()["status"]["phase"], "Deployed");
    assert_eq!(
        world.settle().await,
        Vec::<String>::new(),
        "at rest there is no request at all"
    );
}

#[tokio::test]
async fn each_bundle_has_its_own_authority_and_the_config_names_the_proxys() {
    let mut world = world();
    world.settle().await;
    let objects = world.server.lock().unwrap().objects.clone();
    let bundle = |name: &str| {
        let path = format!("/api/v1/namespaces/cdi/configmaps/{name}-signer-bundle");
        objects[&path]["data"]["ca-bundle.crt"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let all = [
        "cdi-apiserver",
        "cdi-uploadproxy",
        "cdi-uploadserver",
        "cdi-uploadserver-client",
    ];
    let different: std::collections::BTreeSet<String> = all.map(bundle).into();
    assert_eq!(different.len(), 4);
    let config = &objects["/apis/cdi.kubevirt.io/v1beta1/cdiconfigs/config"];
    assert_eq!(config["status"]["uploadProxyCA"], bundle("cdi-uploadproxy"));
}

#[tokio::test]
async fn a_life_that_cannot_be_is_told_and_nothing_is_made() {
    let mut world = world();
    let mut object = world.owner();
    object["spec"] = json!({ "certConfig": { "ca": { "duration": "soon" } } });
    world.see(&object);
    let log = world.settle().await;
    assert_eq!(log, [format!("PATCH {CDI_PATH}/status")]);
    let status = &world.owner()["status"];
    assert_eq!(status["phase"], "Error");
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("spec.certConfig.ca.duration"), "{message}");
}

#[tokio::test]
async fn what_is_deleted_comes_back_alone() {
    let mut world = world();
    world.settle().await;
    all_ready(&mut world);
    world.settle().await;
    world.lose("Service", "cdi-uploadproxy");
    assert_eq!(
        world.settle().await,
        ["PATCH /api/v1/namespaces/cdi/services/cdi-uploadproxy"]
    );
}

#[tokio::test]
async fn deletion_empties_the_cluster_in_stages_and_lets_go() {
    let mut world = world();
    world.settle().await;
    let stages = world.delete().await;
    assert_eq!(stages[..2], [10, 9], "webhooks and APIServices, then CRDs");
    assert!(stages[2] > 15);
    assert_eq!(world.owner()["metadata"]["finalizers"], json!([]));
    assert_eq!(world.owner()["status"]["phase"], "Deleted");
}
