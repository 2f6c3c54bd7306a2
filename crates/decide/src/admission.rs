//! Admission of our kinds, as pure functions: an AdmissionReview and what the
//! cluster is configured to do go in, a [`Verdict`] comes out.
//!
//! ```text
//!   AdmissionReview (JSON) --Review::parse--> Review ---+
//!                                                       |--mutate-----> Verdict (patches)
//!   KubeVirt object --ClusterConfig::from_kubevirt--> Context --validate--> Verdict (causes)
//!                                                       |
//!   Verdict --Verdict::into_review--> AdmissionReview (JSON)
//! ```
//!
//! Objects stay raw JSON, so nothing a client wrote is lost: mutation is a JSON
//! patch between what came and what is to be, and a refusal names the path as
//! the client wrote it. Three questions are asked of a new object, in this
//! order: is every field one that edgevirt acts on ([`unsupported`]), do the
//! values hold together (`spec` and below), may this user do this.
//!
//! Source of checks, messages, paths and codes: KubeVirt's webhooks
//! (pkg/virt-api/webhooks, pkg/network/admitter, pkg/storage/admitters,
//! pkg/virt-operator/webhooks).

mod context;
mod defaults;
mod disks;
mod json;
pub mod kubevirt;
mod metadata;
mod names;
pub(crate) use names::dns_subdomain;
mod quantity;
pub(crate) mod readable;
mod review;
mod spec;
mod unsupported;
mod verdict;
pub mod vm;
pub mod vmi;

pub use context::{ClusterConfig, Context, Workloads};
pub use review::{Kind, Operation, Review, ReviewError};
pub use unsupported::{unsupported, unsupported_in};
pub use verdict::{Cause, Reason, Verdict};

/// Answers a mutating webhook call: defaults, as JSON patches.
/// Kinds and operations that are not mutated are allowed as they are.
pub fn mutate(review: &Review, ctx: &Context) -> Verdict {
    match review.kind {
        Kind::VirtualMachine => vm::mutate(review, ctx),
        Kind::VirtualMachineInstance => vmi::mutate(review, ctx),
        Kind::KubeVirt => Verdict::allow(),
    }
}

/// Answers a validating webhook call for any of our kinds, operation and
/// subresource taken from the review.
pub fn validate(review: &Review, ctx: &Context) -> Verdict {
    readable::ensure(review, judge(review, ctx), |object| match review.kind {
        Kind::VirtualMachine => readable::flaw::<api::VirtualMachine>(object),
        Kind::VirtualMachineInstance => readable::flaw::<api::VirtualMachineInstance>(object),
        Kind::KubeVirt => readable::flaw::<api::KubeVirt>(object),
    })
}

fn judge(review: &Review, ctx: &Context) -> Verdict {
    match (review.kind, review.operation) {
        (Kind::VirtualMachine, Operation::Create) => vm::validate_create(review, ctx),
        (Kind::VirtualMachine, Operation::Update) => vm::validate_update(review, ctx),
        (Kind::VirtualMachineInstance, Operation::Create) => vmi::validate_create(review, ctx),
        (Kind::VirtualMachineInstance, Operation::Update) => vmi::validate_update(review, ctx),
        (Kind::KubeVirt, Operation::Create) => kubevirt::validate_create(review, ctx),
        (Kind::KubeVirt, Operation::Update) => kubevirt::validate_update(review, ctx),
        (Kind::KubeVirt, Operation::Delete) => kubevirt::validate_delete(review, ctx),
        _ => Verdict::allow(),
    }
}
