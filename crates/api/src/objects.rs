//! Names of objects of any kind, for those who make and remove them.

use serde_json::Value;

/// The name of an object in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `apps/v1`, or `v1` for the core group.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Its namespace, if the kind has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of a rendered object; missing parts are empty.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Self {
            api_version: text("/apiVersion").unwrap_or_default(),
            kind: text("/kind").unwrap_or_default(),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name").unwrap_or_default(),
        }
    }

    /// The key of an object of a namespace.
    #[must_use]
    pub fn namespaced(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        }
    }
}

/// A kind that an operator manages, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Managed {
    /// `apps/v1`.
    pub api_version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// Whether its objects live in the operator's namespace.
    pub namespaced: bool,
    /// When it goes at deletion, 0 first.
    pub removal: u8,
}

impl Managed {
    /// A kind whose objects belong to the cluster.
    #[must_use]
    pub const fn cluster(api_version: &'static str, kind: &'static str, removal: u8) -> Self {
        Self {
            api_version,
            kind,
            namespaced: false,
            removal,
        }
    }

    /// A kind whose objects live in the operator's namespace.
    #[must_use]
    pub const fn namespaced(api_version: &'static str, kind: &'static str, removal: u8) -> Self {
        Self {
            api_version,
            kind,
            namespaced: true,
            removal,
        }
    }

    /// Whether an object is of this kind.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        key.kind == self.kind && key.api_version == self.api_version
    }
}

/// Of `present`, those that go first when everything goes; all of one stage.
#[must_use]
pub fn first_to_go<'a>(
    kinds: &[Managed],
    present: impl Iterator<Item = &'a Key> + Clone,
) -> Vec<Key> {
    let stage = |key: &Key| {
        let kind = kinds.iter().find(|kind| kind.has(key));
        kind.map_or(u8::MAX, |kind| kind.removal)
    };
    let first = present.clone().map(stage).min();
    present
        .filter(|key| Some(stage(key)) == first)
        .cloned()
        .collect()
}

/// Whether a text is a name of objects (an RFC 1123 subdomain): nothing else may
/// go into the paths of requests.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = text.as_bytes();
    text.len() <= 253
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| edge(Some(byte)) || matches!(byte, b'-' | b'.'))
}
