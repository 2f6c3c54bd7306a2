//! Admission of CDI's kinds: is every field acted on, do the values hold together,
//! and is the spec of a DataVolume what it was.
//!
//! Source of rules, messages and paths: CDI pkg/apiserver/webhooks.

pub mod claim;
mod cron;
mod datavolume;
#[cfg(test)]
mod tests;
pub mod transfer;

use api::cdi::names::{GROUP, SNAPSHOT_GROUP};
use serde_json::Value;

use crate::admission::readable::{self, flaw};
use crate::admission::{Cause, Operation, Reason, Review, ReviewError, Verdict, unsupported_in};

/// What the cluster holds that a verdict depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Another CDI object is there.
    pub has_cdi: bool,
    /// DataVolumes are there.
    pub has_data_volumes: bool,
    /// What an ObjectTransfer would make is there.
    pub transfer_target_exists: bool,
}

/// One admission request for a kind of CDI.
pub type Request = Review<&'static str>;

/// Reads the `request` of an AdmissionReview (admission.k8s.io/v1).
///
/// # Errors
/// When a field the API server always sets is missing, or the webhook is
/// registered for a resource that is not CDI's.
pub fn parse(body: Value) -> Result<Request, ReviewError> {
    let resource = |kind: &str| format!("{}s", kind.to_lowercase());
    let known = |group: &str, name: &str| {
        let mut kinds = api::cdi::KINDS.into_iter();
        kinds.find(|kind| group == GROUP && resource(kind) == name)
    };
    Review::read(body, known, || api::cdi::KINDS.map(resource).join(", "))
}

/// Answers an AdmissionReview with an AdmissionReview.
///
/// # Errors
/// As [`parse`].
pub fn answer(body: Value, ctx: &Context) -> Result<Value, ReviewError> {
    let request = parse(body)?;
    Ok(validate(&request, ctx).into_review(&request.uid))
}

/// Judges a request.
#[must_use]
pub fn validate(request: &Request, ctx: &Context) -> Verdict {
    readable::ensure(request, judge(request, ctx), |object| match request.kind {
        "CDI" => flaw::<api::cdi::CDI>(object),
        "CDIConfig" => flaw::<api::cdi::CDIConfig>(object),
        "DataVolume" => flaw::<api::cdi::DataVolume>(object),
        "StorageProfile" => flaw::<api::cdi::StorageProfile>(object),
        "DataSource" => flaw::<api::cdi::DataSource>(object),
        "DataImportCron" => flaw::<api::cdi::DataImportCron>(object),
        "VolumeImportSource" => flaw::<api::cdi::VolumeImportSource>(object),
        "VolumeUploadSource" => flaw::<api::cdi::VolumeUploadSource>(object),
        "VolumeCloneSource" => flaw::<api::cdi::VolumeCloneSource>(object),
        "ObjectTransfer" => flaw::<api::cdi::ObjectTransfer>(object),
        _ => None,
    })
}

fn judge(request: &Request, ctx: &Context) -> Verdict {
    if request.operation == Operation::Delete {
        return delete(request, ctx);
    }
    // Finalizers and status pass, whatever rules the spec was stored under.
    if !request.subresource.is_empty()
        || request.operation == Operation::Connect
        || !request.object["metadata"]["deletionTimestamp"].is_null()
    {
        return Verdict::allow();
    }
    let create = request.operation == Operation::Create;
    if !create && request.object["spec"] == request.old["spec"] {
        return Verdict::allow();
    }
    if create && request.kind == "CDI" && ctx.has_cdi {
        return Verdict::bad_request(
            "expected one CDI in the cluster, found another; change that one or delete it first",
        );
    }
    let mut causes = unsupported_in(api::cdi::table(), request.kind, &request.object);
    match request.kind {
        "DataVolume" if create => causes.extend(datavolume::judge(&request.object)),
        "DataVolume" => causes.insert(
            0,
            Cause::new(
                Reason::Duplicate,
                "DataVolume.Spec",
                "Cannot update DataVolume Spec",
            ),
        ),
        "DataImportCron" if create => causes.extend(cron::judge(&request.object)),
        "DataImportCron" | "VolumeImportSource" | "VolumeUploadSource" | "VolumeCloneSource"
            if !create =>
        {
            causes.insert(
                0,
                Cause::new(
                    Reason::Duplicate,
                    format!("{}.Spec", request.kind),
                    format!("Cannot update {} Spec", request.kind),
                ),
            )
        }
        "ObjectTransfer" if create => causes.extend(transfer::judge(&request.object, ctx)),
        "ObjectTransfer" => {
            let message = "ObjectTransfer spec is immutable";
            causes.insert(0, Cause::new(Reason::Duplicate, "spec", message));
        }
        "VolumeImportSource" => causes.extend(datavolume::import(&request.object)),
        "VolumeCloneSource" => causes.extend(clone_source(&request.object)),
        "DataSource" => causes.extend(data_source(&request.object, &request.namespace)),
        "StorageProfile" => causes.extend(profile(&request.object)),
        _ => {}
    }
    Verdict::from_causes(causes)
}

fn delete(request: &Request, ctx: &Context) -> Verdict {
    let blocks = request.old["spec"]["uninstallStrategy"] == "BlockUninstallIfWorkloadsExist";
    if request.kind == "CDI" && blocks && ctx.has_data_volumes {
        return Verdict::bad_request(
            "Rejecting the uninstall request, since there are still DataVolumes present. Either delete all DataVolumes or change the uninstall strategy before uninstalling CDI.",
        );
    }
    Verdict::allow()
}

/// A DataSource stands for one thing, and one that can be cloned.
fn data_source(object: &Value, namespace: &str) -> Vec<Cause> {
    let source = &object["spec"]["source"];
    let set: Vec<&str> = ["pvc", "snapshot", "dataSource"]
        .into_iter()
        .filter(|name| !source[*name].is_null())
        .collect();
    match set[..] {
        ["pvc" | "snapshot"] => Vec::new(),
        ["dataSource"] => {
            let to = source["dataSource"]["namespace"]
                .as_str()
                .unwrap_or_default();
            let itself = source["dataSource"]["name"] == object["metadata"]["name"];
            if to != namespace {
                vec![Cause::new(
                    Reason::Invalid,
                    "spec.source.dataSource.namespace",
                    "DataSource cannot reference a DataSource in another namespace",
                )]
            } else if itself {
                vec![Cause::new(
                    Reason::Invalid,
                    "spec.source.dataSource.name",
                    "DataSource cannot self-reference",
                )]
            } else {
                Vec::new()
            }
        }
        [] => Vec::new(),
        _ => vec![Cause::new(
            Reason::Invalid,
            "spec.source",
            format!(
                "spec.source: expected one source, found {}",
                set.join(" and ")
            ),
        )],
    }
}

/// A clone is one of a claim or of a snapshot.
fn clone_source(object: &Value) -> Vec<Cause> {
    let source = &object["spec"]["source"];
    let group = source["apiGroup"].as_str().unwrap_or_default();
    let known = match source["kind"].as_str() {
        Some("PersistentVolumeClaim") => group.is_empty(),
        Some("VolumeSnapshot") => group == SNAPSHOT_GROUP,
        _ => false,
    };
    if known {
        return Vec::new();
    }
    let message = format!(
        "spec.source: expected a PersistentVolumeClaim, or a VolumeSnapshot of group {SNAPSHOT_GROUP}, found kind {} of group {group:?}",
        source["kind"],
    );
    vec![Cause::new(
        Reason::NotSupported,
        "spec.source.kind",
        message,
    )]
}

/// Access modes of a profile are ones that Kubernetes knows.
fn profile(object: &Value) -> Vec<Cause> {
    let sets = object["spec"]["claimPropertySets"].as_array();
    let mut out = Vec::new();
    for (at, set) in sets.into_iter().flatten().enumerate() {
        for mode in set["accessModes"].as_array().into_iter().flatten() {
            let known = mode
                .as_str()
                .is_some_and(|mode| datavolume::ACCESS_MODES.contains(&mode));
            if !known {
                out.push(Cause::new(
                    Reason::Invalid,
                    format!("spec.claimPropertySets[{at}].accessModes"),
                    "Illegal AccessMode",
                ));
            }
        }
    }
    out
}
