//! Refusals in the words and codes of the Kubernetes API.
//! Source of the sentences: k8s.io/apimachinery/pkg/api/errors/errors.go.

use serde_json::{Value, json};

/// What a refusal is about. Upstream names the kinds in the singular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The VirtualMachine.
    Machine,
    /// The VirtualMachineInstance.
    Instance,
}

impl Subject {
    /// The word in `Status.details.kind` and in sentences.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Machine => "virtualmachine",
            Self::Instance => "virtualmachineinstance",
        }
    }
}

/// Why a request is not done: a `metav1.Status`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// Word for programs, such as `Conflict`.
    pub reason: &'static str,
    /// Sentence for people.
    pub message: String,
    /// What it is about, with its name; absent where upstream names nothing.
    pub about: Option<(Subject, String)>,
    /// The bare cause of an internal error.
    pub cause: Option<String>,
}

impl Refusal {
    /// 409: the state of the object forbids it.
    #[must_use]
    pub fn conflict(subject: Subject, name: &str, why: &str) -> Self {
        let kind = subject.kind();
        let message =
            format!("Operation cannot be fulfilled on {kind}.kubevirt.io \"{name}\": {why}");
        Self::about(409, "Conflict", message, subject, name)
    }

    /// 404: no such object.
    #[must_use]
    pub fn not_found(subject: Subject, name: &str) -> Self {
        let message = format!("{}.kubevirt.io \"{name}\" not found", subject.kind());
        Self::about(404, "NotFound", message, subject, name)
    }

    /// 403: never allowed for this object.
    #[must_use]
    pub fn forbidden(subject: Subject, name: &str, why: &str) -> Self {
        let message = format!(
            "{}.kubevirt.io \"{name}\" is forbidden: {why}",
            subject.kind()
        );
        Self::about(403, "Forbidden", message, subject, name)
    }

    /// 400: the request makes no sense, now or ever.
    #[must_use]
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::bare(400, "BadRequest", why.into())
    }

    /// 500: something behind us failed.
    #[must_use]
    pub fn internal(why: impl Into<String>) -> Self {
        let why = why.into();
        let message = format!("Internal error occurred: {why}");
        Self {
            cause: Some(why),
            ..Self::bare(500, "InternalError", message)
        }
    }

    /// 501: a path of upstream's that is not served yet.
    #[must_use]
    pub fn not_served(why: impl Into<String>) -> Self {
        Self::bare(501, "NotImplemented", why.into())
    }

    fn about(
        code: u16,
        reason: &'static str,
        message: String,
        subject: Subject,
        name: &str,
    ) -> Self {
        Self {
            about: Some((subject, name.to_owned())),
            ..Self::bare(code, reason, message)
        }
    }

    fn bare(code: u16, reason: &'static str, message: String) -> Self {
        Self {
            code,
            reason,
            message,
            about: None,
            cause: None,
        }
    }

    /// The `metav1.Status` on the wire.
    #[must_use]
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some((subject, name)) = &self.about {
            status["details"] =
                json!({ "name": name, "group": api::names::GROUP, "kind": subject.kind() });
        }
        if let Some(cause) = &self.cause {
            status["details"]["causes"] = json!([{ "message": cause }]);
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_reads_as_the_api_server_writes_it() {
        let status = Refusal::conflict(Subject::Machine, "x", "VM is not running").to_status();
        assert_eq!(
            status,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Operation cannot be fulfilled on virtualmachine.kubevirt.io \"x\": VM is not running",
                "reason": "Conflict", "code": 409,
                "details": {"name": "x", "group": "kubevirt.io", "kind": "virtualmachine"},
            })
        );
    }

    #[test]
    fn an_internal_error_carries_its_cause() {
        let status = Refusal::internal("boom").to_status();
        assert_eq!(status["message"], "Internal error occurred: boom");
        assert_eq!(status["details"], json!({"causes": [{"message": "boom"}]}));
    }
}
