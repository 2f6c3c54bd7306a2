//! Small answers: JSON, text, Status.

use decide::subresource::Refusal;

pub(crate) use kube_kit::answer::{Answer, empty, json, text};

/// A refusal as a `metav1.Status`.
pub(crate) fn refusal(refusal: &Refusal) -> Answer {
    tracing::debug!(code = refusal.code, "refused: {refusal}");
    json(refusal.code, &refusal.to_status())
}
