//! What can be wrong with an image, its source or its target, in words for people.

use std::io;

use crate::Format;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an image could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image breaks its format's rules: truncated, cyclic, overlapping.
    #[error("the image is a broken {format}: {reason}")]
    Malformed {
        /// What the image claims to be.
        format: Format,
        /// Expected and found.
        reason: String,
    },
    /// The image is well formed, but uses something that is not followed or not supported.
    #[error("the {format} image is refused: {reason}")]
    Refused {
        /// What the image is.
        format: Format,
        /// What it uses, and what to do.
        reason: String,
    },
    /// The disk does not fit. The last sentence is upstream's, which clients look for.
    #[error(
        "virtual image size {needed} is larger than the reported available storage {available}. A larger PVC is required"
    )]
    TooLarge {
        /// Bytes the disk has, or at least has when its end was not reached.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// What was read is not what the checksum says.
    #[error(
        "checksum mismatch: expected {expected}, found {found}: the source's bytes are not those the checksum was made of"
    )]
    Checksum {
        /// As it was asked for, `sha256:…`.
        expected: String,
        /// As it was found.
        found: String,
    },
    /// A checksum in a form that is not known.
    #[error(
        "expected a checksum such as sha256:<64 hexadecimal digits> (md5, sha1, sha256 or sha512), found {0:?}"
    )]
    ChecksumForm(String),
    /// The source failed in a way that trying again does not mend.
    #[error("{0}")]
    Source(String),
    /// The source failed in a way that may pass.
    #[error("{0}")]
    SourceForNow(String),
    /// The target is full.
    #[error("the volume is full: no space was left after {written} bytes of the disk in {path}")]
    Full {
        /// Where.
        path: String,
        /// Offset of the write that failed, in bytes.
        written: u64,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with its path.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("stopped before the end")]
    Cancelled,
}

impl Error {
    /// Whether the same image and the same target would fail again.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Malformed { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Checksum { .. }
            | Self::ChecksumForm(_)
            | Self::Full { .. }
            | Self::Source(_) => true,
            Self::SourceForNow(_) | Self::Io { .. } | Self::Cancelled => false,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn malformed(format: Format, reason: impl Into<String>) -> Self {
        Self::Malformed {
            format,
            reason: reason.into(),
        }
    }

    pub(crate) fn refused(format: Format, reason: impl Into<String>) -> Self {
        Self::Refused {
            format,
            reason: reason.into(),
        }
    }

    /// An error that went through a [`std::io::Read`] comes out as it was.
    #[must_use]
    pub fn from_read(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            match error.into_inner().map(|inner| inner.downcast::<Self>()) {
                Some(Ok(own)) => return *own,
                _ => return Self::SourceForNow("the source failed".to_owned()),
            }
        }
        Self::SourceForNow(format!("cannot read the source: {error}"))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
