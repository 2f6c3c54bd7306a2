//! What can go wrong with an image, said with what was expected, what was found and what to do.

use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error about an image, an archive or a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb: "open", "read", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// An image reference that does not follow the grammar of the distribution specification.
    #[error(
        "image reference {reference:?}: {reason}; expected [HOST[:PORT]/]NAME[:TAG][@sha256:HEX]"
    )]
    Reference {
        /// The text given.
        reference: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A digest that is not `sha256:` and 64 lower-case hex digits.
    #[error("digest {0:?}: expected sha256: and 64 lower-case hexadecimal digits")]
    Digest(String),
    /// Content whose digest is not the promised one.
    #[error(
        "{what}: expected digest {expected}, found {found}; the content is damaged or was changed"
    )]
    DigestMismatch {
        /// The blob, as it is called in the archive.
        what: String,
        /// The digest by which it is referred to.
        expected: String,
        /// The digest of the bytes that are there.
        found: String,
    },
    /// A path that cannot be an entry of a layer.
    #[error("layer entry {path:?}: {reason}")]
    Entry {
        /// The path given.
        path: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// An archive that is not what `podman save`, `buildah push oci-archive:` or `docker save` writes.
    #[error("archive {}: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A JSON document of an image that cannot be read.
    #[error("{what} is not the JSON document it should be")]
    Json {
        /// Which document.
        what: String,
        /// Where it broke.
        source: serde_json::Error,
    },
    /// The registry wants to know who asks.
    #[error("registry {0}: expected a user and a password that it knows, found others or none")]
    Login(String),
    /// The registry could not be reached.
    #[error(
        "registry {registry}: {method} {path} failed; is it running, and is the address right?"
    )]
    Transport {
        /// Its address, HOST:PORT.
        registry: String,
        /// The HTTP method.
        method: &'static str,
        /// The path asked for.
        path: String,
        /// What the HTTP client said.
        source: Box<ureq::Error>,
    },
    /// The registry answered something else than the protocol foresees.
    #[error(
        "registry {registry}: {method} {path}: expected {expected}, found status {status}{detail}"
    )]
    Status {
        /// Its address, HOST:PORT.
        registry: String,
        /// The HTTP method.
        method: &'static str,
        /// The path asked for.
        path: String,
        /// The status expected.
        expected: &'static str,
        /// The status found.
        status: u16,
        /// `: ` and what the registry said about it, or nothing.
        detail: String,
    },
    /// There is no such image in the registry.
    #[error("registry {registry} has no image {image}; `edgevirt image ls` shows what it has")]
    NotFound {
        /// Its address, HOST:PORT.
        registry: String,
        /// NAME:TAG asked for.
        image: String,
    },
    /// The registry is run without deletion.
    #[error(
        "registry {0} refuses deletion; set storage.delete.enabled to true in its configuration"
    )]
    DeletionDisabled(String),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    pub(crate) fn archive(path: &Path, reason: impl Into<String>) -> Self {
        Self::Archive {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn json(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |source| Self::Json { what, source }
    }
}
