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

/// Makes a kind of cdi.kubevirt.io usable with any Kubernetes client; with the
/// types of its parts, makes the kind itself.
macro_rules! cdi_kind {
    ($ty:ident, $plural:literal, $scope:ident) => {
        $crate::resource::kind!($ty, stringify!($ty), $plural, $scope, $crate::cdi::names);
    };
    (
        $(#[$doc:meta])+
        $ty:ident($plural:literal, $scope:ident);
        $(#[$spec_doc:meta])+
        spec: $spec:ty;
        $($(#[$status_doc:meta])+ status: $status:ty;)?
    ) => {
        $(#[$doc])+
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $ty {
            /// `cdi.kubevirt.io/v1beta1`.
            pub api_version: String,
            /// Name of the kind.
            pub kind: String,
            /// Standard metadata.
            pub metadata: ObjectMeta,
            $(#[$spec_doc])+
            pub spec: $spec,
            $(
                $(#[$status_doc])+
                #[serde(skip_serializing_if = "Option::is_none")]
                pub status: Option<$status>,
            )?
        }
        cdi_kind!($ty, $plural, $scope);
    };
}
pub(crate) use cdi_kind;
