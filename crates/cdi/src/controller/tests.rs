//! The world and the actor, the latter against an API server that answers by a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use api::cdi::DataVolume;
use decide::cdi::cluster::Class;
use decide::cdi::volume::Op;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::client::Body;
use kube_kit::queue::WorkQueue;
use serde_json::{Value, json};

use super::act::{Actor, Outcome};
use super::world::{Key, Name, World};

fn name() -> Name {
    Name {
        namespace: "ns".to_owned(),
        name: "disk".to_owned(),
    }
}

fn dv() -> DataVolume {
    serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "uid": "dv-uid", "resourceVersion": "1"},
        "spec": {"source": {"upload": {}}, "storage": {"resources": {"requests": {"storage": "1Gi"}}}},
    }))
    .unwrap()
}

fn world() -> World {
    let mut world = World::default();
    world.cluster.worker_image = "worker:1".to_owned();
    world.cluster.namespace = "cdi".to_owned();
    world.set_class(
        Class {
            name: "local".to_owned(),
            provisioner: "rancher.io/local-path".to_owned(),
            default: true,
            ..Class::default()
        },
        true,
    );
    world
}

#[test]
fn a_claim_wakes_its_copies_and_the_data_volumes_that_wait_for_it() {
    let mut world = world();
    let waits: DataVolume = serde_json::from_value(json!({
        "metadata": {"name": "copy", "namespace": "ns", "uid": "copy"},
        "spec": {"source": {"pvc": {"namespace": "ns", "name": "disk"}}, "storage": {}},
    }))
    .unwrap();
    world.put(waits);
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "uid": "claim-uid"}, "spec": {},
    }))
    .unwrap();
    let keys = world.put(claim);
    let copy = Name {
        namespace: "ns".to_owned(),
        name: "copy".to_owned(),
    };
    assert!(keys.contains(&Key::Volume(name())) && keys.contains(&Key::Volume(copy)));
}

#[test]
fn older_states_and_strangers_deletions_change_nothing() {
    let mut world = world();
    let mut new = dv();
    new.metadata.resource_version = Some("9".to_owned());
    world.put(new);
    assert!(world.put(dv()).is_empty());
    let mut stranger = dv().metadata;
    stranger.uid = Some("other".to_owned());
    assert!(world.remove::<DataVolume>(&stranger).is_empty());
    assert!(world.volume(&name()).is_some());
    assert_eq!(world.reset::<DataVolume>(Vec::new()).len(), 1);
    assert!(world.volume(&name()).is_none());
}

/// What was asked: method and path, and the body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A client whose server answers every write with what was written, and notes it.
fn client(refuse: Option<(&'static str, u16, &'static str)>) -> (kube::Client, Asked) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let seen = Arc::clone(&seen);
        async move {
            let line = format!("{} {}", request.method(), request.uri().path());
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let mut body: Value = serde_json::from_slice(&bytes).unwrap_or(json!({}));
            seen.lock().unwrap().push((line.clone(), body.clone()));
            let refusal = refuse.filter(|(part, ..)| line.contains(part));
            let (code, body) = match refusal {
                Some((_, code, message)) => (
                    code,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                        "code": code, "message": message, "reason": "Forbidden", "metadata": {}}),
                ),
                None => {
                    body["metadata"]["name"] = json!("disk");
                    body["metadata"]["namespace"] = json!("ns");
                    body["metadata"]["uid"] = json!("made");
                    (200, body)
                }
            };
            Ok::<_, tower::BoxError>(
                http::Response::builder()
                    .status(code)
                    .body(Body::from(body.to_string().into_bytes()))
                    .unwrap(),
            )
        }
    });
    (kube::Client::new(service, "default"), asked)
}

struct Bench {
    actor: Actor,
    world: Rc<RefCell<World>>,
    asked: Asked,
    certificates: tempfile::TempDir,
}

fn bench(refuse: Option<(&'static str, u16, &'static str)>) -> Bench {
    let (client, asked) = client(refuse);
    let mut world = world();
    world.put(dv());
    let world = Rc::new(RefCell::new(world));
    let certificates = tempfile::tempdir().unwrap();
    let signer = certificates.path().join("cdi-uploadserver-signer");
    let bundle = certificates
        .path()
        .join("cdi-uploadserver-client-signer-bundle");
    std::fs::create_dir(&signer).unwrap();
    std::fs::create_dir(&bundle).unwrap();
    let pair =
        kube_kit::certs::authority("ca", Timestamp::now(), SignedDuration::from_hours(48)).unwrap();
    std::fs::write(signer.join("tls.crt"), &pair.certificate).unwrap();
    std::fs::write(signer.join("tls.key"), &pair.key).unwrap();
    std::fs::write(bundle.join("ca-bundle.crt"), "clients").unwrap();
    let actor = Actor::new(
        client,
        Rc::clone(&world),
        WorkQueue::new(),
        certificates.path().to_owned(),
    );
    Bench {
        actor,
        world,
        asked,
        certificates,
    }
}

/// Takes all steps of plans until nothing is left or something fails.
async fn settle(bench: &Bench) -> Vec<String> {
    for _ in 0..10 {
        let plan = bench.world.borrow().decide(&name(), Timestamp::now());
        if plan.steps.is_empty() {
            break;
        }
        for step in plan.steps {
            if bench.actor.volume(&name(), step).await != Outcome::Progress {
                break;
            }
        }
    }
    let asked = bench.asked.lock().unwrap();
    asked.iter().map(|(line, _)| line.clone()).collect()
}

#[tokio::test]
async fn a_data_volume_gets_claim_certificate_service_and_pod_in_this_order() {
    let bench = bench(None);
    let asked = settle(&bench).await;
    let wanted = [
        "POST /api/v1/namespaces/ns/persistentvolumeclaims",
        "PATCH /apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/cdi-upload-proxy-policy",
        "PATCH /api/v1/namespaces/ns/secrets/cdi-upload-disk",
        "PATCH /api/v1/namespaces/ns/services/cdi-upload-disk",
        "POST /api/v1/namespaces/ns/pods",
    ];
    assert_eq!(asked[..5], wanted);
    let all = bench.asked.lock().unwrap();
    let secret = &all[2].1["stringData"];
    let ca = std::fs::read_to_string(
        bench
            .certificates
            .path()
            .join("cdi-uploadserver-signer/tls.crt"),
    );
    assert!(kube_kit::certs::fits(
        secret["tls.crt"].as_str().unwrap(),
        &ca.unwrap(),
        &[
            "cdi-upload-disk.ns.svc",
            "cdi-upload-disk.ns",
            "cdi-upload-disk"
        ]
        .map(str::to_owned),
    ));
    assert_eq!(secret["ca-bundle.crt"], "clients");
}

#[tokio::test]
async fn a_quota_is_told_on_the_data_volume_and_not_stormed() {
    let bench = bench(Some((
        "POST /api/v1/namespaces/ns/persistentvolumeclaims",
        403,
        "exceeded quota: storage",
    )));
    settle(&bench).await;
    let asked = bench.asked.lock().unwrap();
    let creates = asked
        .iter()
        .filter(|(line, _)| line.ends_with("persistentvolumeclaims"))
        .count();
    assert_eq!(creates, 1);
    let status = asked
        .iter()
        .find(|(line, _)| line.ends_with("datavolumes/disk/status"))
        .unwrap();
    let bound = &status.1["status"]["conditions"][0];
    assert_eq!(bound["reason"], "ErrExceededQuota");
    assert!(
        bound["message"]
            .as_str()
            .unwrap()
            .contains("exceeded quota")
    );
}

#[tokio::test]
async fn a_server_that_cannot_be_made_is_not_stormed_though_its_certificate_is() {
    let pods = "POST /api/v1/namespaces/ns/pods";
    let bench = bench(Some((pods, 403, "exceeded quota: pods")));
    let asked = settle(&bench).await;
    assert_eq!(asked.iter().filter(|line| *line == pods).count(), 1);
}

#[tokio::test]
async fn a_policy_that_cannot_be_made_stops_no_upload() {
    let bench = bench(Some(("networkpolicies", 403, "forbidden")));
    let asked = settle(&bench).await;
    assert!(asked.contains(&"POST /api/v1/namespaces/ns/pods".to_owned()));
}

#[tokio::test]
async fn a_claim_that_somebody_writes_is_not_copied() {
    let bench = bench(None);
    let busy: Pod = serde_json::from_value(json!({
        "metadata": {"name": "vm"},
        "spec": {"containers": [], "volumes": [{"name": "d",
            "persistentVolumeClaim": {"claimName": "golden"}}]},
    }))
    .unwrap();
    let list = json!({"metadata": {}, "items": [busy]});
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let list = list.clone();
        async move {
            assert_eq!(request.method(), "GET");
            let body = Body::from(list.to_string().into_bytes());
            Ok::<_, tower::BoxError>(http::Response::new(body))
        }
    });
    let actor = Actor::new(
        kube::Client::new(service, "default"),
        Rc::clone(&bench.world),
        WorkQueue::new(),
        bench.certificates.path().to_owned(),
    );
    let mut plan = decide::plan::Plan::default();
    plan.push(Op::CreatePod {
        pod: json!({}),
        unused: Some("golden".to_owned()),
    });
    let step = plan.steps.remove(0);
    assert_eq!(actor.volume(&name(), step).await, Outcome::Failed);
}

/// An actor on an API server that has one volume, which is claim `owner`'s, and what it
/// was asked to change.
fn rebinding(owner: &'static str) -> (Actor, Asked) {
    let bench = bench(None);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let seen = Arc::clone(&seen);
        async move {
            let line = format!("{} {}", request.method(), request.uri().path());
            let bytes = request.into_body().collect_bytes().await.unwrap();
            if !line.starts_with("GET") {
                let body = serde_json::from_slice(&bytes).unwrap_or(json!({}));
                seen.lock().unwrap().push((line, body));
            }
            let volume = json!({
                "apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": "pv", "resourceVersion": "7"},
                "spec": {"claimRef": {"namespace": "ns", "name": "x", "uid": owner}},
            });
            let body = Body::from(volume.to_string().into_bytes());
            Ok::<_, tower::BoxError>(http::Response::new(body))
        }
    });
    let client = kube::Client::new(service, "default");
    let certificates = bench.certificates.path().to_owned();
    let actor = Actor::new(
        client,
        Rc::clone(&bench.world),
        WorkQueue::new(),
        certificates,
    );
    (actor, asked)
}

#[tokio::test]
async fn a_volume_goes_from_the_prime_to_the_claim_and_from_nobody_else() {
    for (owner, outcome, patches) in [
        ("prime", Outcome::Settled, 1),
        ("claim", Outcome::Settled, 0),
        ("stranger", Outcome::Told, 0),
    ] {
        let (actor, asked) = rebinding(owner);
        let mut plan = decide::plan::Plan::default();
        plan.push(Op::Rebind {
            volume: "pv".to_owned(),
            from: "prime".to_owned(),
            to: "claim".to_owned(),
        });
        let mut step = plan.steps.remove(0);
        step.failed = Some("ErrRebind");
        assert_eq!(actor.volume(&name(), step).await, outcome, "{owner}");
        let asked = asked.lock().unwrap();
        let volume: Vec<&Value> = asked
            .iter()
            .filter(|(line, _)| line.ends_with("persistentvolumes/pv"))
            .map(|(_, body)| body)
            .collect();
        assert_eq!(volume.len(), patches, "{owner}");
        for patch in volume {
            assert_eq!(patch["metadata"]["resourceVersion"], "7");
            assert_eq!(patch["spec"]["claimRef"]["uid"], "claim");
            assert_eq!(patch["spec"]["claimRef"]["name"], "disk");
        }
    }
}

#[test]
fn a_claim_that_is_populated_wakes_with_its_source_and_its_prime() {
    let mut world = world();
    let target: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "uid": "u1", "annotations": {
            "volume.kubernetes.io/selected-node": "edge1"}},
        "spec": {"storageClassName": "local", "dataSourceRef": {
            "apiGroup": "cdi.kubevirt.io", "kind": "VolumeImportSource", "name": "src"}},
    }))
    .unwrap();
    world.put(target);
    let source: api::cdi::VolumeImportSource = serde_json::from_value(json!({
        "metadata": {"name": "src", "namespace": "ns"}, "spec": {"source": {"blank": {}}},
    }))
    .unwrap();
    assert_eq!(world.put(source), [Key::Volume(name())]);
    let plan = world.decide(&name(), Timestamp::now());
    let Op::CreateClaim(prime) = &plan.steps[0].op else {
        panic!("expected a prime, found {:?}", plan.steps)
    };
    assert!(world.put((**prime).clone()).contains(&Key::Volume(name())));
    let own = Name {
        namespace: "ns".to_owned(),
        name: "prime-u1".to_owned(),
    };
    let plan = world.decide(&own, Timestamp::now());
    assert!(
        matches!(plan.steps[0].op, Op::CreatePod { .. }),
        "{:?}",
        plan.steps
    );
}

#[test]
fn an_upload_wakes_when_its_policy_or_service_is_taken_away() {
    use kube_kit::watch::Event;
    let mut world = world();
    let claim = |name: &str, namespace: &str, note: &str| -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"),
                "annotations": {(note): "x"}},
            "spec": {},
        }))
        .unwrap()
    };
    let upload = "cdi.kubevirt.io/storage.upload.target";
    world.put(claim("disk", "ns", upload));
    world.put(claim("other", "ns", upload));
    world.put(claim("disk", "elsewhere", upload));
    world.put(claim(
        "import",
        "ns",
        "cdi.kubevirt.io/storage.import.endpoint",
    ));
    let policy: super::ways::Policy = serde_json::from_value(json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": "cdi-upload-proxy-policy", "namespace": "ns"},
    }))
    .unwrap();
    let service: super::ways::Door = serde_json::from_value(json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": "cdi-upload-disk", "namespace": "ns"},
    }))
    .unwrap();
    let keys = |mut keys: Vec<Key>| {
        keys.sort_by_key(|key| format!("{key:?}"));
        keys
    };
    let other = Name {
        namespace: "ns".to_owned(),
        name: "other".to_owned(),
    };
    assert!(world.see_policy(Event::Applied(policy.clone())).is_empty());
    assert!(world.ways.policy("ns") && !world.ways.policy("elsewhere"));
    assert_eq!(
        keys(world.see_policy(Event::Deleted(policy))),
        [Key::Volume(name()), Key::Volume(other)]
    );
    assert!(!world.ways.policy("ns"));
    world.see_service(Event::Restarted(vec![service.clone()]));
    assert_eq!(
        world.see_service(Event::Deleted(service)),
        [Key::Volume(name())]
    );
}

/// A DataVolume `disk` that is a clone of claim `golden`, and that claim.
fn clone_of_golden() -> (DataVolume, PersistentVolumeClaim) {
    let mut dv = dv();
    dv.spec.source =
        serde_json::from_value(json!({"pvc": {"namespace": "ns", "name": "golden"}})).unwrap();
    let golden = serde_json::from_value(json!({
        "metadata": {"name": "golden", "namespace": "ns", "uid": "golden-uid"},
        "spec": {"volumeName": "pv-1", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound"},
    }))
    .unwrap();
    (dv, golden)
}

#[test]
fn storage_is_looked_at_only_for_a_clone_that_is_to_be_made() {
    let mut world = world();
    world.put(dv());
    assert_eq!(world.wants(&name()), None);
    let (mut clone, golden) = clone_of_golden();
    clone.metadata.resource_version = Some("2".to_owned());
    world.put(clone.clone());
    assert_eq!(world.wants(&name()), None, "there is nothing to clone yet");
    world.put(golden);
    let want = world.wants(&name()).unwrap();
    assert_eq!(want.volume.as_deref(), Some("pv-1"));
    assert_eq!(want.snapshot.name, "tmp-snapshot-dv-uid");
    // Nobody knows yet whether there are classes of snapshots; then there are none.
    assert!(!world.restores(&want));
    assert_eq!(
        world.set_snapshot_classes(Vec::new()),
        [Key::Class("local".to_owned())]
    );
    assert!(world.set_snapshot_classes(Vec::new()).is_empty());
    clone.spec.source =
        serde_json::from_value(json!({"snapshot": {"namespace": "elsewhere", "name": "s"}})).ok();
    clone.metadata.resource_version = Some("3".to_owned());
    world.put(clone.clone());
    let want = world.wants(&name()).unwrap();
    assert!(world.restores(&want));
    let claim = |namespace: &str, name: &str, notes: Value| -> PersistentVolumeClaim {
        let meta = json!({"name": name, "namespace": namespace, "uid": "u", "annotations": notes});
        serde_json::from_value(json!({"metadata": meta, "spec": {}})).unwrap()
    };
    // A snapshot of another namespace is restored when there is a pod to own the claim.
    let far = json!({"k8s.io/CloneRequest": "elsewhere/s", "edgevirt.local/from-snapshot": "true"});
    world.put(claim("ns", "disk", far));
    assert_eq!(world.wants(&name()), Some(want));
    let keys = world.put(claim("elsewhere", "tmp-source-pvc-u", json!({})));
    assert!(keys.contains(&Key::Volume(name())), "{keys:?}");
    assert_eq!(world.wants(&name()), None, "it is restored");
    world.put(claim("ns", "disk", json!({})));
    assert_eq!(world.wants(&name()), None, "it was made");
}

#[tokio::test]
async fn a_step_that_fails_ends_its_plan() {
    let bench = bench(Some(("volumesnapshots", 403, "no")));
    let (dv, golden) = clone_of_golden();
    let mut dv = dv;
    dv.metadata.resource_version = Some("2".to_owned());
    bench.world.borrow_mut().put(dv);
    bench.world.borrow_mut().put(golden);
    let step = decide::plan::Step {
        op: Op::CreateSnapshot {
            object: json!({"metadata": {"name": "tmp-snapshot-dv-uid"}}),
            unused: "golden".to_owned(),
        },
        done: None,
        failed: Some("ErrUnableToClone"),
    };
    assert_eq!(bench.actor.volume(&name(), step).await, Outcome::Told);
    let asked = bench.asked.lock().unwrap();
    // Nobody may write to what a snapshot is taken of.
    assert_eq!(asked[0].0, "GET /api/v1/namespaces/ns/pods");
}
