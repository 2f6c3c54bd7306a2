//! UploadTokenRequest: create one, and its status carries the token to upload with.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// The wish for a token that lets its bearer fill one claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UploadTokenRequest {
    /// `upload.cdi.kubevirt.io/v1beta1`.
    pub api_version: String,
    /// `UploadTokenRequest`.
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// Which claim.
    pub spec: UploadTokenRequestSpec,
    /// The token.
    pub status: UploadTokenRequestStatus,
}

impl k8s_openapi::Resource for UploadTokenRequest {
    const API_VERSION: &'static str = "upload.cdi.kubevirt.io/v1beta1";
    const GROUP: &'static str = super::names::UPLOAD_GROUP;
    const KIND: &'static str = "UploadTokenRequest";
    const VERSION: &'static str = super::names::UPLOAD_VERSION;
    const URL_PATH_SEGMENT: &'static str = "uploadtokenrequests";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl k8s_openapi::Metadata for UploadTokenRequest {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &Self::Ty {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Self::Ty {
        &mut self.metadata
    }
}

/// Which claim a token is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UploadTokenRequestSpec {
    /// Name of the claim, in the request's namespace.
    pub pvc_name: String,
}

/// Answer to an [`UploadTokenRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UploadTokenRequestStatus {
    /// A JSON web token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token: String,
}
