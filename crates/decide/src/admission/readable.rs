//! Objects that the schema lets pass and our components could not read: a number too large for
//! its type, for example. No component may meet one.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::review::{Operation, Review};
use super::verdict::{Cause, Reason, Verdict};

/// What keeps `object` from being read as its kind.
pub(crate) fn flaw<K: DeserializeOwned>(object: &Value) -> Option<Cause> {
    let error = serde_path_to_error::deserialize::<_, K>(object).err()?;
    let path = error.path().to_string();
    let message = format!("{path}: {}", error.inner());
    Some(Cause::new(Reason::Invalid, path, message))
}

/// `verdict`, unless it allows an object in which `flaw` finds one. What was stored with a flaw
/// may be changed, and what goes away goes.
pub(crate) fn ensure<K>(
    review: &Review<K>,
    verdict: Verdict,
    flaw: impl Fn(&Value) -> Option<Cause>,
) -> Verdict {
    let goes = !review.object["metadata"]["deletionTimestamp"].is_null();
    let stores = !goes && matches!(review.operation, Operation::Create | Operation::Update);
    if !verdict.allowed || !stores {
        return verdict;
    }
    match flaw(&review.object) {
        Some(cause) if review.old.is_null() || flaw(&review.old).is_none() => {
            Verdict::from_causes(vec![cause])
        }
        _ => verdict,
    }
}
