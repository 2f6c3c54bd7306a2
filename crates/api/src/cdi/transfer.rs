//! ObjectTransfer: the wish to move a claim or DataVolume to another namespace.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::cdi_kind;
use crate::Condition;

cdi_kind! {
    /// The wish to move an object to another namespace.
    ObjectTransfer("objecttransfers", ClusterResourceScope);
    /// What goes where.
    spec: ObjectTransferSpec;
    /// How far it is.
    status: ObjectTransferStatus;
}

/// What goes where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectTransferSpec {
    /// The object.
    pub source: TransferSource,
    /// Where it goes.
    pub target: TransferTarget,
    /// The transfer this one is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_name: Option<String>,
}

/// The object that moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TransferSource {
    /// API version of the kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// `DataVolume` or `PersistentVolumeClaim`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Annotations it must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub required_annotations: BTreeMap<String, String>,
}

/// Where an object goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TransferTarget {
    /// Namespace; as before when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name; as before when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// How far an [`ObjectTransfer`] is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectTransferStatus {
    /// What must be kept between the steps.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// `Pending`, `Running`, `Complete` or `Error`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Complete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
