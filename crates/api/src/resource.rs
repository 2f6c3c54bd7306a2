//! Ties our kinds to `k8s_openapi::Resource`, so that any Kubernetes client
//! that works with generated types works with them.

/// Implements `k8s_openapi::{Resource, Metadata}` and `api_version`/`kind`
/// defaults for a namespaced kind of kubevirt.io/v1.
macro_rules! kubevirt_kind {
    ($ty:ident, $kind:literal, $plural:literal) => {
        impl k8s_openapi::Resource for $ty {
            const API_VERSION: &'static str = $crate::names::API_VERSION;
            const GROUP: &'static str = $crate::names::GROUP;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $crate::names::VERSION;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::NamespaceResourceScope;
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
pub(crate) use kubevirt_kind;
