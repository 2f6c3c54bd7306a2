//! What a cron makes: the jobs that look at its source, the DataVolume of an import and
//! the DataSource that stands for the newest.
//!
//! Source of names, labels and annotations: CDI pkg/controller/dataimportcron-controller.go.
//! Upstream's jobs run in CDI's own namespace and hold a service account; these run in the
//! cron's namespace, hold none, and can reach what its users' own pods can.

use api::cdi::DataImportCron;
use api::cdi::names::{
    API_VERSION, APP, APP_LABEL, COMPONENT_LABEL, CRON_UID_LABEL, DATA_IMPORT_CRON_LABEL, POLLER,
    annotations as note,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha1_smol::Sha1;

use super::super::cluster::Cluster;
use super::super::pod::{self, container};
use super::super::worker::insecure;

/// Longest name of a CronJob: it adds eleven characters to name its jobs, and the initial
/// job's name is longer than its by twelve.
const CRON_JOB_NAME: usize = 51;
/// Hexadecimal digits of a digest in the name of an import.
const DIGITS: usize = 12;
/// A look takes seconds; with a registry that is down, this many at most.
const LOOK_SECONDS: u32 = 120;

/// Name of the CronJob.
#[must_use]
pub fn cron_job_name(cron: &DataImportCron) -> String {
    let name = cron.metadata.name.as_deref().unwrap_or_default();
    let uid = cron.metadata.uid.as_deref().unwrap_or_default();
    let uid: String = uid.chars().take(8).collect();
    let kept: String = name.chars().take(CRON_JOB_NAME - 1 - uid.len()).collect();
    format!("{}-{uid}", kept.trim_end_matches(['-', '.']))
}

/// Name of an import of `digest`, which is `sha256:` and hexadecimal digits.
#[must_use]
pub fn import_name(cron: &DataImportCron, digest: &str) -> String {
    let hex = digest.trim_start_matches("sha256:");
    let hex: String = hex.chars().take(DIGITS).collect();
    format!("{}-{hex}", cron.spec.managed_data_source)
}

/// URL of the cron's image.
#[must_use]
pub fn url(cron: &DataImportCron) -> &str {
    let source = cron.spec.template.spec.source.as_ref();
    source
        .and_then(|source| source.registry.as_ref())
        .and_then(|registry| registry.url.as_deref())
        .unwrap_or_default()
}

/// `docker://HOST/NAME:TAG` as `docker://HOST/NAME@DIGEST`.
#[must_use]
pub fn pinned(url: &str, digest: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("docker", url));
    let rest = rest.split('@').next().unwrap_or_default();
    // A colon before the last slash is a port's.
    let name = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => rest,
    };
    format!("{scheme}://{name}@{digest}")
}

/// Imports and the DataSource go with the cron, instead of staying as they are.
fn goes(cron: &DataImportCron) -> bool {
    cron.spec.retention_policy.as_deref() == Some("None")
}

fn owner(cron: &DataImportCron, controller: bool) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "DataImportCron",
        "name": cron.metadata.name, "uid": cron.metadata.uid, "controller": controller,
    })
}

fn labels(cron: &DataImportCron) -> Value {
    json!({ APP_LABEL: APP, DATA_IMPORT_CRON_LABEL: cron.metadata.name })
}

/// One look at the source.
fn job_spec(cron: &DataImportCron, cluster: &Cluster) -> Value {
    let spec = &cron.spec.template.spec;
    let registry = spec
        .source
        .as_ref()
        .and_then(|source| source.registry.clone());
    let registry = registry.unwrap_or_default();
    let url = url(cron);
    let mut args = vec!["poll", "--source", "registry", "--endpoint", url];
    let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
    for (name, path, option, volume) in [
        (
            "secret",
            "/secret",
            "--secret-dir",
            registry
                .secret_ref
                .as_ref()
                .map(|name| json!({ "name": "secret", "secret": { "secretName": name } })),
        ),
        (
            "certs",
            "/certs",
            "--ca-dir",
            registry
                .cert_config_map
                .as_ref()
                .map(|name| json!({ "name": "certs", "configMap": { "name": name } })),
        ),
    ] {
        if let Some(volume) = volume {
            args.extend([option, path]);
            mounts.push(json!({ "name": name, "mountPath": path, "readOnly": true }));
            volumes.push(volume);
        }
    }
    if insecure(url, cluster) {
        args.push("--insecure");
    }
    let resources = json!({
        "requests": { "cpu": "10m", "memory": "20M" },
        "limits": { "cpu": "1", "memory": "200M" },
    });
    let mut container = container("poller", "cdi-importer", &args, &resources, cluster);
    container["volumeMounts"] = json!(mounts);
    let mut pod = pod::spec(
        &container,
        &volumes,
        Some(&spec.priority_class_name),
        cron.spec.service_account_name.as_deref(),
        cluster,
    );
    pod["restartPolicy"] = json!("Never");
    pod["activeDeadlineSeconds"] = json!(LOOK_SECONDS);
    let mut labels = labels(cron);
    labels[COMPONENT_LABEL] = json!(POLLER);
    labels[CRON_UID_LABEL] = json!(cron.metadata.uid);
    json!({
        // A pod that failed tells why; another one tries.
        "backoffLimit": 2,
        "template": { "metadata": { "labels": labels }, "spec": pod },
    })
}

/// The first look, right after the cron was made.
#[must_use]
pub fn initial_job(cron: &DataImportCron, cluster: &Cluster) -> Value {
    let mut spec = job_spec(cron, cluster);
    spec["ttlSecondsAfterFinished"] = json!(600);
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": format!("initial-job-{}", cron_job_name(cron)),
            "namespace": cron.metadata.namespace,
            "labels": labels(cron),
            "ownerReferences": [owner(cron, true)],
        },
        "spec": spec,
    })
}

/// The CronJob that looks as scheduled; an annotation tells what it was rendered from.
#[must_use]
pub fn cron_job(cron: &DataImportCron, cluster: &Cluster) -> Value {
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {
            "name": cron_job_name(cron),
            "namespace": cron.metadata.namespace,
            "labels": labels(cron),
            "ownerReferences": [owner(cron, true)],
        },
        "spec": {
            "schedule": cron.spec.schedule,
            "concurrencyPolicy": "Forbid",
            // A controller that was away learns what the last look found.
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "startingDeadlineSeconds": 600,
            "jobTemplate": { "spec": job_spec(cron, cluster) },
        },
    });
    let digest = Sha1::from(object.to_string()).digest().to_string();
    object["metadata"]["annotations"] = json!({ note::RENDERED: digest });
    object
}

/// The DataVolume that imports exactly `digest`.
#[must_use]
pub fn data_volume(cron: &DataImportCron, digest: &str, now: Timestamp) -> Value {
    let template = &cron.spec.template;
    let mut spec = json!(template.spec);
    spec["source"]["registry"]["url"] = json!(pinned(url(cron), digest));
    if let Some(account) = &cron.spec.service_account_name {
        spec["serviceAccountName"] = json!(account);
    }
    let own = template.metadata.clone().unwrap_or_default();
    let mut notes = own.annotations.unwrap_or_default();
    // Nobody consumes it before it is there.
    notes.insert(note::IMMEDIATE_BINDING.to_owned(), "true".to_owned());
    notes.insert(note::LAST_USE.to_owned(), format!("{now:.9}"));
    let retain = cron.metadata.annotations.as_ref();
    if let Some(value) = retain.and_then(|notes| notes.get(note::POD_RETAIN)) {
        notes.insert(note::POD_RETAIN.to_owned(), value.clone());
    }
    let mut all = json!(own.labels.unwrap_or_default());
    if let (Some(all), Value::Object(ours)) = (all.as_object_mut(), labels(cron)) {
        all.extend(ours);
    }
    let mut object = json!({
        "apiVersion": API_VERSION, "kind": "DataVolume",
        "metadata": {
            "name": import_name(cron, digest),
            "namespace": cron.metadata.namespace,
            "labels": all,
            "annotations": notes,
        },
        "spec": spec,
    });
    if goes(cron) {
        object["metadata"]["ownerReferences"] = json!([owner(cron, false)]);
    }
    object
}

/// The DataSource, which stands for claim `import` or, at first, for nothing.
#[must_use]
pub fn data_source(cron: &DataImportCron, import: Option<&str>) -> Value {
    let source = import.map_or(
        json!({}),
        |name| json!({ "pvc": { "namespace": cron.metadata.namespace, "name": name } }),
    );
    let mut object = json!({
        "apiVersion": API_VERSION, "kind": "DataSource",
        "metadata": {
            "name": cron.spec.managed_data_source,
            "namespace": cron.metadata.namespace,
            "labels": labels(cron),
        },
        "spec": { "source": source },
    });
    if goes(cron) {
        object["metadata"]["ownerReferences"] = json!([owner(cron, false)]);
    }
    object
}
