//! Why a specification makes no machine.

/// A field that cannot be turned into hardware.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: found {found}, expected {expected}")]
pub struct SpecError {
    /// Path of the field, for example `spec.domain.devices.disks[0].disk.bus`.
    pub path: String,
    /// The offending value, quoted, or `nothing`.
    pub found: String,
    /// What would have been accepted.
    pub expected: String,
}

impl SpecError {
    /// An error about a field that holds the wrong value.
    pub(crate) fn new(
        path: impl Into<String>,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into(),
            found: format!("`{found}`"),
            expected: expected.into(),
        }
    }

    /// An error about a field that is missing.
    pub(crate) fn missing(path: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            found: "nothing".to_owned(),
            expected: expected.into(),
        }
    }
}
