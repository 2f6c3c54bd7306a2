//! Uploads: what clients, the upload proxy and the upload server agree on.
//! Source of paths and names: CDI pkg/common/common.go, pkg/apis/upload.
//!
//! # Going on after a break
//!
//! What upstream lacks and ours has (verbs and headers after the HTTP working
//! group's resumable uploads, draft-ietf-httpbis-resumable-upload):
//!
//! - `HEAD` on an upload's path answers 200. When the server has part of an upload
//!   that broke, the answer has [`OFFSET_HEADER`] (bytes of the client's file that it
//!   has), [`LENGTH_HEADER`] (of the whole file) and [`DIGEST_HEADER`] (of what it has).
//! - `PATCH` on the same path with [`OFFSET_HEADER`] sends the bytes from there on. It
//!   ends as `POST` does; 409 says that the server is not at that offset.
//! - `POST` begins anew, always.
//!
//! A client that finds another digest for its own file's first bytes begins anew.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// API group of upload tokens.
pub const GROUP: &str = "upload.cdi.kubevirt.io";
/// Its versions, the preferred first. Clients of 2021 and before speak v1alpha1.
pub const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
/// The group's only resource.
pub const TOKEN_REQUESTS: &str = "uploadtokenrequests";

/// Versions that begin the path of an upload.
pub const PATH_VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
/// Last parts of the paths that clients may post to at the upload proxy.
pub const ENDPOINTS: [&str; 4] = ["upload", "upload-async", "upload-form", "upload-form-async"];
/// Last part of the path of archives at the upload server; the proxy sends them there.
pub const ARCHIVE_ENDPOINT: &str = "upload-archive";

/// Port of the upload server and of its service.
pub const SERVER_PORT: u16 = 8443;

/// A token lives this long, in seconds.
pub const TOKEN_SECONDS: i64 = 300;

/// Bytes of the client's file: those the server has, or where a `PATCH` begins.
pub const OFFSET_HEADER: &str = "upload-offset";
/// Length of the client's whole file in bytes.
pub const LENGTH_HEADER: &str = "upload-length";
/// `sha256:` and the hexadecimal digest of the bytes that the server has.
pub const DIGEST_HEADER: &str = "upload-digest";

/// Asks for a token that allows to upload to one claim. Made, never stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UploadTokenRequest {
    /// Version of the group.
    #[serde(rename = "apiVersion", default)]
    pub api_version: String,
    /// `UploadTokenRequest`.
    #[serde(default)]
    pub kind: String,
    /// Name or generateName, and the namespace of the claim.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is asked.
    pub spec: UploadTokenRequestSpec,
    /// The answer.
    #[serde(default)]
    pub status: UploadTokenRequestStatus,
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadTokenRequestSpec {
    /// Name of the claim.
    #[serde(rename = "pvcName", default)]
    pub pvc_name: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadTokenRequestStatus {
    /// The token: a bearer token of the upload proxy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
}
