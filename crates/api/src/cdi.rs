//! Kinds of cdi.kubevirt.io and upload.cdi.kubevirt.io: what the Containerized
//! Data Importer's clients send and read, and the names that travel with them.
//!
//! As elsewhere, the structs are views of what is acted on; the list of all
//! fields and their fate is `schema/cdi_kinds.tbl`.
//! Source of names and shapes: CDI's API (cdi.kubevirt.io/v1beta1).

mod config;
mod crds;
mod datavolume;
pub mod names;
mod profile;
mod source;
mod transfer;
mod upload;

pub use config::*;
pub use crds::{KINDS, crds, table};
pub use datavolume::*;
pub use profile::*;
pub use source::*;
pub use transfer::*;
pub use upload::*;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// A condition of a kind of CDI. `status` is `True`, `False` or `Unknown`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Kind of the condition, for example `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// CamelCase word for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When any of this last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
    /// When `status` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

/// Makes a kind of cdi.kubevirt.io usable with any Kubernetes client.
macro_rules! cdi_kind {
    ($ty:ident, $plural:literal, $scope:ident) => {
        impl k8s_openapi::Resource for $ty {
            const API_VERSION: &'static str = $crate::cdi::names::API_VERSION;
            const GROUP: &'static str = $crate::cdi::names::GROUP;
            const KIND: &'static str = stringify!($ty);
            const VERSION: &'static str = $crate::cdi::names::VERSION;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::$scope;
        }

        impl k8s_openapi::Metadata for $ty {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use cdi_kind;
