//! The tables of bad input: one mistake a row.

mod guest;
mod network;
mod storage;

use serde_json::Value;

pub(crate) const INVALID: &str = "FieldValueInvalid";
pub(crate) const NOT_FOUND: &str = "FieldValueNotFound";
pub(crate) const REQUIRED: &str = "FieldValueRequired";
pub(crate) const DUPLICATE: &str = "FieldValueDuplicate";
pub(crate) const NOT_SUPPORTED: &str = "FieldValueNotSupported";

/// Pointer into the VMI's spec, value there, then what the cause must be: field
/// below the spec, reason, part of the message.
pub(crate) type Case = (
    &'static str,
    Value,
    &'static str,
    &'static str,
    &'static str,
);

/// All rows.
pub(crate) fn all() -> Vec<Case> {
    [guest::rows(), network::rows(), storage::rows()].concat()
}
