//! Whether a workload runs what it shall run now, and not still what it ran before an update.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The variable that tells virt-operator the image of all components (manifests/kubevirt-operator.yaml.j2).
const IMAGE_VARIABLE: &str = "VIRT_IMAGE";

/// What kind of workload it is makes no difference to these.
#[derive(Debug, Default)]
struct Progress {
    /// The workload's generation, and the one that its controller has seen.
    generation: (i64, i64),
    wanted: i32,
    ready: i32,
    /// Pods of the newest template.
    updated: i32,
    /// Pods of any template.
    all: i32,
}

/// The image that virt-operator gives to every component, if it says so.
pub(super) fn image_of_components(operator: &Deployment) -> Option<String> {
    let template = &operator.spec.as_ref()?.template;
    let containers = &template.spec.as_ref()?.containers;
    let mut variables = containers.iter().flat_map(|c| c.env.iter().flatten());
    variables
        .find(|variable| variable.name == IMAGE_VARIABLE)?
        .value
        .clone()
}

/// How a Deployment stands: `Ok` when all of its pods are ready, new and of that image.
pub(super) fn deployment(object: &Deployment, image: Option<&str>) -> Result<String, String> {
    let status = object.status.clone().unwrap_or_default();
    let spec = object.spec.as_ref();
    judge(
        &Progress {
            generation: (
                object.metadata.generation.unwrap_or(0),
                status.observed_generation.unwrap_or(0),
            ),
            wanted: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            ready: status.ready_replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            all: status.replicas.unwrap_or(0),
        },
        spec.map(|spec| &spec.template),
        image,
    )
}

/// As [`deployment`], for a DaemonSet.
pub(super) fn daemon_set(object: &DaemonSet, image: Option<&str>) -> Result<String, String> {
    let status = object.status.clone().unwrap_or_default();
    judge(
        &Progress {
            generation: (
                object.metadata.generation.unwrap_or(0),
                status.observed_generation.unwrap_or(0),
            ),
            wanted: status.desired_number_scheduled,
            ready: status.number_ready,
            updated: status.updated_number_scheduled.unwrap_or(0),
            all: status.current_number_scheduled,
        },
        object.spec.as_ref().map(|spec| &spec.template),
        image,
    )
}

fn judge(
    progress: &Progress,
    template: Option<&PodTemplateSpec>,
    image: Option<&str>,
) -> Result<String, String> {
    let text = format!("{} of {} ready", progress.ready, progress.wanted);
    let containers = template
        .and_then(|t| t.spec.as_ref())
        .map(|s| &s.containers);
    let runs = containers
        .and_then(|all| all.first())
        .and_then(|container| container.image.as_deref());
    if let (Some(image), Some(runs)) = (image, runs)
        && image != runs
    {
        return Err(format!("{text}, of {runs}; virt-operator wants {image}"));
    }
    let (generation, seen) = progress.generation;
    if seen < generation {
        return Err(format!("{text}, but its last change was not seen yet"));
    }
    if progress.updated < progress.wanted || progress.all > progress.updated {
        return Err(format!(
            "{text}, {} of {} updated",
            progress.updated, progress.all
        ));
    }
    if progress.ready < progress.wanted || progress.wanted == 0 {
        return Err(text);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn found(status: &serde_json::Value, image: Option<&str>) -> Result<String, String> {
        let object = json!({
            "metadata": {"generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [
                {"name": "a", "image": "new", "env": [{"name": IMAGE_VARIABLE, "value": "new"}]}]}}},
            "status": status,
        });
        let object: Deployment = serde_json::from_value(object).unwrap();
        assert_eq!(image_of_components(&object).as_deref(), Some("new"));
        deployment(&object, image)
    }

    #[test]
    fn a_workload_is_well_only_when_its_update_is_complete() {
        let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2});
        let with = |key: &str, value: i32| {
            let mut status = done.clone();
            status[key] = value.into();
            status
        };
        assert_eq!(found(&done, Some("new")).unwrap(), "2 of 2 ready");
        assert_eq!(found(&done, None).unwrap(), "2 of 2 ready");
        for (status, image, says) in [
            (done.clone(), "newer", "of new; virt-operator wants newer"),
            (with("observedGeneration", 1), "new", "not seen yet"),
            (with("updatedReplicas", 1), "new", "1 of 2 updated"),
            (with("replicas", 3), "new", "2 of 3 updated"),
            (with("readyReplicas", 1), "new", "1 of 2 ready"),
            (json!({}), "new", "0 of 2 ready"),
        ] {
            let error = found(&status, Some(image)).unwrap_err();
            assert!(error.contains(says), "expected {says:?} in {error}");
        }
    }
}
