//! What admission answers: allowed with patches and warnings, or refused with
//! causes that name field and reason.

use base64::Engine as _;
use serde_json::{Value, json};

/// Causes that are listed one by one; the rest is counted in the message.
/// Source: pkg/util/webhooks/webhooks.go, `ToAdmissionResponse`.
const MAX_CAUSES: usize = 10;

/// Machine-readable kind of a [`Cause`], the names of `metav1.CauseType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A required value is missing.
    Required,
    /// The value is malformed or does not fit the rest.
    Invalid,
    /// The value must be unique and is not.
    Duplicate,
    /// The value is understood and not supported.
    NotSupported,
    /// Something the value refers to does not exist.
    NotFound,
    /// The value is never allowed here.
    Forbidden,
}

impl Reason {
    /// Spelling on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotSupported => "FieldValueNotSupported",
            Self::NotFound => "FieldValueNotFound",
            Self::Forbidden => "FieldValueForbidden",
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Kind of the mistake.
    pub reason: Reason,
    /// What is wrong, for people; clients match on some of these.
    pub message: String,
    /// Path of the field, as in `spec.domain.devices.disks[0].name`. Empty when
    /// upstream names none.
    pub field: String,
}

impl Cause {
    /// A cause of `reason` at `field`.
    pub fn new(reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            field: field.into(),
        }
    }

    /// The cause as `metav1.StatusCause`.
    pub fn to_json(&self) -> Value {
        let mut out = json!({ "reason": self.reason.as_str(), "message": self.message });
        if !self.field.is_empty() {
            out["field"] = json!(self.field);
        }
        out
    }
}

/// Answer to one admission request.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The request may go on.
    pub allowed: bool,
    /// HTTP status of a refusal: 422 for bad fields, 400 for a request that
    /// makes no sense; 200 when allowed.
    pub code: u16,
    /// `metav1.Status.reason` of a refusal: `Invalid`, or empty.
    pub status_reason: &'static str,
    /// Messages of all causes joined by `, `.
    pub message: String,
    /// What is wrong, at most ten entries.
    pub causes: Vec<Cause>,
    /// JSON patch operations of a mutation.
    pub patches: Vec<Value>,
    /// Sentences kubectl prints as warnings.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// Allowed as it is.
    pub fn allow() -> Self {
        Self {
            allowed: true,
            code: 200,
            status_reason: "",
            message: String::new(),
            causes: Vec::new(),
            patches: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Allowed when `causes` is empty, else refused with 422 and all messages
    /// in one sentence.
    pub fn from_causes(mut causes: Vec<Cause>) -> Self {
        if causes.is_empty() {
            return Self::allow();
        }
        let more = causes.len().saturating_sub(MAX_CAUSES);
        causes.truncate(MAX_CAUSES);
        let mut message = causes
            .iter()
            .map(|cause| cause.message.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        if more > 0 {
            message.push_str(&format!(", and {more} more validation errors"));
        }
        Self {
            allowed: false,
            code: 422,
            status_reason: "Invalid",
            message,
            causes,
            patches: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Refused with 400: the request itself makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self {
            allowed: false,
            code: 400,
            status_reason: "",
            message: message.into(),
            causes: Vec::new(),
            patches: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Allowed with the patch that turns `before` into `after`; none when equal.
    pub fn patched(before: &Value, after: &Value) -> Self {
        let patches = json_patch::diff(before, after)
            .0
            .iter()
            .filter_map(|op| serde_json::to_value(op).ok())
            .collect();
        Self {
            patches,
            ..Self::allow()
        }
    }

    /// The same with `warnings`.
    pub fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// The `AdmissionReview` (admission.k8s.io/v1) that answers request `uid`.
    pub fn into_review(self, uid: &str) -> Value {
        let mut response = json!({ "uid": uid, "allowed": self.allowed });
        if !self.warnings.is_empty() {
            response["warnings"] = json!(self.warnings);
        }
        if self.allowed {
            if !self.patches.is_empty() {
                let patch = Value::Array(self.patches).to_string();
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(patch));
            }
        } else {
            let mut status = json!({ "message": self.message, "code": self.code });
            if !self.status_reason.is_empty() {
                status["reason"] = json!(self.status_reason);
            }
            if !self.causes.is_empty() {
                let causes: Vec<Value> = self.causes.iter().map(Cause::to_json).collect();
                status["details"] = json!({ "causes": causes });
            }
            response["status"] = status;
        }
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": response,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn more_than_ten_causes_are_counted() {
        let causes = (0..13)
            .map(|n| Cause::new(Reason::Invalid, format!("spec.x[{n}]"), format!("m{n}")))
            .collect();
        let verdict = Verdict::from_causes(causes);
        assert_eq!(verdict.causes.len(), 10);
        assert!(
            verdict
                .message
                .ends_with("m9, and 3 more validation errors")
        );
        let review = verdict.into_review("u1");
        assert_eq!(review["response"]["uid"], "u1");
        assert_eq!(review["response"]["status"]["code"], 422);
        assert_eq!(review["response"]["status"]["reason"], "Invalid");
        assert_eq!(
            review["response"]["status"]["details"]["causes"][3]["field"],
            "spec.x[3]"
        );
    }

    #[test]
    fn a_patch_touches_only_what_changed() {
        let verdict = Verdict::patched(
            &json!({"a": 1, "b": {"c": 2}}),
            &json!({"a": 1, "b": {"c": 3}}),
        );
        assert_eq!(
            verdict.patches,
            vec![json!({"op": "replace", "path": "/b/c", "value": 3})]
        );
        assert!(Verdict::patched(&json!({}), &json!({})).patches.is_empty());
    }
}
