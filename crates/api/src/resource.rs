//! Ties our kinds to `k8s_openapi::Resource`, so that any Kubernetes client
//! that works with generated types works with them.

/// Implements `k8s_openapi::{Resource, Metadata}` for a kind of the group and
/// version that `names` says.
macro_rules! kind {
    ($ty:ident, $kind:expr, $plural:literal, $scope:ident, $($names:tt)+) => {
        impl k8s_openapi::Resource for $ty {
            const API_VERSION: &'static str = $($names)+::API_VERSION;
            const GROUP: &'static str = $($names)+::GROUP;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $($names)+::VERSION;
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

/// As [`kind`], for a namespaced kind of kubevirt.io/v1.
macro_rules! kubevirt_kind {
    ($ty:ident, $kind:literal, $plural:literal) => {
        $crate::resource::kind!($ty, $kind, $plural, NamespaceResourceScope, $crate::names);
    };
}
pub(crate) use {kind, kubevirt_kind};
