//! Uploads: what clients, the upload proxy and the upload server agree on.
//! Source of paths and names: CDI pkg/common/common.go, pkg/apis/upload.
//!
//! # Going on after a break
//!
//! What upstream lacks and ours has (verbs and headers after the HTTP working
//! group's resumable uploads, draft-ietf-httpbis-resumable-upload):
//!
//! - `HEAD` on an asynchronous upload's path answers 200. When no request is sending,
//!   the answer has [`OFFSET_HEADER`] (bytes of the client's file that the server has)
//!   and, when it is known, [`LENGTH_HEADER`] (of the whole file).
//! - `PATCH` on the same path with [`OFFSET_HEADER`] sends the bytes from there on. It
//!   ends as `POST` does; 416 says that the server is not at that offset.
//! - `POST` begins anew, always.
//!
//! Whether the client's file is still the one of the broken upload, the client knows by
//! [`SOURCE_ANNOTATION`].

/// API group of upload tokens.
pub const GROUP: &str = crate::cdi::names::UPLOAD_GROUP;
/// Versions of the group of tokens, the preferred first. Clients of 2021 and before speak v1alpha1.
pub const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
/// The group's only resource.
pub const TOKEN_REQUESTS: &str = "uploadtokenrequests";

/// Versions that begin the path of an upload.
pub const PATH_VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
/// Last parts of the paths that clients may post to at the upload proxy.
pub const ENDPOINTS: [&str; 4] = ["upload", "upload-async", "upload-form", "upload-form-async"];
/// Last part of the path of archives at the upload server; the proxy sends them there.
pub const ARCHIVE_ENDPOINT: &str = "upload-archive";

/// A token lives this long, in seconds.
pub const TOKEN_SECONDS: i64 = 300;

/// Bytes of the client's file: those the server has, or where a `PATCH` begins.
pub const OFFSET_HEADER: &str = "upload-offset";
/// Length of the client's whole file in bytes.
pub const LENGTH_HEADER: &str = "upload-length";
/// Annotation of a claim, edgevirt's own: which file a client uploads to it.
pub const SOURCE_ANNOTATION: &str = "edgevirt.local/upload-source";

/// Longest name of a service (RFC 1035 label).
const LABEL: usize = 63;

/// Name of a claim's upload service: `cdi-upload-<claim>`, with what a service's name may
/// not have replaced, and past 63 characters its first 54 and a hash.
#[must_use]
pub fn server_name(claim: &str) -> String {
    let name = format!("cdi-upload-{}", claim.replace('.', "-"));
    if name.len() <= LABEL && !claim.contains('.') {
        return name;
    }
    // FNV-1a, 32 bits: names that differ in a dot only stay apart.
    let hash = claim.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let kept: String = name.chars().take(LABEL - 9).collect();
    format!("{}-{hash:08x}", kept.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_a_name_that_services_may_have() {
        assert_eq!(server_name("disk"), "cdi-upload-disk");
        let long = "x".repeat(253);
        for claim in ["a.b", "a-b.", long.as_str(), &format!("{long}y")[1..]] {
            let name = server_name(claim);
            assert!(name.len() <= LABEL && !name.contains('.'), "{name}");
        }
        assert_ne!(server_name("a.b"), server_name("a-b"));
        assert_ne!(server_name(&long), server_name(&long[1..]));
    }
}
