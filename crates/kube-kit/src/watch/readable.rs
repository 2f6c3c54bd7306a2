//! Objects that may not be what their type says.

use kube::core::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object as it came.
#[derive(Clone, Debug)]
pub(super) enum Readable<K> {
    /// It is one.
    Yes(K),
    /// A field of it is not as the type has it.
    No {
        /// As much of its metadata as there is.
        meta: Box<ObjectMeta>,
        /// What was expected and found.
        why: String,
    },
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(match K::deserialize(&value) {
            Ok(object) => Self::Yes(object),
            Err(error) => Self::No {
                meta: Box::new(ObjectMeta::deserialize(&value["metadata"]).unwrap_or_default()),
                why: error.to_string(),
            },
        })
    }
}
