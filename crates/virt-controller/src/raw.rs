//! Custom resources as they are stored: metadata typed, the rest raw.
//!
//! One object that does not fit our types must not stop a watch, and fields
//! that we do not know must reach what is made from an object.

use std::marker::PhantomData;

use api::cdi::DataVolume;
use api::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An object of kind `K` with raw spec and status.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound = "")]
pub(crate) struct Raw<K> {
    /// Group and version.
    #[serde(default)]
    pub(crate) api_version: String,
    /// Kind.
    #[serde(default)]
    pub(crate) kind: String,
    /// Standard metadata.
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub(crate) spec: Value,
    /// What is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) status: Value,
    #[serde(skip)]
    of: PhantomData<fn() -> K>,
}

/// A VM as it is stored.
pub(crate) type RawVm = Raw<VirtualMachine>;
/// A DataVolume as it is stored.
pub(crate) type RawDataVolume = Raw<DataVolume>;
/// A VMI as it is stored.
pub(crate) type RawVmi = Raw<VirtualMachineInstance>;

impl<K> Clone for Raw<K> {
    fn clone(&self) -> Self {
        Self {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            metadata: self.metadata.clone(),
            spec: self.spec.clone(),
            status: self.status.clone(),
            of: PhantomData,
        }
    }
}

impl<K: DeserializeOwned> Raw<K> {
    /// The typed view, and the raw spec. Annotations that only kubectl reads
    /// are dropped: they hold the whole object once more.
    ///
    /// # Errors
    /// When spec or status do not fit the type.
    pub(crate) fn typed(mut self) -> Result<(K, Value), serde_json::Error> {
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        let spec = self.spec.clone();
        let typed = serde_json::from_value(json!({
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": self.metadata,
            "spec": self.spec,
            "status": self.status,
        }))?;
        Ok((typed, spec))
    }
}

impl<K: Resource<Scope = NamespaceResourceScope>> Resource for Raw<K> {
    const API_VERSION: &'static str = K::API_VERSION;
    const GROUP: &'static str = K::GROUP;
    const KIND: &'static str = K::KIND;
    const VERSION: &'static str = K::VERSION;
    const URL_PATH_SEGMENT: &'static str = K::URL_PATH_SEGMENT;
    type Scope = NamespaceResourceScope;
}

impl<K: Resource<Scope = NamespaceResourceScope>> Metadata for Raw<K> {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
