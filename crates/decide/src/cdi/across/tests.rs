//! Clones across namespaces, step by step.
#![allow(clippy::needless_pass_by_value, clippy::unwrap_used, clippy::panic)]

use api::cdi::DataVolume;

use super::*;
use crate::cdi::claim::build;
use crate::cdi::cluster::Class;
use crate::cdi::smart::{Look, Snapshot};
use crate::cdi::volume::decide;
use crate::plan::Failure;

fn cluster() -> Cluster {
    let class = Class {
        name: "local".to_owned(),
        provisioner: "rancher.io/local-path".to_owned(),
        default: true,
        waits: true,
        ..Class::default()
    };
    Cluster {
        classes: [("local".to_owned(), class)].into(),
        worker_image: "worker:1".to_owned(),
        namespace: "cdi".to_owned(),
        ..Cluster::default()
    }
}

fn original(mode: &str, notes: Value) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": "golden", "namespace": "far", "annotations": notes},
        "spec": {"volumeMode": mode, "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound"},
    }))
    .unwrap()
}

fn dv() -> DataVolume {
    serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "uid": "dv-uid",
            "annotations": {"cdi.kubevirt.io/cloneType": "copy"}},
        "spec": {"source": {"pvc": {"namespace": "far", "name": "golden"}},
            "storage": {"resources": {"requests": {"storage": "1Gi"}}}},
    }))
    .unwrap()
}

fn pod(name: &str, namespace: &str, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": "pod-uid",
            "labels": {"cdi.kubevirt.io": "cdi-clone-source", "edgevirt.local/claim-uid": "claim-uid"},
            "annotations": {"cdi.kubevirt.io/storage.ownerRef": "ns/disk"},
            "creationTimestamp": "1970-01-01T00:00:00Z",
        },
        "status": status,
    }))
    .unwrap()
}

fn ends(code: i32, word: &str) -> Value {
    json!({"phase": if code == 0 { "Succeeded" } else { "Failed" }, "containerStatuses": [{
        "name": "cloner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "message": word, "finishedAt": "1970-01-01T00:00:00Z"}},
    }]})
}

struct World {
    dv: DataVolume,
    look: Option<Look>,
    claim: Option<PersistentVolumeClaim>,
    original: Option<PersistentVolumeClaim>,
    server: Option<Pod>,
    senders: Vec<Pod>,
    permit: Result<(), String>,
    now: i64,
}

impl World {
    fn new() -> Self {
        Self::of(dv())
    }

    fn of(dv: DataVolume) -> Self {
        let original = original("Filesystem", json!({}));
        let source = dv.spec.source.as_ref();
        let mut claim = build(&dv, source, Some(&original), &cluster()).unwrap();
        claim.metadata.uid = Some("claim-uid".to_owned());
        Self {
            dv,
            look: None,
            claim: Some(claim),
            original: Some(original),
            server: None,
            senders: Vec::new(),
            permit: Ok(()),
            now: 0,
        }
    }

    /// The server runs, and the claim tells so.
    fn served(mut self) -> Self {
        let server = pod("cdi-upload-disk", "ns", json!({"phase": "Pending"}));
        let claim = self.claim.as_mut().unwrap();
        let job = Job::of(claim).unwrap();
        let told = state::annotations(claim, &server, &job, None);
        let notes = claim.metadata.annotations.as_mut().unwrap();
        notes.extend(
            told.into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        self.server = Some(server);
        self
    }

    fn note(mut self, name: &str, value: &str) -> Self {
        let notes = self.claim.as_mut().unwrap().metadata.annotations.as_mut();
        notes.unwrap().insert(name.to_owned(), value.to_owned());
        self
    }

    fn sends(mut self, status: Value) -> Self {
        self.senders = vec![pod("claim-uid-source-pod", "far", status)];
        self
    }

    fn plan(&self) -> Plan<Op> {
        let cluster = cluster();
        let failure: Option<&Failure> = None;
        let seen = Observed {
            dv: Some(&self.dv),
            claim: self.claim.as_ref(),
            pod: self.server.as_ref(),
            source: Ok(self.dv.spec.source.clone()),
            senders: self.senders.iter().collect(),
            permit: self.permit.clone(),
            original: self.original.as_ref(),
            look: self.look.as_ref(),
            population: None,
            progress: None,
            retrying: None,
            renew_at: Some(Timestamp::MAX),
            policy: true,
            service: true,
            failure,
            cluster: &cluster,
        };
        decide(&seen, Timestamp::from_second(self.now).unwrap())
    }

    fn ops(&self) -> Vec<String> {
        let name = |op: &Op| match op {
            Op::CreateClaim(_) => "create claim".to_owned(),
            Op::Certify => "certify".to_owned(),
            Op::Apply(object) | Op::TryApply(object) => {
                format!("apply {}", object["kind"].as_str().unwrap())
            }
            Op::CreatePod { pod, unused } => format!(
                "create {}/{} {}",
                pod["metadata"]["namespace"].as_str().unwrap(),
                pod["metadata"]["name"].as_str().unwrap(),
                unused.as_deref().unwrap_or_default(),
            ),
            Op::DeletePod {
                namespace, name, ..
            } => format!("delete {namespace}/{name}"),
            Op::Delete { kind, .. } => format!("delete {kind}"),
            Op::PatchStatus(status) => format!("status {}", status["status"]["phase"]),
            Op::PatchClaim(patch) => format!(
                "patch {}",
                patch["metadata"]["annotations"]["cdi.kubevirt.io/storage.condition.running.message"]
            ),
            other => format!("{other:?}"),
        };
        self.plan()
            .steps
            .iter()
            .map(|step| name(&step.op))
            .collect()
    }
}

#[test]
fn the_source_pod_is_in_the_sources_namespace_and_the_server_in_the_clones() {
    assert_eq!(
        World::new().ops(),
        [
            "apply NetworkPolicy",
            "apply Service",
            "create far/claim-uid-source-pod golden",
            "certify",
            "create ns/cdi-upload-disk ",
        ]
    );
    let mut fresh = World::new();
    fresh.claim = None;
    assert_eq!(fresh.ops(), ["create claim"]);
}

#[test]
fn nothing_is_made_without_permission_not_even_looked_for() {
    let mut world = World::new();
    world.permit = Err("no token".to_owned());
    for claim in [world.claim.take(), None] {
        world.claim = claim;
        world.original = None;
        let plan = world.plan();
        let status = plan.steps.iter().map(|step| format!("{:?}", step.op));
        let status = status.collect::<String>();
        assert!(
            plan.steps.len() == 1 && status.contains("no token"),
            "{status}"
        );
        assert!(!status.contains("exist"), "{status}");
    }
}

#[test]
fn a_snapshot_is_restored_beside_it_into_a_claim_of_its_source_pods_own() {
    let mut dv = dv();
    let source = json!({"snapshot": {"namespace": "far", "name": "golden"}});
    dv.spec.source = serde_json::from_value(source).unwrap();
    let mut world = World::of(dv);
    world.original = None;
    // Nothing is made before it is known that the snapshot can be restored.
    assert_eq!(world.ops(), [r#"status "Pending""#]);
    assert!(world.plan().requeue.is_some());
    let snapshot = Snapshot {
        ready: true,
        size: 1 << 30,
        driver: Some("rancher.io/local-path".to_owned()),
        block: true,
        ..Snapshot::default()
    };
    world.look = Some(Look {
        snapshot: Some(snapshot),
        ..Look::default()
    });
    let begun = [
        "apply NetworkPolicy",
        "apply Service",
        "create far/claim-uid-source-pod ",
        "certify",
        "create ns/cdi-upload-disk ",
    ];
    assert_eq!(world.ops(), begun);
    let pod = world
        .plan()
        .steps
        .into_iter()
        .find_map(|step| match step.op {
            Op::CreatePod { pod, .. } => Some(pod["spec"].to_string()),
            _ => None,
        });
    let pod = pod.unwrap();
    assert!(
        pod.contains(r#""claimName":"tmp-source-pvc-claim-uid""#)
            && pod.contains("/dev/cdi-source"),
        "{pod}"
    );
    // The pod waits for a claim that goes with it.
    let mut world = world.served().sends(json!({"phase": "Pending"}));
    let steps = world.plan().steps;
    let Some(Op::CreateClaim(own)) = steps.first().map(|step| &step.op) else {
        panic!("expected a claim, found {steps:?}");
    };
    let owner = &own.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str()),
        ("Pod", "pod-uid")
    );
    let meta = (
        own.metadata.namespace.as_deref(),
        own.metadata.name.as_deref(),
    );
    assert_eq!(meta, (Some("far"), Some("tmp-source-pvc-claim-uid")));
    let spec = own.spec.as_ref().unwrap();
    assert_eq!(spec.storage_class_name.as_deref(), Some("local"));
    assert_eq!(spec.data_source.as_ref().unwrap().name, "golden");
    world.original = Some((**own).clone());
    assert_eq!(world.ops(), [r#"status "CloneScheduled""#]);
    // Without permission nothing is said of it.
    world = World::of(world.dv);
    world.original = None;
    world.permit = Err("no token".to_owned());
    let said = format!("{:?}", world.plan().steps);
    assert!(
        said.contains("no token") && !said.contains("snapshot golden"),
        "{said}"
    );
}

#[test]
fn a_server_without_its_source_pod_gets_another() {
    let world = World::new().served();
    assert_eq!(
        world.ops(),
        [
            "apply NetworkPolicy",
            "apply Service",
            "create far/claim-uid-source-pod golden",
            "certify"
        ]
    );
    // One that leaves must be gone before.
    let mut leaving = World::new().served().sends(json!({"phase": "Running"}));
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH);
    leaving.senders[0].metadata.deletion_timestamp = Some(now);
    assert_eq!(leaving.ops(), [r#"status "CloneScheduled""#]);
    let works = World::new().served().sends(json!({"phase": "Running"}));
    assert_eq!(works.ops(), [r#"status "CloneScheduled""#]);
}

#[test]
fn a_source_pod_that_sent_all_to_a_server_that_was_killed_sends_again() {
    let mut world = World::new().served().sends(ends(0, "{}"));
    assert_eq!(world.ops(), [r#"status "CloneScheduled""#]);
    world.now = 15;
    assert_eq!(world.ops(), ["delete far/claim-uid-source-pod"]);
}

#[test]
fn what_the_source_pod_cannot_do_is_final_and_told() {
    let word = r#"{"error": "no disk", "permanent": true}"#;
    let world = World::new().served().sends(ends(1, word));
    assert_eq!(world.ops(), [r#"patch "no disk""#]);
}

#[test]
fn no_source_pod_outlives_its_clone() {
    let gone = ["delete far/claim-uid-source-pod"];
    let running = || json!({"phase": "Running"});
    // Whole, failed, of another claim of the name, without one.
    for (name, value) in [(note::POD_PHASE, "Succeeded"), (note::FATAL_ERROR, "true")] {
        let mut world = World::new().sends(running()).note(name, value);
        assert_eq!(world.ops(), gone, "{name}");
        world = world.note(note::POD_RETAIN, "true");
        assert!(!world.ops().contains(&gone[0].to_owned()));
    }
    let mut another = World::new().sends(running());
    another.claim.as_mut().unwrap().metadata.uid = Some("other".to_owned());
    another.original = None;
    assert_eq!(another.ops(), gone);
    let mut none = World::new().sends(running());
    none.claim = None;
    none.original = None;
    assert_eq!(none.ops(), gone);
    // Where the whole clone's server is there too, it and all around it go first.
    let whole = World::new().served().sends(running());
    let whole = whole.note(note::POD_PHASE, "Succeeded");
    assert_eq!(
        whole.ops(),
        [
            "delete Service",
            "delete Secret",
            "delete NetworkPolicy",
            "delete ns/cdi-upload-disk",
            "delete far/claim-uid-source-pod"
        ]
    );
}

#[test]
fn the_source_is_only_read_and_its_content_decides_how() {
    let claim = World::new().claim.unwrap();
    for (mode, content, from) in [
        ("Filesystem", "kubevirt", "--from /source/disk.img"),
        ("Block", "kubevirt", "--from /dev/cdi-source"),
        (
            "Filesystem",
            "archive",
            "--content-type archive --from /source",
        ),
    ] {
        let mut claim = claim.clone();
        let notes = claim.metadata.annotations.as_mut().unwrap();
        notes.insert(note::CONTENT_TYPE.to_owned(), content.to_owned());
        notes.insert(note::SERVICE_ACCOUNT.to_owned(), "mine".to_owned());
        let original = original(mode, json!({}));
        let job = Job::of(&claim).unwrap();
        let source = Source::of(&job).unwrap();
        let pod = source_pod(&claim, source, Some(&original), &cluster());
        let args = pod["spec"]["containers"][0]["args"].as_array().unwrap();
        let args: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
        let args = args.join(" ");
        assert!(
            args.starts_with("send --to cdi-upload-disk.ns.svc:8443"),
            "{args}"
        );
        assert!(args.ends_with(from), "{args}");
        // An account of the clone's namespace is none of the source's.
        assert!(pod["spec"]["serviceAccountName"].is_null());
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let volumes = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
        let read = volumes[1].persistent_volume_claim.as_ref().unwrap();
        assert_eq!(
            (read.claim_name.as_str(), read.read_only),
            ("golden", Some(true))
        );
        assert!(reads_for(&pod, &claim, "far") && target(&pod) == Some(("ns", "disk")));
        assert!(pod.metadata.owner_references.is_none());
    }
    let policy = policy(&claim, "far").to_string();
    assert!(
        policy.contains("claim-uid") && !policy.contains("uploadproxy"),
        "{policy}"
    );
}

#[test]
fn an_archive_is_cloned_as_one_and_drivers_are_not_asked_across() {
    let (mut cluster, dv) = (cluster(), dv());
    cluster.clone_strategy = Some("csi-clone".to_owned());
    let archive = original("Filesystem", json!({(note::CONTENT_TYPE): "archive"}));
    let mut world = World::new();
    world.claim = None;
    let claim = build(&dv, dv.spec.source.as_ref(), Some(&archive), &cluster).unwrap();
    assert_eq!(of(&claim, note::CONTENT_TYPE), Some("archive"));
    let owner = crate::cdi::claim::owner(&dv);
    let origin = crate::cdi::smart::Origin::Claim(&archive);
    let next = crate::cdi::smart::next(claim, &owner, origin, None, &cluster);
    let next = format!("{next:?}");
    assert!(
        next.contains("Source and target are in different namespaces"),
        "{next}"
    );
}
