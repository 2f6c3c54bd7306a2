//! VirtualMachine: defaults that must not differ from start to start, and the
//! checks of its template.
//!
//! Source: pkg/virt-api/webhooks: mutators/vm-mutator.go,
//! admitters/vms-admitter.go.

use serde_json::Value;

use super::context::Context;
use super::json::{at, default_at, has, slot};
use super::review::{Operation, Review};
use super::spec::{self, Causes, Path};
use super::unsupported::unsupported;
use super::verdict::{Cause, Reason, Verdict};
use super::vmi::derived_uuid;
use super::{defaults, disks, metadata};

/// Run strategies a user may choose.
const RUN_STRATEGIES: [&str; 5] = ["Halted", "Manual", "Always", "RerunOnFailure", "Once"];

/// Fills in what every start of the machine must share: architecture, machine
/// type and, at creation, the firmware's UUID and serial number.
pub fn mutate(review: &Review, ctx: &Context) -> Verdict {
    if has(&review.object, "metadata.deletionTimestamp") || !review.subresource.is_empty() {
        return Verdict::allow();
    }
    let mut after = review.object.clone();
    if has(&after, "spec.template.spec.domain") {
        defaults::quantities("VirtualMachine", &mut after);
        let create = review.operation == Operation::Create;
        if let Some(spec) = slot(&mut after, "spec.template.spec") {
            if create {
                let derive = |purpose| derived_uuid(&review.uid, purpose);
                default_at(spec, "domain.firmware.uuid", derive("firmware"));
                default_at(spec, "domain.firmware.serial", derive("serial"));
            }
            default_at(spec, "architecture", ctx.config.architecture.as_str());
            default_at(
                spec,
                "domain.machine.type",
                ctx.config.machine_type.as_str(),
            );
        }
    }
    Verdict::patched(&review.object, &after)
}

/// Checks a new VM.
pub fn validate_create(review: &Review, ctx: &Context) -> Verdict {
    validate(review, ctx)
}

/// Checks a change of a VM. A spec that is as it was is not judged again, so
/// that objects stored under older rules can still be labelled and deleted.
pub fn validate_update(review: &Review, ctx: &Context) -> Verdict {
    let same = review.object["spec"] == review.old["spec"];
    if same || !review.subresource.is_empty() {
        return Verdict::allow();
    }
    validate(review, ctx)
}

fn validate(review: &Review, ctx: &Context) -> Verdict {
    let vm = &review.object;
    if has(vm, "metadata.deletionTimestamp") {
        return Verdict::allow();
    }
    if !has(vm, "spec.template") {
        return Verdict::from_causes(vec![Cause::new(
            Reason::Required,
            "spec.template",
            "missing virtual machine template.",
        )]);
    }
    let mut causes = unsupported(review.kind.as_str(), vm);

    // The template is checked with the defaults its VMI will get.
    let mut template = vm["spec"]["template"].clone();
    if let Some(spec) = slot(&mut template, "spec")
        && let Err(why) = defaults::spec(spec, &ctx.config)
    {
        return Verdict::bad_request(why);
    }
    let path = Path::new("spec.template");
    let mut more = Causes::default();
    metadata::check(
        &path.child("metadata"),
        at(&template, "metadata"),
        &ctx.config,
        ctx.is_component(&review.user),
        &mut more,
    );
    causes.extend(more.into_vec());
    causes.extend(spec::check(
        &path.child("spec"),
        at(&template, "spec"),
        &ctx.config,
    ));
    causes.extend(disks::templates(&vm["spec"], &review.namespace));
    causes.extend(run_strategy(&vm["spec"]));

    let mut warnings = Vec::new();
    if has(vm, "spec.running") {
        warnings
            .push("spec.running is deprecated, please use spec.runStrategy instead.".to_owned());
    }
    let verdict = Verdict::from_causes(causes);
    if verdict.allowed {
        verdict.with_warnings(warnings)
    } else {
        verdict
    }
}

fn run_strategy(spec: &Value) -> Vec<Cause> {
    let mut out = Causes::default();
    let running = Path::new("spec.running");
    match (has(spec, "running"), has(spec, "runStrategy")) {
        (true, true) => out.invalid(
            &running,
            "Running and RunStrategy are mutually exclusive. Note that Running is deprecated, please use RunStrategy instead",
        ),
        (false, false) => out.invalid(&running, "RunStrategy must be specified"),
        _ => {}
    }
    if let Some(strategy) = at(spec, "runStrategy").as_str() {
        let field = Path::new("spec.runStrategy");
        if strategy == "WaitAsReceiver" {
            out.invalid(
                &field,
                "Invalid RunStrategy (WaitAsReceiver), DecentralizedLiveMigration feature gate is not enabled in kubevirt resource",
            );
        } else if !RUN_STRATEGIES.contains(&strategy) {
            out.invalid(&field, format!("Invalid RunStrategy ({strategy})"));
        }
    }
    out.into_vec()
}
