//! A cron from its first look to the collection of its old imports.
#![allow(clippy::unwrap_used)]

use api::cdi::{DataImportCron, DataSource, DataVolume};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::*;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// A cluster with one cron in it, which takes the steps that are decided on.
struct Lab {
    cron: Value,
    source: Option<Value>,
    rival: bool,
    job: Option<String>,
    look: Option<Look>,
    volumes: Vec<Value>,
    claims: Vec<Value>,
    cluster: Cluster,
}

impl Lab {
    fn new(spec: &Value) -> Self {
        let mut cron = json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataImportCron",
            "metadata": {"name": "nightly", "namespace": "ns", "uid": "0123456789ab"},
            "spec": {
                "schedule": "0 1 * * *", "managedDataSource": "golden",
                "template": {"spec": {
                    "source": {"registry": {"url": "docker://r.local:5000/os/disk:1",
                        "secretRef": "login", "certConfigMap": "ca"}},
                    "storage": {"resources": {"requests": {"storage": "1Gi"}}},
                }},
            },
        });
        for (name, value) in spec.as_object().unwrap() {
            cron["spec"][name] = value.clone();
        }
        Self {
            cron,
            source: None,
            rival: false,
            job: None,
            look: None,
            volumes: Vec::new(),
            claims: Vec::new(),
            cluster: Cluster::default(),
        }
    }

    fn decide(&self) -> Plan<Op> {
        let cron: DataImportCron = object(self.cron.clone());
        let source: Option<DataSource> = self.source.clone().map(object);
        let volumes: Vec<DataVolume> = self.volumes.iter().cloned().map(object).collect();
        let claims: Vec<PersistentVolumeClaim> = self.claims.iter().cloned().map(object).collect();
        let find = |name: &str| Import {
            volume: volumes
                .iter()
                .find(|one| one.metadata.name.as_deref() == Some(name)),
            claim: claims
                .iter()
                .find(|one| one.metadata.name.as_deref() == Some(name)),
        };
        let imports = volumes
            .iter()
            .filter(|one| Observed::label_of(&one.metadata) == Some("nightly"))
            .map(|one| find(one.metadata.name.as_deref().unwrap()))
            .collect();
        decide(
            &Observed {
                cron: &cron,
                source: source.as_ref(),
                rival: self.rival,
                job: self.job.as_deref(),
                look: self.look.as_ref(),
                imports,
                find: &find,
                cluster: &self.cluster,
            },
            now(),
        )
    }

    /// Decides and acts until nothing is to be done; what was done, in words.
    fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..10 {
            let plan = self.decide();
            if plan.steps.is_empty() {
                return done;
            }
            for step in plan.steps {
                done.push(self.take(step.op));
            }
        }
        unreachable!("no end: {done:?}")
    }

    fn take(&mut self, op: Op) -> String {
        match op {
            Op::Create(new) | Op::Apply(new) => {
                let name = new["metadata"]["name"].as_str().unwrap().to_owned();
                let kind = new["kind"].as_str().unwrap().to_owned();
                match kind.as_str() {
                    "DataVolume" => {
                        let mut new = new;
                        new["metadata"]["uid"] = json!(name);
                        self.claims.push(json!({"metadata": new["metadata"]}));
                        self.volumes.push(new);
                    }
                    "DataSource" => self.source = Some(new),
                    "CronJob" => {
                        let note = &new["metadata"]["annotations"][note::RENDERED];
                        self.job = note.as_str().map(str::to_owned);
                    }
                    _ => {}
                }
                format!("{kind} {name}")
            }
            Op::Patch(patch) => {
                json_patch::merge(&mut self.cron, &patch);
                "patch".to_owned()
            }
            Op::PatchStatus(patch) => {
                json_patch::merge(&mut self.cron, &patch);
                "status".to_owned()
            }
            Op::PatchClaim { name, patch } => {
                let claim = self
                    .claims
                    .iter_mut()
                    .find(|one| one["metadata"]["name"] == name.as_str())
                    .unwrap();
                json_patch::merge(claim, &patch);
                format!("used {name}")
            }
            Op::DeleteVolume { name, .. } => {
                self.volumes
                    .retain(|one| one["metadata"]["name"] != name.as_str());
                self.claims
                    .retain(|one| one["metadata"]["name"] != name.as_str());
                format!("delete {name}")
            }
        }
    }

    fn looked(&mut self, second: u32, found: Result<&str, &str>) {
        self.look = Some(Look {
            ended: format!("2026-01-01T00:00:{second:02}Z").parse().unwrap(),
            found: found.map(str::to_owned).map_err(str::to_owned),
        });
    }

    fn phase(&mut self, digest: &str, phase: &str) {
        let cron: DataImportCron = object(self.cron.clone());
        let name = objects::import_name(&cron, digest);
        let volume = self
            .volumes
            .iter_mut()
            .find(|one| one["metadata"]["name"] == name.as_str())
            .unwrap();
        volume["status"] = json!({"phase": phase, "conditions": [
            {"type": "Running", "status": "False", "message": "why"}]});
    }

    fn condition(&self, kind: &str) -> (String, String, String) {
        let list = self.cron["status"]["conditions"].as_array().unwrap();
        let found = list.iter().find(|one| one["type"] == kind).unwrap();
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    fn stands_for(&self) -> &Value {
        &self.source.as_ref().unwrap()["spec"]["source"]["pvc"]["name"]
    }

    /// With an import of `digest` that is whole.
    fn imported(&mut self, second: u32, digest: &str) -> Vec<String> {
        self.looked(second, Ok(digest));
        let mut done = self.settle();
        self.phase(digest, "Succeeded");
        done.extend(self.settle());
        done
    }
}

#[test]
fn a_digest_becomes_an_import_and_the_data_source_follows_when_it_is_whole() {
    let mut lab = Lab::new(&json!({}));
    assert_eq!(
        lab.settle(),
        [
            "Job initial-job-nightly-01234567",
            "CronJob nightly-01234567",
            "DataSource golden",
            "status",
        ]
    );
    assert_eq!(lab.condition("UpToDate").1, "NoDigest");
    assert!(lab.stands_for().is_null());
    lab.looked(1, Ok(A));
    assert_eq!(
        lab.settle(),
        ["patch", "DataVolume golden-aaaaaaaaaaaa", "status"]
    );
    let volume = &lab.volumes[0];
    assert_eq!(
        volume["spec"]["source"]["registry"]["url"],
        format!("docker://r.local:5000/os/disk@{A}")
    );
    assert_eq!(
        volume["metadata"]["labels"][DATA_IMPORT_CRON_LABEL],
        "nightly"
    );
    assert!(volume["metadata"]["ownerReferences"].is_null());
    let status = &lab.cron["status"];
    assert_eq!(status["lastExecutionTimestamp"], "2026-01-01T00:00:01Z");
    assert_eq!(
        status["currentImports"],
        json!([{"DataVolumeName": "golden-aaaaaaaaaaaa", "Digest": A}])
    );
    lab.phase(A, "ImportInProgress");
    assert_eq!(lab.settle(), ["status"]);
    assert_eq!(lab.condition("Progressing").0, "True");
    lab.phase(A, "Succeeded");
    assert_eq!(
        lab.settle(),
        ["used golden-aaaaaaaaaaaa", "DataSource golden", "status"]
    );
    assert_eq!(lab.stands_for(), "golden-aaaaaaaaaaaa");
    assert_eq!(lab.condition("UpToDate").1, "UpToDate");
    assert_eq!(
        lab.cron["status"]["lastImportedPVC"],
        json!({"namespace": "ns", "name": "golden-aaaaaaaaaaaa"})
    );
    // The same digest again: only the time of the look is new.
    lab.looked(2, Ok(A));
    assert_eq!(lab.settle(), ["patch", "status"]);
}

#[test]
fn old_imports_are_collected_the_one_used_longest_ago_first() {
    for (spec, kept) in [
        (json!({"importsToKeep": 1}), 1),
        (json!({"importsToKeep": 0}), 1),
        (json!({"importsToKeep": 2}), 2),
        (json!({}), 3),
        (json!({"importsToKeep": 1, "garbageCollect": "Never"}), 4),
    ] {
        let mut lab = Lab::new(&spec);
        for (second, digit) in (1..).zip(["a", "b", "c", "d"]) {
            lab.imported(second, &format!("sha256:{}", digit.repeat(64)));
            // Time passes between imports.
            let claim = lab.claims.last_mut().unwrap();
            claim["metadata"]["annotations"][note::LAST_USE] = json!(format!("2026-0{second}"));
        }
        let names: Vec<&str> = lab
            .volumes
            .iter()
            .map(|one| one["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), kept, "{spec} {names:?}");
        assert_eq!(names.last(), Some(&"golden-dddddddddddd"));
    }
}

#[test]
fn a_failed_import_moves_no_data_source_and_gives_way_to_another_digest() {
    let mut lab = Lab::new(&json!({}));
    lab.imported(1, A);
    lab.looked(2, Ok(B));
    lab.settle();
    lab.phase(B, "Failed");
    lab.settle();
    assert_eq!(lab.stands_for(), "golden-aaaaaaaaaaaa");
    assert_eq!(
        lab.condition("Progressing").2,
        "Import DataVolume phase Failed: why"
    );
    assert_eq!(lab.condition("UpToDate").0, "False");
    // The tag goes back: the import that is there is taken, the failed one goes.
    lab.looked(3, Ok(A));
    let done = lab.settle();
    assert!(
        done.contains(&"delete golden-bbbbbbbbbbbb".to_owned()),
        "{done:?}"
    );
    assert_eq!(lab.stands_for(), "golden-aaaaaaaaaaaa");
    assert_eq!(lab.condition("UpToDate").0, "True");
}

#[test]
fn an_import_in_work_is_finished_before_the_next_begins() {
    let mut lab = Lab::new(&json!({}));
    lab.looked(1, Ok(A));
    lab.settle();
    lab.phase(A, "ImportInProgress");
    lab.looked(2, Ok(B));
    assert_eq!(lab.settle(), ["patch", "status"]);
    assert_eq!(lab.condition("UpToDate").1, "Outdated");
    lab.phase(A, "Succeeded");
    let done = lab.settle();
    assert!(
        done.contains(&"DataVolume golden-bbbbbbbbbbbb".to_owned()),
        "{done:?}"
    );
}

#[test]
fn a_look_that_fails_is_told_once_and_changes_nothing() {
    let mut lab = Lab::new(&json!({}));
    lab.settle();
    lab.looked(1, Err("no such registry"));
    let told = lab.decide().steps[0].done.clone().unwrap();
    assert_eq!((told.warning, told.reason), (true, "PollFailed"));
    assert_eq!(lab.settle(), ["patch", "status"]);
    let (_, reason, message) = lab.condition("UpToDate");
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("NoDigest", "No source digest: no such registry")
    );
    lab.imported(2, A);
    lab.looked(3, Err("gone"));
    lab.settle();
    assert_eq!(lab.condition("UpToDate").0, "True");
}

#[test]
fn what_others_made_is_left_alone() {
    let source = |labels: Value| {
        Some(
            json!({"metadata": {"name": "golden", "namespace": "ns", "labels": labels},
            "spec": {"source": {}}}),
        )
    };
    for (labels, rival, word) in [
        (json!({}), false, "nobody's cron"),
        (
            json!({DATA_IMPORT_CRON_LABEL: "other"}),
            true,
            "DataImportCron other",
        ),
    ] {
        let mut lab = Lab::new(&json!({}));
        lab.source = source(labels);
        lab.rival = rival;
        assert_eq!(lab.settle(), ["status"]);
        assert!(lab.condition("UpToDate").2.contains(word));
    }
    // Its cron is gone: this one takes it over.
    let mut lab = Lab::new(&json!({}));
    lab.source = source(json!({DATA_IMPORT_CRON_LABEL: "other"}));
    assert!(lab.settle().contains(&"DataSource golden".to_owned()));

    // A claim of an import's name, but with who knows what in it.
    let mut lab = Lab::new(&json!({}));
    lab.settle();
    lab.claims
        .push(json!({"metadata": {"name": "golden-aaaaaaaaaaaa", "namespace": "ns"}}));
    lab.looked(1, Ok(A));
    lab.settle();
    assert_eq!(lab.condition("Progressing").1, "ErrImportExists");
    assert!(lab.volumes.is_empty() && lab.stands_for().is_null());
}

#[test]
fn an_import_that_somebody_deleted_is_made_again() {
    let mut lab = Lab::new(&json!({}));
    lab.imported(1, A);
    lab.volumes.clear();
    lab.claims.clear();
    assert!(
        lab.settle()
            .contains(&"DataVolume golden-aaaaaaaaaaaa".to_owned())
    );
}

#[test]
fn imports_go_with_the_cron_only_when_that_is_asked_for() {
    let mut lab = Lab::new(&json!({"retentionPolicy": "None"}));
    lab.imported(1, A);
    for owned in [&lab.volumes[0], lab.source.as_ref().unwrap()] {
        let owner = &owned["metadata"]["ownerReferences"][0];
        assert_eq!(owner["uid"], "0123456789ab", "{owned}");
    }
    lab.cron["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(lab.decide().steps.is_empty());
}

#[test]
fn nobody_looks_without_a_schedule_but_a_digest_is_followed() {
    let mut lab = Lab::new(&json!({"schedule": ""}));
    assert_eq!(lab.settle(), ["DataSource golden", "status"]);
    lab.cron["metadata"]["annotations"] = json!({note::DESIRED_DIGEST: "sha256:../x"});
    assert!(lab.settle().is_empty());
    lab.cron["metadata"]["annotations"] = json!({note::DESIRED_DIGEST: A});
    assert!(
        lab.settle()
            .contains(&"DataVolume golden-aaaaaaaaaaaa".to_owned())
    );
}

#[test]
fn who_looks_has_no_account_and_what_the_importer_has() {
    let mut lab = Lab::new(&json!({"serviceAccountName": "sa"}));
    lab.cluster.config.insecure_registries = vec!["r.local:5000".to_owned()];
    let cron: DataImportCron = object(lab.cron.clone());
    let job = objects::cron_job(&cron, &lab.cluster);
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"];
    assert_eq!(
        pod["metadata"]["labels"]["edgevirt.local/cron-uid"],
        "0123456789ab"
    );
    let spec = &pod["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["restartPolicy"], "Never");
    assert_eq!(
        spec["containers"][0]["args"],
        json!([
            "poll",
            "--source",
            "registry",
            "--endpoint",
            "docker://r.local:5000/os/disk:1",
            "--secret-dir",
            "/secret",
            "--ca-dir",
            "/certs",
            "--insecure"
        ])
    );
    // Another configuration, another CronJob.
    lab.settle();
    lab.cluster.config.insecure_registries.clear();
    assert_eq!(lab.settle(), ["CronJob nightly-01234567"]);
    let _: k8s_openapi::api::batch::v1::CronJob = object(job);
    let _: k8s_openapi::api::batch::v1::Job = object(objects::initial_job(&cron, &lab.cluster));
}

#[test]
fn names_are_short_enough_and_urls_are_pinned() {
    let mut lab = Lab::new(&json!({}));
    lab.cron["metadata"]["name"] = json!("x.".repeat(31));
    let cron: DataImportCron = object(lab.cron.clone());
    let name = objects::cron_job_name(&cron);
    assert!(name.len() <= 51 && name.ends_with("x-01234567"), "{name}");
    for (url, pinned) in [
        ("docker://h/n", "docker://h/n@D"),
        ("docker://h:1/a/n", "docker://h:1/a/n@D"),
        ("docker://h:1/n:tag", "docker://h:1/n@D"),
        ("docker://h/n:tag@sha256:x", "docker://h/n@D"),
        ("docker://h/n@sha256:x", "docker://h/n@D"),
    ] {
        assert_eq!(objects::pinned(url, "D"), pinned);
    }
}

#[test]
fn the_last_word_of_a_look_is_believed_only_when_it_is_a_digest() {
    let pod = |phase: &str, word: &str| -> Pod {
        object(
            json!({"metadata": {}, "status": {"phase": phase, "message": "too late",
            "containerStatuses": [{"name": "poller", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 0,
                    "finishedAt": "2026-01-01T00:00:00Z", "message": word}}}]}}),
        )
    };
    let good = json!({"message": "Poll Complete", "digest": A}).to_string();
    let read = |phase: &str, word: &str| Look::read(&pod(phase, word)).map(|look| look.found);
    assert_eq!(read("Succeeded", &good), Some(Ok(A.to_owned())));
    assert_eq!(read("Running", &good), None);
    assert_eq!(read("Failed", ""), Some(Err("too late".to_owned())));
    let bad = json!({"digest": "sha256:x@y"}).to_string();
    assert!(matches!(read("Succeeded", &bad), Some(Err(_))));
    let error = json!({"error": "401"}).to_string();
    assert_eq!(read("Failed", &error), Some(Err("401".to_owned())));
}
