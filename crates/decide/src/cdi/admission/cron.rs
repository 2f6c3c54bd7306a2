//! A new DataImportCron: an image that can be looked at as scheduled, and imported.

use serde_json::{Value, json};

use super::datavolume;
use crate::admission::{Cause, Reason, dns_subdomain};
use crate::cdi::cron::schedule;

/// Longest name of a cron, which is the value of a label, and of what it manages.
const NAME: usize = 63;

/// What is wrong with a new cron, fields that are not supported apart.
pub(super) fn judge(object: &Value) -> Vec<Cause> {
    let mut out = Vec::new();
    let spec = &object["spec"];
    named(
        "metadata.name",
        text(&object["metadata"]["name"]),
        NAME,
        &mut out,
    );
    template(&spec["template"], &mut out);
    let when = text(&spec["schedule"]);
    // Empty: nobody looks, somebody else writes the digest.
    if !when.is_empty()
        && let Err(why) = schedule::check(when)
    {
        out.push(invalid(
            "spec.schedule",
            format!("Illegal cron schedule: {why}"),
        ));
    }
    if spec["importsToKeep"].as_i64().is_some_and(|keep| keep < 0) {
        out.push(invalid(
            "spec.importsToKeep",
            "Illegal ImportsToKeep value: expected zero or more",
        ));
    }
    let managed = text(&spec["managedDataSource"]);
    named("spec.managedDataSource", managed, NAME, &mut out);
    let registry = &spec["template"]["spec"]["source"]["registry"];
    for (path, value) in [
        ("spec.serviceAccountName", &spec["serviceAccountName"]),
        (
            "spec.template.spec.priorityClassName",
            &spec["template"]["spec"]["priorityClassName"],
        ),
        (
            "spec.template.spec.source.registry.secretRef",
            &registry["secretRef"],
        ),
        (
            "spec.template.spec.source.registry.certConfigMap",
            &registry["certConfigMap"],
        ),
    ] {
        if !text(value).is_empty() {
            named(path, text(value), 253, &mut out);
        }
    }
    out
}

/// The DataVolume of each import: one of a registry's image.
fn template(template: &Value, out: &mut Vec<Cause>) {
    let spec = &template["spec"];
    let sources = spec["source"].as_object();
    let mut others = sources
        .into_iter()
        .flatten()
        .filter(|(name, value)| *name != "registry" && !value.is_null());
    if let Some((name, _)) = others.next() {
        let path = format!("spec.template.spec.source.{name}");
        let message = format!(
            "{path} is not supported: expected a registry's image, which has a digest that tells when it changed; import others with a DataVolume"
        );
        return out.push(Cause::new(Reason::NotSupported, path, message));
    }
    if spec["source"]["registry"].is_null() {
        return out.push(invalid("spec.template", "Missing source"));
    }
    if !spec["sourceRef"].is_null() || !text(&spec["contentType"]).is_empty() {
        return out.push(invalid(
            "spec.template",
            "Unsettable fields: SourceRef, ContentType, Checkpoints, FinalCheckpoint",
        ));
    }
    // Its name is made of the DataSource's, which has a limit of its own.
    let volume = json!({ "metadata": { "name": "import" }, "spec": spec });
    for mut cause in datavolume::judge(&volume) {
        cause.message = cause
            .message
            .replace("spec.source.", "spec.template.spec.source.");
        cause.field = format!("spec.template.{}", cause.field);
        out.push(cause);
    }
}

fn named(path: &str, name: &str, longest: usize, out: &mut Vec<Cause>) {
    if name.len() > longest {
        return out.push(invalid(
            path,
            format!("Name cannot be longer than {longest} characters"),
        ));
    }
    let wrong = dns_subdomain(name);
    if !wrong.is_empty() {
        let message = format!("{path}: found {name:?}: {}", wrong.join("; "));
        out.push(invalid(path, message));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn invalid(path: &str, message: impl Into<String>) -> Cause {
    Cause::new(Reason::Invalid, path, message)
}
