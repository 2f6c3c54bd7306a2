//! Tables of the operator's decisions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::status::Progress;
use super::*;
use crate::operate::checks::{self, find};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

fn config() -> Config {
    Config {
        namespace: "kubevirt".into(),
        version: "v0.1.0".into(),
        image: "edgevirt.local/virt:aaa".into(),
        launcher_image: "edgevirt.local/virt-launcher:bbb".into(),
    }
}

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

#[allow(clippy::needless_pass_by_value, reason = "tables read better")]
fn kubevirt(spec: Value) -> KubeVirt {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt",
        "metadata": { "name": "kubevirt", "namespace": "kubevirt", "finalizers": [names::KUBEVIRT_FINALIZER], "generation": 3 },
        "spec": spec
    }))
    .unwrap()
}

fn keys(rendered: &Rendered) -> BTreeSet<Key> {
    checks::keys(rendered, &MANAGED, MANAGER)
}

#[test]
fn every_object_is_named_labelled_unique_and_of_a_managed_kind() {
    assert!(!keys(&render(&config(), &kubevirt(json!({})), "PEM")).is_empty());
}

#[test]
fn the_crd_of_kubevirt_itself_is_left_to_the_manifest() {
    let rendered = render(&config(), &kubevirt(json!({})), "PEM");
    let crds: Vec<&str> = rendered
        .all()
        .filter(|object| object["kind"] == "CustomResourceDefinition")
        .filter_map(|object| object["metadata"]["name"].as_str())
        .collect();
    assert_eq!(
        crds,
        [
            "virtualmachines.kubevirt.io",
            "virtualmachineinstances.kubevirt.io"
        ]
    );
}

#[test]
fn replicas_decide_budgets() {
    let one = render(
        &config(),
        &kubevirt(json!({ "infra": { "replicas": 1 } })),
        "PEM",
    );
    assert_eq!(find(&one, "Deployment", "virt-api")["spec"]["replicas"], 1);
    assert!(
        !one.all()
            .any(|object| object["kind"] == "PodDisruptionBudget")
    );
    let three = render(
        &config(),
        &kubevirt(json!({ "infra": { "replicas": 3 } })),
        "PEM",
    );
    assert_eq!(
        find(&three, "PodDisruptionBudget", "virt-controller-pdb")["spec"]["minAvailable"],
        2
    );
}

#[test]
fn placement_adds_labels_and_tolerations() {
    let spec = json!({ "workloads": { "nodePlacement": {
        "nodeSelector": { "role": "edge" }, "tolerations": [{ "key": "k", "operator": "Exists" }]
    } } });
    let rendered = render(&config(), &kubevirt(spec), "PEM");
    let pod = &find(&rendered, "DaemonSet", "virt-handler")["spec"]["template"]["spec"];
    assert_eq!(
        pod["nodeSelector"],
        json!({ "kubernetes.io/os": "linux", "role": "edge" })
    );
    assert_eq!(pod["tolerations"].as_array().unwrap().len(), 3);
    let api = &find(&rendered, "Deployment", "virt-api")["spec"]["template"]["spec"];
    assert_eq!(api["nodeSelector"], json!({ "kubernetes.io/os": "linux" }));
}

#[test]
fn the_number_of_devices_a_node_offers_reaches_the_handler() {
    let flag = |spec: Value| {
        let rendered = render(&config(), &kubevirt(spec), "PEM");
        let args = &find(&rendered, "DaemonSet", "virt-handler")["spec"]["template"]["spec"]["containers"]
            [0]["args"];
        let args: Vec<String> = serde_json::from_value(args.clone()).unwrap();
        args.iter()
            .position(|arg| arg == "--max-devices")
            .map(|at| args[at + 1].clone())
    };
    assert_eq!(flag(json!({})), None);
    assert_eq!(
        flag(json!({ "configuration": { "virtualMachineInstancesPerNode": 7 } })),
        Some("7".to_owned())
    );
}

#[test]
fn only_the_handler_is_privileged() {
    let rendered = render(&config(), &kubevirt(json!({})), "PEM");
    for object in rendered
        .all()
        .filter(|object| !object["spec"]["template"].is_null())
    {
        let pod = &object["spec"]["template"]["spec"];
        let handler = object["metadata"]["name"] == HANDLER;
        assert_eq!(
            pod["containers"][0]["securityContext"]["privileged"] == true,
            handler
        );
        assert_eq!(pod["hostPID"] == true, handler);
        assert_eq!(pod["securityContext"]["runAsNonRoot"] == true, !handler);
    }
}

#[test]
fn our_own_updates_of_machines_ask_no_webhook() {
    let rendered = render(&config(), &kubevirt(json!({})), "PEM");
    let mut asked = Vec::new();
    for object in rendered
        .all()
        .filter(|object| !object["webhooks"].is_null())
    {
        for hook in object["webhooks"].as_array().unwrap() {
            let updates = hook["rules"][0]["operations"]
                .as_array()
                .unwrap()
                .contains(&json!("UPDATE"));
            let machines = hook["rules"][0]["resources"][0] != "kubevirts";
            let spared = hook["matchConditions"][0]["expression"]
                .as_str()
                .is_some_and(|text| {
                    text.contains("system:serviceaccount:kubevirt:kubevirt-handler")
                });
            assert_eq!(spared, updates && machines, "{hook}");
            assert_eq!(
                hook["failurePolicy"],
                if machines { "Fail" } else { "Ignore" }
            );
            asked.push(hook["name"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(asked.len(), 8);
}

#[test]
fn image_settings_move_both_images() {
    let moved = |spec: Value| config().with_images_of(&kubevirt(spec));
    assert_eq!(moved(json!({})), config());
    let both = moved(json!({ "imageRegistry": "r.example/x/", "imageTag": "v2" }));
    assert_eq!(
        (both.image.as_str(), both.launcher_image.as_str()),
        ("r.example/x/virt:v2", "r.example/x/virt-launcher:v2")
    );
    assert_eq!(
        moved(json!({ "imageTag": "sha256:ff" })).image,
        "edgevirt.local/virt@sha256:ff"
    );
    assert_eq!(moved(json!({ "imageRegistry": "r" })).image, "r/virt:aaa");
    assert_ne!(both.deployment_id(), config().deployment_id());
    assert_eq!(config().deployment_id().len(), 40);
}

#[test]
fn certificate_lifetimes_default_and_are_checked() {
    let policy = |ca: Value, server: Value| {
        cert_policy(&kubevirt(
            json!({ "certificateRotateStrategy": { "selfSigned": { "ca": ca, "server": server } } }),
        ))
    };
    let default = cert_policy(&kubevirt(json!({}))).unwrap();
    assert_eq!(
        (
            default.authority.duration.as_hours(),
            default.leaf.duration.as_hours()
        ),
        (168, 24)
    );
    assert_eq!(default.leaf.renew_before.as_mins(), 288);
    let given = policy(
        json!({ "duration": "48h0m0s" }),
        json!({ "duration": "1h30m0s", "renewBefore": "10m0s" }),
    )
    .unwrap();
    assert_eq!(
        (
            given.authority.duration.as_hours(),
            given.leaf.duration.as_mins()
        ),
        (48, 90)
    );
    assert_eq!(given.leaf.renew_before.as_mins(), 10);
    for (ca, server, path) in [
        (json!({ "duration": "soon" }), json!({}), "ca.duration"),
        (json!({ "duration": "-1h" }), json!({}), "ca.duration"),
        (
            json!({}),
            json!({ "renewBefore": "24h" }),
            "server.renewBefore",
        ),
        (json!({ "duration": "1h" }), json!({}), "server.duration"),
    ] {
        let error = policy(ca, server).unwrap_err();
        assert!(error.path.ends_with(path), "{error}");
    }
}

#[test]
fn steps_of_an_installation() {
    let wanted = keys(&render(&config(), &kubevirt(json!({})), "PEM"));
    let mut fresh = kubevirt(json!({}));
    fresh.metadata.finalizers = None;
    assert_eq!(step(&fresh, &Observed::default(), &wanted), Step::Adopt);
    let ours = kubevirt(json!({}));
    let mut observed = Observed {
        present: wanted.clone(),
        ..Observed::default()
    };
    assert_eq!(
        step(&ours, &observed, &wanted),
        Step::Install { obsolete: vec![] }
    );
    let old = Key {
        name: "virt-old".into(),
        ..wanted.first().unwrap().clone()
    };
    observed.present.insert(old.clone());
    assert_eq!(
        step(&ours, &observed, &wanted),
        Step::Install {
            obsolete: vec![old]
        }
    );
    observed.another_active = true;
    assert_eq!(step(&ours, &observed, &wanted), Step::Ignore);
    observed.another_active = false;
    observed.misplaced = true;
    assert_eq!(step(&ours, &observed, &wanted), Step::Ignore);
}

#[test]
fn deletion_takes_webhooks_then_crds_then_the_rest() {
    let rendered = render(&config(), &kubevirt(json!({})), "PEM");
    let mut observed = Observed {
        present: keys(&rendered),
        ..Observed::default()
    };
    let mut gone = kubevirt(json!({}));
    gone.metadata.deletion_timestamp = Some(Time(now()));
    let mut kinds: Vec<BTreeSet<String>> = Vec::new();
    loop {
        match step(&gone, &observed, &BTreeSet::new()) {
            Step::Remove(keys) => {
                kinds.push(keys.iter().map(|key| key.kind.clone()).collect());
                for key in keys {
                    observed.present.remove(&key);
                }
            }
            Step::Release => break,
            other => panic!("{other:?}"),
        }
    }
    let set = |list: &[&str]| {
        list.iter()
            .map(|kind| (*kind).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        kinds[0],
        set(&[
            "APIService",
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration"
        ])
    );
    assert_eq!(kinds[1], set(&["CustomResourceDefinition"]));
    assert_eq!(kinds.len(), 3);
    gone.metadata.finalizers = None;
    assert_eq!(step(&gone, &observed, &BTreeSet::new()), Step::Nothing);
}

#[test]
fn workloads_block_deletion_only_when_asked_and_only_before_it_began() {
    let mut gone = kubevirt(json!({ "uninstallStrategy": BLOCK_UNINSTALL }));
    gone.metadata.deletion_timestamp = Some(Time(now()));
    let observed = Observed {
        workloads_exist: true,
        ..Observed::default()
    };
    assert_eq!(step(&gone, &observed, &BTreeSet::new()), Step::Blocked);
    // Saying so does not begin the deletion.
    let refused = status::next(
        &gone,
        &config(),
        &Progress::DeletionFailed("vms".into()),
        now(),
    );
    gone.status = Some(refused);
    assert_eq!(step(&gone, &observed, &BTreeSet::new()), Step::Blocked);
    let status = status::next(&gone, &config(), &Progress::Deleting, now());
    gone.status = Some(status);
    assert_eq!(step(&gone, &observed, &BTreeSet::new()), Step::Release);
    let mut free = kubevirt(json!({ "uninstallStrategy": "RemoveWorkloads" }));
    free.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(step(&free, &observed, &BTreeSet::new()), Step::Release);
}

/// `Type=Status:Reason` of all conditions, in order.
fn conditions(status: &api::kubevirt::KubeVirtStatus) -> Vec<String> {
    status
        .conditions
        .iter()
        .map(|one| format!("{}={}:{}", one.type_, one.status, one.reason))
        .collect()
}

#[test]
fn conditions_follow_progress() {
    let mut object = kubevirt(json!({}));
    let mut go = |progress: Progress, config: &Config| {
        let status = status::next(&object, config, &progress, now());
        object.status = Some(status.clone());
        status
    };
    let first = go(Progress::Applying, &config());
    assert_eq!(first.phase, "Deploying");
    assert_eq!(
        conditions(&first),
        [
            "Available=False:DeploymentInProgress",
            "Progressing=True:DeploymentInProgress",
            "Degraded=False:DeploymentInProgress"
        ]
    );
    let ready = go(Progress::Ready, &config());
    assert_eq!(ready.phase, "Deployed");
    assert_eq!(ready.observed_generation, Some(3));
    assert_eq!(ready.observed_kube_virt_version, "v0.1.0");
    assert_eq!(
        conditions(&ready),
        [
            "Available=True:AllComponentsReady",
            "Progressing=False:AllComponentsReady",
            "Degraded=False:AllComponentsReady",
            "Created=True:AllResourcesCreated"
        ]
    );
    let newer = Config {
        version: "v0.2.0".into(),
        ..config()
    };
    let updating = go(Progress::Applied, &newer);
    assert_eq!(updating.phase, "Deployed");
    assert!(
        conditions(&updating)[..3]
            .iter()
            .all(|one| one.contains("=True:UpdateInProgress"))
    );
    let failed = go(Progress::Failed("why".into()), &newer);
    assert!(
        failed
            .conditions
            .iter()
            .any(|one| one.type_ == "Synchronized" && one.message.contains("why"))
    );
    let deleting = go(Progress::Deleting, &newer);
    assert_eq!(deleting.phase, "Deleting");
    assert!(
        !deleting
            .conditions
            .iter()
            .any(|one| one.type_ == "Created" || one.type_ == "Synchronized")
    );
}

#[test]
fn an_unchanged_status_is_not_written_and_times_move_only_with_change() {
    let mut object = kubevirt(json!({}));
    object.status = Some(status::next(&object, &config(), &Progress::Ready, now()));
    let later = now() + jiff::SignedDuration::from_hours(1);
    let again = status::next(&object, &config(), &Progress::Ready, later);
    assert_eq!(status::patch(&object, &again, "edgevirt.local"), None);
    let worse = status::next(&object, &config(), &Progress::Applied, later);
    let patch = status::patch(&object, &worse, "edgevirt.local").unwrap();
    assert_eq!(patch["status"]["targetKubeVirtRegistry"], "edgevirt.local");
    let created = condition(&worse, "Created");
    assert_eq!(created.last_transition_time, Some(Time(now())));
    assert_eq!(
        condition(&worse, "Available").last_transition_time,
        Some(Time(later))
    );
}

fn condition<'a>(status: &'a api::kubevirt::KubeVirtStatus, type_: &str) -> &'a api::Condition {
    api::condition::find(&status.conditions, type_).unwrap()
}

const MANIFEST: &str = include_str!("../../../../manifests/kubevirt-operator.yaml.j2");

fn roles(kinds: &[&str]) -> Vec<Value> {
    checks::documents(MANIFEST, kinds, ("namespace", "kubevirt"))
}

#[test]
fn the_operator_may_grant_what_it_renders() {
    let mut own = roles(&["ClusterRole", "Role"]);
    own.retain(|role| role["metadata"]["name"] == "kubevirt-operator");
    let rendered = render(&config(), &kubevirt(json!({})), "PEM");
    checks::may_grant(&own, &rendered);
}

/// What RBAC answers: the rules are additive, `*` stands for everything.
fn may(rules: &[Value], verb: &str, group: &str, resource: &str) -> bool {
    let has = |list: &Value, item: &str| {
        let mut all = list.as_array().unwrap().iter();
        all.any(|one| one == item || one == "*")
    };
    rules.iter().any(|rule| {
        has(&rule["verbs"], verb)
            && has(&rule["apiGroups"], group)
            && has(&rule["resources"], resource)
    })
}

/// Secrets hold users' passwords and our authority's key. The kubelet mounts
/// what a guest or a component needs, so only the operator, who makes
/// certificates, may read any: those of its own namespace.
#[test]
fn no_component_may_read_secrets() {
    let rendered = render(&config(), &kubevirt(json!({})), "PEM");
    let bindings: Vec<&Value> = rendered
        .all()
        .filter(|object| object["roleRef"].is_object())
        .collect();
    for account in [
        "kubevirt-apiserver",
        "kubevirt-controller",
        "kubevirt-handler",
    ] {
        let rules: Vec<Value> = bindings
            .iter()
            .filter(|binding| binding["subjects"][0]["name"] == account)
            .map(|binding| {
                let role = &binding["roleRef"];
                let (kind, name) = (role["kind"].as_str(), role["name"].as_str());
                find(&rendered, kind.unwrap(), name.unwrap())
            })
            .flat_map(|role| role["rules"].as_array().unwrap().clone())
            .collect();
        assert!(may(&rules, "get", "kubevirt.io", "kubevirts") || may(&rules, "get", "", "pods"));
        for verb in [
            "get", "list", "watch", "create", "patch", "update", "delete",
        ] {
            assert!(
                !may(&rules, verb, "", "secrets"),
                "{account} may {verb} secrets"
            );
        }
    }
    for role in roles(&["ClusterRole"]) {
        let rules = role["rules"].as_array().unwrap();
        assert!(!may(rules, "get", "", "secrets"), "{role}");
    }
}
