//! DataVolumes, claims and worker pods that do not get on, each with its reason.

use api::cdi::names::{self, annotations};
use api::cdi::{DataVolume, phase};
use hardware::Verdict;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use crate::facts::{Facts, age, full_name};
use crate::programs::trouble;
use crate::storage::defaults;
use crate::verdict::{fail, pass, skip, span, warn};

const ID: &str = "stuck";
/// Seconds that scheduling, pulling and binding may take.
const PATIENCE: i64 = 120;
/// Seconds after which an upload that nobody sends was likely forgotten.
const FORGOTTEN: i64 = 3600;

pub(crate) fn judge(facts: &Facts) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut seen = Vec::new();
    match &facts.data_volumes {
        Err(error) => verdicts.push(skip(ID, "", format!("DataVolumes cannot be read: {error}"))),
        Ok(all) => {
            seen.push(format!("{} DataVolumes", all.len()));
            verdicts.extend(all.iter().filter_map(|one| data_volume(facts, one)));
        }
    }
    match &facts.claims {
        Err(error) => verdicts.push(skip(ID, "", format!("claims cannot be read: {error}"))),
        Ok(all) => {
            seen.push(format!("{} claims", all.len()));
            verdicts.extend(all.iter().filter_map(|one| claim(facts, one)));
        }
    }
    match &facts.pods {
        Err(error) => verdicts.push(skip(ID, "", format!("pods cannot be read: {error}"))),
        Ok(all) => {
            let workers: Vec<&Pod> = all.iter().filter(|pod| is_worker(facts, pod)).collect();
            seen.push(format!("{} worker pods", workers.len()));
            verdicts.extend(workers.into_iter().filter_map(|pod| worker(facts, pod)));
        }
    }
    if verdicts.is_empty() {
        verdicts.push(pass(ID, "", format!("{}: none is stuck", seen.join(", "))));
    }
    verdicts
}

fn data_volume(facts: &Facts, volume: &DataVolume) -> Option<Verdict> {
    let subject = format!("dv {}", full_name(&volume.metadata));
    let (namespace, name) = place(&volume.metadata);
    let status = volume.status.clone().unwrap_or_default();
    let waited = age(&volume.metadata, facts.now);
    // Running tells what the worker said; Bound and Ready what the claim lacks.
    let said = ["Running", "Bound", "Ready"].iter().find_map(|type_| {
        let condition = status.conditions.iter().find(|one| one.type_ == *type_)?;
        (!condition.message.is_empty() && condition.status != "True")
            .then(|| condition.message.clone())
    });
    let said = said.unwrap_or_else(|| "it says no reason".to_owned());
    let describe = format!("kubectl -n {namespace} describe dv {name}");
    match status.phase.as_str() {
        phase::SUCCEEDED | phase::PAUSED => None,
        phase::FAILED => Some(fail(
            ID,
            subject,
            format!("Failed: {said}"),
            format!("kubectl -n {namespace} delete dv {name}, then again with what it says put right"),
        )),
        phase::UPLOAD_READY => (waited > FORGOTTEN).then(|| {
            warn(
                ID,
                subject,
                format!("UploadReady for {}: nobody sends its data", span(waited)),
                format!(
                    "virtctl -n {namespace} image-upload dv {name} --no-create --image-path=FILE, or kubectl -n {namespace} delete dv {name}"
                ),
            )
        }),
        phase::WAIT_FOR_FIRST_CONSUMER => (waited > PATIENCE).then(|| {
            warn(
                ID,
                subject,
                format!("WaitForFirstConsumer for {}: no pod uses its claim", span(waited)),
                format!(
                    "start its virtual machine, or kubectl -n {namespace} annotate dv {name} {}=true",
                    annotations::IMMEDIATE_BINDING
                ),
            )
        }),
        phase if status.restart_count > 0 => Some(warn(
            ID,
            subject,
            format!("{phase}, restarted {} times: {said}", status.restart_count),
            describe,
        )),
        phase::IMPORT_IN_PROGRESS | phase::CLONE_IN_PROGRESS => None,
        phase if waited > PATIENCE && !has_pending_claim(facts, volume) => Some(fail(
            ID,
            subject,
            format!("{phase} for {}: {said}", span(waited)),
            describe,
        )),
        _ => None,
    }
}

/// The reason is told at the claim then.
fn has_pending_claim(facts: &Facts, volume: &DataVolume) -> bool {
    facts.claims.iter().flatten().any(|one| {
        one.metadata.name == volume.metadata.name
            && one.metadata.namespace == volume.metadata.namespace
            && claim(facts, one).is_some()
    })
}

fn claim(facts: &Facts, claim: &PersistentVolumeClaim) -> Option<Verdict> {
    let subject = format!("pvc {}", full_name(&claim.metadata));
    let (namespace, name) = place(&claim.metadata);
    let spec = claim.spec.clone().unwrap_or_default();
    let waited = age(&claim.metadata, facts.now);
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    let describe = format!("kubectl -n {namespace} describe pvc {name}");
    let again = format!("kubectl -n {namespace} delete {}", owner(claim));
    match phase {
        Some("Bound") => return None,
        Some("Lost") => {
            return Some(fail(
                ID,
                subject,
                format!(
                    "Lost: its volume {} is gone, and the data with it",
                    spec.volume_name.unwrap_or_default()
                ),
                again,
            ));
        }
        _ => {}
    }
    let classes = facts.classes.as_deref().unwrap_or_default();
    let all: Vec<&str> = classes
        .iter()
        .filter_map(|class| class.metadata.name.as_deref())
        .collect();
    let defaults = defaults(classes);
    let usable = defaults
        .first()
        .map(String::as_str)
        .or(all.first().copied());
    let with = usable.map_or(String::new(), |class| {
        format!(", then again with --storage-class={class} (storageClassName: {class})")
    });
    let class = spec.storage_class_name.as_deref();
    if facts.classes.is_ok() {
        match class {
            Some(class) if !class.is_empty() && !all.contains(&class) => {
                return Some(fail(
                    ID,
                    subject,
                    format!(
                        "Pending: its storage class {class} does not exist; there are: {}",
                        if all.is_empty() {
                            "none".to_owned()
                        } else {
                            all.join(", ")
                        }
                    ),
                    format!("{again}{with}"),
                ));
            }
            None if defaults.is_empty() => {
                return Some(fail(
                    ID,
                    subject,
                    "Pending: it names no storage class, and there is no default",
                    match usable {
                        Some(class) => format!(
                            "kubectl annotate storageclass {class} --overwrite {}=true",
                            annotations::DEFAULT_CLASS
                        ),
                        None => "install a provisioner with a storage class".to_owned(),
                    },
                ));
            }
            _ => {}
        }
    }
    if waited <= PATIENCE {
        return None;
    }
    let waits = classes.iter().any(|one| {
        one.metadata.name.as_deref() == class
            && one.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
    });
    let selected = claim
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(annotations::SELECTED_NODE));
    let warning = facts
        .warnings
        .iter()
        .flatten()
        .rfind(|event| event.involved_object.uid == claim.metadata.uid)
        .and_then(|event| event.message.clone());
    match warning {
        Some(text) => Some(fail(
            ID,
            subject,
            format!("Pending for {}: {text}", span(waited)),
            describe,
        )),
        // Nobody uses it yet: as it should be.
        None if waits && !selected => None,
        None => Some(fail(
            ID,
            subject,
            format!(
                "Pending for {}, class {}: its provisioner says nothing",
                span(waited),
                class.unwrap_or_default()
            ),
            describe,
        )),
    }
}

/// What to delete so that the claim does not come back.
fn owner(claim: &PersistentVolumeClaim) -> String {
    let owner = claim
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == "DataVolume");
    match owner {
        Some(owner) => format!("dv {}", owner.name),
        None => format!("pvc {}", claim.metadata.name.as_deref().unwrap_or_default()),
    }
}

/// Workers are of CDI and not among its programs.
fn is_worker(facts: &Facts, pod: &Pod) -> bool {
    let (namespace, _) = place(&pod.metadata);
    namespace != names::NAMESPACE
        && facts
            .namespace
            .as_deref()
            .is_none_or(|asked| asked == namespace)
}

fn worker(facts: &Facts, pod: &Pod) -> Option<Verdict> {
    let (namespace, name) = place(&pod.metadata);
    let subject = format!("pod {}", full_name(&pod.metadata));
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if phase == Some("Succeeded") {
        return None;
    }
    let waited = age(&pod.metadata, facts.now);
    // The reason is told at the claim then.
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let mut mounted =
        volumes.filter_map(|one| Some(&one.persistent_volume_claim.as_ref()?.claim_name));
    let waits = |name: &String| {
        facts.claims.iter().flatten().any(|one| {
            one.metadata.name.as_ref() == Some(name)
                && one.metadata.namespace == pod.metadata.namespace
                && claim(facts, one).is_some()
        })
    };
    if mounted.any(waits) {
        return None;
    }
    let text = trouble(pod).or_else(|| {
        (phase == Some("Pending") && waited > PATIENCE)
            .then(|| format!("Pending for {}, and says no reason", span(waited)))
    })?;
    // While its volume is made, a pod is unschedulable for a moment.
    if phase == Some("Pending") && waited <= PATIENCE / 4 {
        return None;
    }
    Some(fail(
        ID,
        subject,
        text,
        format!("kubectl -n {namespace} describe pod {name}"),
    ))
}

fn place(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> (&str, &str) {
    (
        meta.namespace.as_deref().unwrap_or("default"),
        meta.name.as_deref().unwrap_or_default(),
    )
}
