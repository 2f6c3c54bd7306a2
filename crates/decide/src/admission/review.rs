//! An admission request, taken out of the AdmissionReview that the API server
//! posts (admission.k8s.io/v1).

use serde_json::Value;

/// Why a body is not an admission request we can answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReviewError {
    /// A field the API server always sets is missing.
    #[error("AdmissionReview without {0}; was this posted by an API server?")]
    Missing(&'static str),
    /// The webhook was called for a kind it does not know.
    #[error("expect resource to be one of {expected}; got '{found}'")]
    Resource {
        /// Those that it knows.
        expected: String,
        /// RESOURCE.GROUP.
        found: String,
    },
    /// The operation is none of CREATE, UPDATE, DELETE, CONNECT.
    #[error("unknown operation '{0}'")]
    Operation(String),
}

/// Kinds that have webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// kubevirt.io VirtualMachine.
    VirtualMachine,
    /// kubevirt.io VirtualMachineInstance.
    VirtualMachineInstance,
    /// kubevirt.io KubeVirt.
    KubeVirt,
}

impl Kind {
    /// Spelling in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VirtualMachine => "VirtualMachine",
            Self::VirtualMachineInstance => "VirtualMachineInstance",
            Self::KubeVirt => "KubeVirt",
        }
    }

    fn from_resource(resource: &str) -> Option<Self> {
        match resource {
            "virtualmachines" => Some(Self::VirtualMachine),
            "virtualmachineinstances" => Some(Self::VirtualMachineInstance),
            "kubevirts" => Some(Self::KubeVirt),
            _ => None,
        }
    }
}

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It replaces an older one.
    Update,
    /// It is to go away.
    Delete,
    /// A subresource connection.
    Connect,
}

/// One admission request for an object of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Review<K = Kind> {
    /// Identity of the request; unique, given back in the answer.
    pub uid: String,
    /// Kind of the object.
    pub kind: K,
    /// What is done to it.
    pub operation: Operation,
    /// `status` or another subresource; empty for the object itself.
    pub subresource: String,
    /// Namespace of the request.
    pub namespace: String,
    /// Name of the object; empty when the server will generate it.
    pub name: String,
    /// Who asks.
    pub user: String,
    /// Node of a service account token bound to a pod there
    /// (`authentication.kubernetes.io/node-name`).
    pub user_node: Option<String>,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// The object as it is to be; null on delete.
    pub object: Value,
    /// The object as it was; null on create.
    pub old: Value,
}

impl Review {
    /// Reads the `request` of an AdmissionReview.
    ///
    /// # Errors
    /// When a field the API server always sets is missing, or the webhook is
    /// registered for a resource that is not ours.
    pub fn parse(body: Value) -> Result<Self, ReviewError> {
        Self::read(
            body,
            |group, resource| Kind::from_resource(resource).filter(|_| group == api::names::GROUP),
            || "virtualmachines, virtualmachineinstances, kubevirts".to_owned(),
        )
    }
}

impl<K> Review<K> {
    /// As [`Review::parse`], for kinds that `known` finds by group and resource; `all` names them.
    pub(crate) fn read(
        mut body: Value,
        known: impl FnOnce(&str, &str) -> Option<K>,
        all: impl FnOnce() -> String,
    ) -> Result<Self, ReviewError> {
        let request = body
            .get_mut("request")
            .filter(|request| request.is_object())
            .ok_or(ReviewError::Missing("request"))?;
        let object = request["object"].take();
        let old = request["oldObject"].take();
        let text = |field: &str| {
            request
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let resource = request["resource"]["resource"]
            .as_str()
            .ok_or(ReviewError::Missing("request.resource"))?;
        let group = request["resource"]["group"].as_str().unwrap_or_default();
        let kind = known(group, resource).ok_or_else(|| ReviewError::Resource {
            expected: all(),
            found: format!("{resource}.{group}"),
        })?;
        let operation = match text("operation").as_str() {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            "CONNECT" => Operation::Connect,
            "" => return Err(ReviewError::Missing("request.operation")),
            other => return Err(ReviewError::Operation(other.to_owned())),
        };
        let uid = text("uid");
        if uid.is_empty() {
            return Err(ReviewError::Missing("request.uid"));
        }
        let user = &request["userInfo"];
        Ok(Self {
            uid,
            kind,
            operation,
            subresource: text("subResource"),
            namespace: text("namespace"),
            name: text("name"),
            user: user["username"].as_str().unwrap_or_default().to_owned(),
            user_node: user["extra"]["authentication.kubernetes.io/node-name"][0]
                .as_str()
                .map(str::to_owned),
            dry_run: request["dryRun"].as_bool().unwrap_or_default(),
            object,
            old,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn body() -> Value {
        json!({"request": {
            "uid": "u", "operation": "UPDATE", "namespace": "ns", "name": "vm",
            "resource": {"group": "kubevirt.io", "version": "v1", "resource": "virtualmachines"},
            "userInfo": {"username": "alice",
                "extra": {"authentication.kubernetes.io/node-name": ["edge1"]}},
            "object": {"a": 1}, "oldObject": {"a": 0},
        }})
    }

    #[test]
    fn a_request_is_read() {
        let review = Review::parse(body()).unwrap();
        assert_eq!(review.kind, Kind::VirtualMachine);
        assert_eq!(review.operation, Operation::Update);
        assert_eq!(review.user_node.as_deref(), Some("edge1"));
        assert_eq!(
            (review.object, review.old),
            (json!({"a": 1}), json!({"a": 0}))
        );
        assert!(!review.dry_run);
    }

    #[test]
    fn foreign_resources_are_named_in_the_error() {
        let mut foreign = body();
        foreign["request"]["resource"]["resource"] = json!("pods");
        assert_eq!(
            Review::parse(foreign).unwrap_err(),
            ReviewError::Resource {
                expected: "virtualmachines, virtualmachineinstances, kubevirts".to_owned(),
                found: "pods.kubevirt.io".to_owned(),
            }
        );
        assert_eq!(
            Review::parse(json!({})).unwrap_err(),
            ReviewError::Missing("request")
        );
    }
}
