//! What a worker pod does, as annotations on its claim: clients poll those, and the
//! DataVolume's status follows from them.
//!
//! Source of names, reasons and rules: CDI pkg/controller/util.go.

use std::collections::BTreeMap;

use api::cdi::names::annotations as note;
use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStatus, PersistentVolumeClaim, Pod,
};
use serde::Deserialize;

use super::worker::{Job, note as of};

/// Reason of the condition `Running` of a worker that tries again. Ours.
const RETRYING: &str = "Retrying";

/// A worker's last word, on /dev/termination-log.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastWord {
    /// Sentence of success.
    pub message: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Trying again cannot help.
    pub permanent: bool,
    /// SHA-256 of the raw image.
    pub sha256: Option<String>,
    /// Digest of an image in a registry, which somebody asked for.
    pub digest: Option<String>,
}

impl LastWord {
    /// Reads the last word; a text that is none is an error's.
    #[must_use]
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            error: Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            ..Self::default()
        })
    }
}

/// Phase of a pod; `Pending` when nobody has said yet.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// The worker's container.
fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// How the worker last ended, if it has.
fn ended(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let status = container(pod)?;
    let now = status
        .state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    now.or_else(|| {
        status
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
    })
}

/// The worker's last word, if it has ended before.
#[must_use]
pub fn last_word(pod: &Pod) -> Option<LastWord> {
    ended(pod).map(|ended| LastWord::read(ended.message.as_deref().unwrap_or_default()))
}

/// The worker said that trying again cannot help.
#[must_use]
pub fn is_hopeless(pod: &Pod) -> bool {
    phase(pod) != "Succeeded"
        && ended(pod).is_some_and(|ended| ended.exit_code != 0)
        && last_word(pod).is_some_and(|word| word.permanent)
}

/// Annotations that the claim should have for its pod, whether it has them or not. `retrying` is
/// why a worker that runs stands still for now, as it tells.
#[must_use]
pub fn annotations(
    claim: &PersistentVolumeClaim,
    pod: &Pod,
    job: &Job,
    retrying: Option<&str>,
) -> BTreeMap<&'static str, String> {
    let mut out = BTreeMap::new();
    let status = pod.status.as_ref();
    let hopeless = is_hopeless(pod);
    let phase = if hopeless { "Failed" } else { phase(pod) };
    out.insert(
        job.pod_note(),
        pod.metadata.name.clone().unwrap_or_default(),
    );
    out.insert(note::POD_PHASE, phase.to_owned());
    let ready = phase == "Running" && container(pod).is_some_and(|container| container.ready);
    out.insert(note::POD_READY, ready.to_string());
    let known: i32 = of(claim, note::POD_RESTARTS)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let restarts = container(pod).map_or(0, |container| container.restart_count);
    out.insert(note::POD_RESTARTS, known.max(restarts).to_string());
    if hopeless {
        out.insert(note::FATAL_ERROR, "true".to_owned());
    }
    let word = last_word(pod).unwrap_or_default();
    if phase == "Succeeded" {
        if let Some(digest) = &word.sha256 {
            out.insert(note::DIGEST, digest.clone());
        }
        if of(claim, note::PREALLOCATION_REQUESTED) == Some("true") {
            out.insert(note::PREALLOCATION, "true".to_owned());
        }
    }
    let (running, reason, message) = match container(pod) {
        Some(container) => running(container, ended(pod), &word, retrying),
        None => {
            let unplaced = status
                .and_then(|status| status.conditions.as_ref())
                .into_iter()
                .flatten()
                .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
            match unplaced {
                Some(condition) => (
                    false,
                    condition.reason.clone().unwrap_or_default(),
                    condition.message.clone().unwrap_or_default(),
                ),
                None => (
                    false,
                    status
                        .and_then(|status| status.reason.clone())
                        .unwrap_or_default(),
                    status
                        .and_then(|status| status.message.clone())
                        .unwrap_or_default(),
                ),
            }
        }
    };
    out.insert(note::RUNNING, running.to_string());
    out.insert(note::RUNNING_REASON, reason);
    out.insert(note::RUNNING_MESSAGE, message);
    out
}

/// Whether the worker runs, and the reason and message for that.
fn running(
    container: &ContainerStatus,
    ended: Option<&ContainerStateTerminated>,
    word: &LastWord,
    retrying: Option<&str>,
) -> (bool, String, String) {
    let state = container.state.clone().unwrap_or_default();
    if state.running.is_some() {
        // Until it is done, why it was not done at once is what a reader looks for.
        let before = word.error.as_ref();
        let failure = retrying
            .map(str::to_owned)
            .or_else(|| before.map(|error| format!("tried again after: {error}")));
        return match failure {
            Some(failure) => (true, RETRYING.to_owned(), failure),
            None => (true, "Pod is running".to_owned(), String::new()),
        };
    }
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        match reason {
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" => {
                let message = format!("Unable to pull image: {}", container.image);
                return (false, "ImagePullFailed".to_owned(), message);
            }
            "CrashLoopBackOff" => {}
            _ => {
                let message = waiting.message.clone().unwrap_or_default();
                return (false, reason.to_owned(), message);
            }
        }
    }
    let Some(ended) = ended else {
        return (false, String::new(), String::new());
    };
    let reason = ended.reason.clone().unwrap_or_default();
    let message = match (reason.as_str(), &word.error, &word.message) {
        ("OOMKilled", ..) => {
            "the worker was killed because it needed more memory than its limit".to_owned()
        }
        (_, Some(error), _) => error.clone(),
        (_, None, Some(message)) => message.clone(),
        _ if ended.exit_code != 0 => format!("the worker ended with exit code {}", ended.exit_code),
        _ => String::new(),
    };
    (false, reason, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value, clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn told(status: Value) -> BTreeMap<&'static str, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "importer-disk"}, "status": status
        }))
        .unwrap();
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "disk", "annotations": {
                "cdi.kubevirt.io/storage.pod.restarts": "2",
            }}
        }))
        .unwrap();
        annotations(&claim, &pod, &Job::Import("http".to_owned()), None)
    }

    #[test]
    fn why_a_worker_tries_again_is_told_while_it_runs() {
        let runs = |last: Value, retrying: Option<&str>| {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "importer-disk"},
                "status": container(json!({"running": {}}), last, 1),
            }))
            .unwrap();
            let job = Job::Import("http".to_owned());
            let told = annotations(&PersistentVolumeClaim::default(), &pod, &job, retrying);
            assert_eq!(told[note::RUNNING], "true");
            let told = [note::RUNNING_REASON, note::RUNNING_MESSAGE].map(|name| told[name].clone());
            told.join(": ")
        };
        let failed = json!({"terminated": {"exitCode": 1, "message": "{\"error\": \"no host\"}"}});
        assert_eq!(
            runs(json!({}), Some("host not found")),
            "Retrying: host not found"
        );
        assert_eq!(
            runs(failed.clone(), None),
            "Retrying: tried again after: no host"
        );
        assert_eq!(runs(failed, Some("refused")), "Retrying: refused");
        assert_eq!(runs(json!({}), None), "Pod is running: ");
    }

    fn container(state: Value, last: Value, restarts: i32) -> Value {
        json!({"phase": "Running", "containerStatuses": [{
            "name": "importer", "image": "worker:1", "imageID": "", "ready": state["running"].is_object(),
            "restartCount": restarts, "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn each_state_of_a_pod_is_told() {
        let waits = told(json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available",
        }]}));
        assert_eq!(waits[note::POD_PHASE], "Pending");
        assert_eq!(waits[note::RUNNING_REASON], "Unschedulable");
        assert_eq!(waits[note::IMPORT_POD], "importer-disk");

        let runs = told(container(json!({"running": {}}), json!({}), 0));
        assert_eq!(
            (runs[note::RUNNING].as_str(), runs[note::POD_READY].as_str()),
            ("true", "true")
        );
        assert_eq!(runs[note::POD_RESTARTS], "2");

        let pulls = told(container(
            json!({"waiting": {"reason": "ErrImagePull"}}),
            json!({}),
            0,
        ));
        assert_eq!(
            pulls[note::RUNNING_MESSAGE],
            "Unable to pull image: worker:1"
        );
    }

    #[test]
    fn a_worker_that_will_be_tried_again_is_not_failed() {
        let error = json!({"error": "503 from http://x/y", "permanent": false}).to_string();
        let told = told(container(
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            json!({"terminated": {"exitCode": 1, "reason": "Error", "message": error}}),
            5,
        ));
        assert_eq!(told[note::POD_PHASE], "Running");
        assert_eq!(told[note::POD_RESTARTS], "5");
        assert_eq!(told[note::RUNNING_MESSAGE], "503 from http://x/y");
        assert!(!told.contains_key(note::FATAL_ERROR));
    }

    #[test]
    fn what_cannot_be_helped_is_final() {
        let error = json!({"error": "a backing file", "permanent": true}).to_string();
        let told = told(container(
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            json!({"terminated": {"exitCode": 1, "reason": "Error", "message": error}}),
            1,
        ));
        assert_eq!(told[note::POD_PHASE], "Failed");
        assert_eq!(told[note::FATAL_ERROR], "true");
        assert_eq!(told[note::RUNNING_MESSAGE], "a backing file");
    }

    #[test]
    fn success_leaves_message_and_digest() {
        let word =
            json!({"message": "Import Complete", "sha256": "abc", "virtualSize": 1}).to_string();
        let mut status = container(
            json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": word}}),
            json!({}),
            0,
        );
        status["phase"] = json!("Succeeded");
        let told = told(status);
        assert_eq!(told[note::DIGEST], "abc");
        assert_eq!(told[note::RUNNING_MESSAGE], "Import Complete");
        assert_eq!(told[note::RUNNING_REASON], "Completed");
        assert_eq!(told[note::RUNNING], "false");
    }

    #[test]
    fn words_that_are_no_json_are_an_error() {
        assert_eq!(LastWord::read("boom\n").error.as_deref(), Some("boom"));
        assert_eq!(LastWord::read("").error, None);
    }
}
