//! VirtualMachineInstance: defaults and the first status at creation; its spec
//! never changes after that, and its status is the components' alone.
//!
//! Source: pkg/virt-api/webhooks: mutators/vmi-mutator.go,
//! admitters/vmi-{create,update}-admitter.go.

use api::names::{NO_FREE_PAGE_REPORTING, NONROOT_UID, VMI_FINALIZER};
use serde_json::{Value, json};
use uuid::Uuid;

use super::context::Context;
use super::json::{at, has, list_at, set_at, slot, text, text_at};
use super::review::{Operation, Review};
use super::spec::{self, Causes, Path};
use super::unsupported::unsupported;
use super::verdict::{Cause, Reason, Verdict};
use super::{defaults, metadata};

/// Fills in defaults, finalizer and first status of a new VMI; puts back a
/// status that somebody else than a component changed.
pub fn mutate(review: &Review, ctx: &Context) -> Verdict {
    let mut after = review.object.clone();
    match review.operation {
        Operation::Create => {
            if let Err(why) = fill(&mut after, review, ctx) {
                return Verdict::bad_request(why);
            }
        }
        Operation::Update => {
            if !ctx.is_component(&review.user) && review.object["status"] != review.old["status"] {
                let old = review.old["status"].clone();
                match after.as_object_mut() {
                    Some(members) if old.is_null() => {
                        members.remove("status");
                    }
                    Some(_) => set_at(&mut after, "status", old),
                    None => {}
                }
            }
        }
        Operation::Delete | Operation::Connect => {}
    }
    Verdict::patched(&review.object, &after)
}

fn fill(vmi: &mut Value, review: &Review, ctx: &Context) -> Result<(), String> {
    if !has(vmi, "spec.domain") {
        // The schema refuses it with a better sentence than ours could be.
        return Ok(());
    }
    defaults::quantities("VirtualMachineInstance", vmi);
    if let Some(spec) = vmi.get_mut("spec") {
        defaults::spec(spec, &ctx.config)?;
        defaults::instance(spec, &ctx.config, &derived_uuid(&review.uid, "firmware"));
    }
    // Upstream's switch for a single VMI is this annotation; the cluster's is put
    // in the same words, so that whoever looks at the VMI sees which holds.
    if !ctx.config.free_page_reporting
        && let Some(annotations) = slot(vmi, "metadata.annotations")
        && (annotations.is_null() || annotations.is_object())
    {
        annotations[NO_FREE_PAGE_REPORTING] = json!("true");
    }
    let finalizers = list_at(vmi, "metadata.finalizers");
    if !finalizers.iter().any(|name| text(name) == VMI_FINALIZER) {
        let all: Vec<&str> = finalizers.iter().map(text).chain([VMI_FINALIZER]).collect();
        let all = json!(all);
        set_at(vmi, "metadata.finalizers", all);
    }
    let status = first_status(at(vmi, "spec.domain"), &ctx.now);
    set_at(vmi, "status", status);
    Ok(())
}

/// Status of a VMI that nobody has looked at yet.
fn first_status(domain: &Value, now: &str) -> Value {
    let mut status = json!({
        "phase": "Pending",
        "phaseTransitionTimestamps": [
            { "phase": "Pending", "phaseTransitionTimestamp": now },
        ],
        "runtimeUser": NONROOT_UID,
    });
    let guest = at(domain, "memory.guest");
    if !guest.is_null() {
        status["memory"] = json!({
            "guestAtBoot": guest,
            "guestCurrent": guest,
            "guestRequested": guest,
        });
    }
    for part in ["sockets", "cores", "threads"] {
        let count = at(domain, "cpu").get(part).cloned().unwrap_or(json!(1));
        if let Some(slot) = slot(&mut status, "currentCPUTopology") {
            if slot.is_null() {
                *slot = json!({});
            }
            slot[part] = count;
        }
    }
    status
}

/// A UUID that looks random and is a function of the request's own random one,
/// so that admission stays a function of its input.
pub(super) fn derived_uuid(request: &str, purpose: &str) -> String {
    let namespace = Uuid::parse_str(request).unwrap_or(Uuid::NAMESPACE_OID);
    Uuid::new_v5(&namespace, purpose.as_bytes()).to_string()
}

/// Checks a new VMI, defaults filled in.
pub fn validate_create(review: &Review, ctx: &Context) -> Verdict {
    let mut causes = unsupported(review.kind.as_str(), &review.object);
    let spec = &review.object["spec"];
    let path = Path::new("spec");
    causes.extend(spec::check(&path, spec, &ctx.config));
    let mut more = Causes::default();
    for (field, name) in spec::volumes_without_disk(&path, spec) {
        let message = format!("{field} '{name}' not found.");
        more.invalid(&field, message);
    }
    let mut causes = [causes, more.into_vec()].concat();
    if let Some(message) = spec::memory_is_given(&path, spec) {
        causes.push(Cause::new(Reason::Required, "", message));
    }
    let mut more = Causes::default();
    metadata::check(
        &Path::new("metadata"),
        &review.object["metadata"],
        &ctx.config,
        ctx.is_component(&review.user),
        &mut more,
    );
    causes.extend(more.into_vec());
    Verdict::from_causes(causes)
}

/// Checks a change of a VMI: its spec and its reserved labels stay, but for the
/// grace period, which our components may change; virt-handler touches only
/// what runs on its own node.
pub fn validate_update(review: &Review, ctx: &Context) -> Verdict {
    let (new, old) = (&review.object, &review.old);
    if let Some(message) = foreign_node(review, ctx) {
        return Verdict::from_causes(vec![Cause::new(Reason::Invalid, "", message)]);
    }
    // Upstream lets its components plug things in; here nothing can be plugged
    // in, but a forced stop or restart gives the guest less time (virt-api).
    let mut hastened = old["spec"].clone();
    if ctx.is_component(&review.user) {
        const GRACE: &str = "terminationGracePeriodSeconds";
        match (new["spec"].get(GRACE), hastened.as_object_mut()) {
            (Some(grace), Some(spec)) => drop(spec.insert(GRACE.to_owned(), grace.clone())),
            (None, Some(spec)) => drop(spec.remove(GRACE)),
            _ => {}
        }
    }
    if new["spec"] != hastened {
        return Verdict::from_causes(vec![Cause::new(
            Reason::NotSupported,
            "",
            "update of VMI object is restricted",
        )]);
    }
    let (new, old) = (&new["metadata"], &old["metadata"]);
    if !ctx.is_component(&review.user)
        && metadata::reserved_labels(new) != metadata::reserved_labels(old)
    {
        return Verdict::from_causes(vec![Cause::new(
            Reason::NotSupported,
            "",
            "modification of the following reserved kubevirt.io/ labels on a VMI object is prohibited",
        )]);
    }
    Verdict::allow()
}

/// Why virt-handler may not touch this VMI. Without the gate NodeRestriction a
/// handler whose token names no node, or a VMI without a node, passes.
fn foreign_node(review: &Review, ctx: &Context) -> Option<&'static str> {
    if !ctx.is_handler(&review.user) {
        return None;
    }
    let strict = ctx.config.gate("NodeRestriction");
    let node = text_at(&review.old, "status.nodeName");
    match review.user_node.as_deref() {
        None if strict => {
            Some("Node restriction failed, virt-handler service account is missing node name")
        }
        Some(own) if own != node && (strict || !node.is_empty()) => {
            Some("Node restriction, virt-handler is only allowed to modify VMIs it owns")
        }
        _ => None,
    }
}
