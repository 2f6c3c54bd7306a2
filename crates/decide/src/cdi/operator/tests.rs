//! Tables of the operator's decisions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::status::Progress;
use super::*;
use crate::operate::checks::{self, find};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn config() -> Config {
    Config {
        namespace: "cdi".into(),
        version: "v0.1.0".into(),
        image: "edgevirt.local/virt:aaa".into(),
    }
}

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

#[allow(clippy::needless_pass_by_value, reason = "tables read better")]
fn cdi(spec: Value) -> CDI {
    serde_json::from_value(json!({
        "apiVersion": names::API_VERSION, "kind": "CDI",
        "metadata": { "name": "cdi", "finalizers": [names::CDI_FINALIZER] },
        "spec": spec
    }))
    .unwrap()
}

fn rendered() -> Rendered {
    render(&config(), &cdi(json!({})), &["PEM".to_owned()])
}

#[test]
fn every_object_is_labelled_unique_and_of_a_managed_kind() {
    let rendered = rendered();
    let keys = checks::keys(&rendered, &MANAGED, MANAGER);
    assert!(!keys.iter().any(|key| key.name == "cdis.cdi.kubevirt.io"));
}

#[test]
fn what_pods_mount_is_rendered_or_a_certificate_or_made_by_the_apiserver() {
    let rendered = rendered();
    let authorities = authorities(&config(), &cdi(json!({}))).unwrap();
    let mut secrets: Vec<&str> = authorities.iter().map(|one| one.secret).collect();
    secrets.extend(
        authorities
            .iter()
            .filter_map(|one| Some(one.leaf.as_ref()?.secret)),
    );
    secrets.push("cdi-api-signing-key");
    for name in DEPLOYMENTS {
        let pod = &find(&rendered, "Deployment", name)["spec"]["template"]["spec"];
        for volume in pod["volumes"].as_array().unwrap() {
            if let Some(secret) = volume["secret"]["secretName"].as_str() {
                assert!(secrets.contains(&secret), "{name}: {secret}");
            } else {
                find(
                    &rendered,
                    "ConfigMap",
                    volume["configMap"]["name"].as_str().unwrap(),
                );
            }
        }
    }
    for (authority, name) in authorities.iter().zip(endpoints::BUNDLES) {
        assert_eq!(authority.bundle, name);
    }
}

#[test]
fn services_select_the_pods_that_serve_them() {
    let rendered = rendered();
    for (service, deployment) in [
        ("cdi-api", "cdi-apiserver"),
        ("cdi-uploadproxy", "cdi-uploadproxy"),
    ] {
        let selector = &find(&rendered, "Service", service)["spec"]["selector"];
        let template = &find(&rendered, "Deployment", deployment)["spec"]["template"];
        for (label, value) in selector.as_object().unwrap() {
            assert_eq!(&template["metadata"]["labels"][label], value);
        }
    }
}

#[test]
fn the_users_placement_and_replicas_reach_the_pods() {
    let spec = json!({
        "infra": {
            "nodeSelector": { "disk": "fast" },
            "tolerations": [{ "key": "mine", "operator": "Exists" }],
            "uploadProxyReplicas": 3
        },
        "imagePullPolicy": "Always"
    });
    let rendered = render(&config(), &cdi(spec), &[]);
    let proxy = &find(&rendered, "Deployment", "cdi-uploadproxy")["spec"];
    assert_eq!(proxy["replicas"], 3);
    assert_eq!(
        find(&rendered, "Deployment", "cdi-deployment")["spec"]["replicas"],
        1
    );
    let pod = &proxy["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["disk"], "fast");
    assert_eq!(pod["tolerations"][2]["key"], "mine");
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
}

#[test]
fn a_cdi_object_goes_through_its_steps() {
    let wanted: BTreeSet<Key> = rendered().all().map(Key::of).collect();
    let observed = Observed {
        present: wanted.clone(),
        ..Observed::default()
    };
    let ours = cdi(json!({}));
    let mut fresh = ours.clone();
    fresh.metadata.finalizers = None;
    let another = Observed {
        another_active: true,
        ..observed.clone()
    };
    assert_eq!(step(&fresh, &observed, &wanted), Step::Adopt);
    assert_eq!(step(&fresh, &another, &wanted), Step::Ignore);
    let install = Step::Install { obsolete: vec![] };
    assert_eq!(step(&ours, &observed, &wanted), install);
    let mut less = wanted.clone();
    let gone = less.pop_first().unwrap();
    let install = Step::Install {
        obsolete: vec![gone],
    };
    assert_eq!(step(&ours, &observed, &less), install);

    let mut going = cdi(json!({ "uninstallStrategy": BLOCK_UNINSTALL }));
    going.metadata.deletion_timestamp = Some(Time(now()));
    let busy = Observed {
        workloads_exist: true,
        ..observed.clone()
    };
    assert_eq!(step(&going, &busy, &wanted), Step::Blocked);
    assert_eq!(step(&going, &another, &wanted), Step::Release);
    let mut present = wanted;
    let mut kinds = Vec::new();
    loop {
        let now = Observed {
            present: present.clone(),
            ..Observed::default()
        };
        match step(&going, &now, &BTreeSet::new()) {
            Step::Remove(keys) => {
                kinds.push(keys[0].kind.clone());
                present.retain(|key| !keys.contains(key));
            }
            other => {
                assert_eq!(other, Step::Release);
                break;
            }
        }
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
    assert_eq!(kinds[1], "CustomResourceDefinition");
}

#[test]
fn phases_and_conditions_follow_the_rounds() {
    let conditions = |status: &api::cdi::CdiStatus| {
        ["Available", "Progressing", "Degraded"].map(|type_| {
            let one = status.conditions.iter().find(|one| one.type_ == type_);
            one.is_some_and(|one| one.status == "True")
        })
    };
    let mut object = cdi(json!({}));
    let mut seen = Vec::new();
    let mut config = config();
    let rounds = [
        Progress::Applied,
        Progress::Ready,
        // A pod went away.
        Progress::Applied,
        Progress::Ready,
        Progress::Failed("denied".into()),
        Progress::Ready,
    ];
    for progress in rounds {
        let status = status::next(&object, &config, &progress, now());
        seen.push((status.phase.clone(), conditions(&status)));
        object.status = Some(status);
    }
    let row = |phase: &str, of| (phase.to_owned(), of);
    assert_eq!(
        seen,
        [
            row("Deploying", [false, true, false]),
            row("Deployed", [true, false, false]),
            row("Deployed", [true, false, true]),
            row("Deployed", [true, false, false]),
            row("Deployed", [true, true, true]),
            row("Deployed", [true, false, false]),
        ]
    );
    assert_eq!(
        status::patch(&object, object.status.as_ref().unwrap()),
        None
    );
    config.version = "v0.2.0".into();
    let status = status::next(&object, &config, &Progress::Applied, now());
    assert_eq!(
        (status.phase.as_str(), conditions(&status)),
        ("Upgrading", [true, true, true])
    );
    for (progress, phase) in [
        (Progress::Deleting, "Deleting"),
        (Progress::Deleted, "Deleted"),
        (Progress::Ignored, "Error"),
        (Progress::Invalid("spec".into()), "Error"),
    ] {
        assert_eq!(
            status::next(&object, &config, &progress, now()).phase,
            phase
        );
    }
}

#[test]
fn lives_of_certificates_are_the_users_if_they_can_be() {
    let lives = |spec: Value| authorities(&config(), &cdi(spec));
    let [api, ..] = lives(json!({})).unwrap();
    assert_eq!(api.life.duration.as_hours(), 48);
    assert_eq!(api.life.renew_before.as_hours(), 24);
    assert_eq!(api.leaf.unwrap().life.renew_before.as_hours(), 12);
    let [.., client] = lives(json!({ "certConfig": { "client": { "duration": "2h" } } })).unwrap();
    assert_eq!(client.leaf.unwrap().life.duration.as_hours(), 2);
    for (spec, path) in [
        (
            json!({ "ca": { "duration": "soon" } }),
            "spec.certConfig.ca.duration",
        ),
        (
            json!({ "server": { "duration": "1h", "renewBefore": "2h" } }),
            "spec.certConfig.server.renewBefore",
        ),
        (
            json!({ "client": { "duration": "72h" } }),
            "spec.certConfig.client.duration",
        ),
    ] {
        assert_eq!(lives(json!({ "certConfig": spec })).unwrap_err().path, path);
    }
}

#[test]
fn the_config_tells_what_holds() {
    let spec = json!({ "config": {
        "uploadProxyURLOverride": "https://up.example", "filesystemOverhead": { "storageClass": { "a": "0.1" } }
    } });
    let status = status::of_config(&cdi(spec), "PEM");
    assert_eq!(status.upload_proxy_url.unwrap(), "https://up.example");
    assert_eq!(status.upload_proxy_ca.unwrap(), "PEM");
    let overhead = status.filesystem_overhead.unwrap();
    assert_eq!(overhead.global.unwrap(), "0.06");
    assert_eq!(overhead.storage_class["a"], "0.1");
}

const MANIFEST: &str = include_str!("../../../../../manifests/cdi-operator.yaml.j2");

#[test]
fn the_operator_may_grant_what_it_renders() {
    let namespace = ("cdi_namespace", "cdi");
    let own = checks::documents(MANIFEST, &["ClusterRole", "Role"], namespace);
    checks::may_grant(&own, &rendered());
}

/// Secrets of users hold passwords. The kubelet mounts what a pod needs; a
/// program reads only the token key, in its own namespace.
#[test]
fn no_program_may_read_users_secrets() {
    let rendered = rendered();
    for role in rendered
        .all()
        .filter(|object| object["kind"] == "ClusterRole")
    {
        for rule in role["rules"].as_array().unwrap() {
            let has =
                |list: &Value, item: &str| list.as_array().unwrap().iter().any(|one| one == item);
            if has(&rule["resources"], "secrets") {
                for verb in ["get", "list", "watch", "*"] {
                    assert!(!has(&rule["verbs"], verb), "{}", role["metadata"]["name"]);
                }
            }
        }
    }
}

#[test]
fn settings_that_are_taken_back_leave_no_empty_map() {
    for (spec, registries) in [
        (json!({}), json!([])),
        (json!({ "config": { "featureGates": ["A"] } }), json!([])),
        (
            json!({ "config": { "insecureRegistries": ["a"] } }),
            json!(["a"]),
        ),
    ] {
        let object = cdi_config(&config(), &cdi(spec));
        assert_eq!(object["spec"]["insecureRegistries"], registries);
    }
}
