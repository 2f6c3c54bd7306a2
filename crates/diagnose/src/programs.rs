//! The CDI object, its programs, and the API of upload tokens.

use api::cdi::names;
use hardware::Verdict;
use k8s_openapi::api::core::v1::Pod;

use crate::facts::Facts;
use crate::verdict::{fail, pass, unread, warn};

/// Deployments of CDI, as the walk-through lists them.
const DEPLOYMENTS: [&str; 4] = [
    "cdi-operator",
    "cdi-apiserver",
    names::CONTROLLER,
    names::UPLOAD_PROXY,
];

pub(crate) fn object(facts: &Facts) -> Vec<Verdict> {
    const ID: &str = "cdi.object";
    let cdi = match &facts.cdi {
        Err(error) => return unread(ID, "the CDI object", error),
        Ok(None) => {
            return vec![fail(
                ID,
                "",
                format!("no CDI object {}", names::CDI),
                "edgevirt deploy",
            )];
        }
        Ok(Some(cdi)) => cdi,
    };
    let status = cdi.status.clone().unwrap_or_default();
    let condition = |type_: &str| status.conditions.iter().find(|one| one.type_ == type_);
    let is = |type_: &str| condition(type_).is_some_and(|one| one.status == "True");
    let said = |type_: &str| condition(type_).map_or("no condition yet", |one| &one.message);
    if status.phase != "Deployed" || !is("Available") {
        return vec![fail(
            ID,
            "",
            format!(
                "phase {:?}, not Available: {}",
                status.phase,
                said("Available")
            ),
            "kubectl -n cdi logs deployment/cdi-operator --tail=20",
        )];
    }
    if is("Degraded") {
        return vec![warn(
            ID,
            "",
            format!("Available, but Degraded: {}", said("Degraded")),
            "kubectl -n cdi get pods && kubectl -n cdi logs deployment/cdi-operator --tail=20",
        )];
    }
    vec![pass(
        ID,
        "",
        format!("Deployed, Available, {}", status.observed_version),
    )]
}

pub(crate) fn deployments(facts: &Facts) -> Vec<Verdict> {
    const ID: &str = "cdi.programs";
    let found = match &facts.deployments {
        Err(error) => return unread(ID, "deployments in namespace cdi", error),
        Ok(found) => found,
    };
    let judge = |name: &&str| {
        let named = found
            .iter()
            .find(|one| one.metadata.name.as_deref() == Some(name));
        let Some(deployment) = named else {
            let remedy = match *name {
                "cdi-operator" => "edgevirt deploy",
                _ => "kubectl -n cdi logs deployment/cdi-operator --tail=20",
            };
            return fail(ID, *name, "no such deployment in namespace cdi", remedy);
        };
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let wanted = wanted.unwrap_or(1);
        let ready = deployment.status.as_ref().and_then(|s| s.ready_replicas);
        let ready = ready.unwrap_or(0);
        let text = format!("{ready} of {wanted} ready");
        if ready >= wanted && wanted > 0 {
            return pass(ID, *name, text);
        }
        if wanted == 0 {
            return fail(
                ID,
                *name,
                format!("{text}: it is scaled to nothing"),
                format!("kubectl -n cdi scale deployment {name} --replicas=1"),
            );
        }
        let why = facts
            .pods
            .iter()
            .flatten()
            .filter(|pod| label(pod) == Some(name))
            .find_map(trouble);
        fail(
            ID,
            *name,
            match why {
                Some(why) => format!("{text}: {why}"),
                None => text,
            },
            format!(
                "kubectl -n cdi describe pods -l {}={name} && kubectl -n cdi logs deployment/{name} --previous",
                names::COMPONENT_LABEL
            ),
        )
    };
    DEPLOYMENTS.iter().map(judge).collect()
}

/// Which of CDI's programs a pod runs.
pub(crate) fn label(pod: &Pod) -> Option<&str> {
    let labels = pod.metadata.labels.as_ref()?;
    labels.get(names::COMPONENT_LABEL).map(String::as_str)
}

/// Why a pod does not run: nobody takes it, or a container does not start.
pub(crate) fn trouble(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(condition) = unscheduled {
        return Some(format!(
            "pod {name} fits on no node: {}",
            condition.message.as_deref().unwrap_or_default()
        ));
    }
    let containers = status.init_container_statuses.iter().flatten();
    for container in containers.chain(status.container_statuses.iter().flatten()) {
        let Some(state) = &container.state else {
            continue;
        };
        let last = container.last_state.as_ref();
        let ended = last.and_then(|last| last.terminated.as_ref());
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.as_deref().unwrap_or_default();
            if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
                continue;
            }
            let text = ended
                .and_then(|ended| ended.message.as_deref())
                .or(waiting.message.as_deref())
                .unwrap_or_default();
            return Some(format!("pod {name}: {reason}: {}", text.trim()));
        }
        if let Some(ended) = ended
            && !container.ready
        {
            return Some(format!(
                "pod {name}: restarted {} times, exit code {}: {}",
                container.restart_count,
                ended.exit_code,
                ended.message.as_deref().unwrap_or_default().trim()
            ));
        }
    }
    None
}

pub(crate) fn upload_api(facts: &Facts) -> Vec<Verdict> {
    let group = format!("{}/{}", names::UPLOAD_GROUP, names::UPLOAD_VERSION);
    vec![match &facts.upload_api {
        Ok(()) => pass("upload.api", "", format!("{group} answers")),
        Err(error) => fail(
            "upload.api",
            "",
            format!("{group}: {error}"),
            format!(
                "kubectl get apiservice {}.{} -o jsonpath='{{.status.conditions}}' && kubectl -n cdi logs deployment/cdi-apiserver --tail=20",
                names::UPLOAD_VERSION,
                names::UPLOAD_GROUP
            ),
        ),
    }]
}
