//! The last word of a worker, in the pod's termination log.

use std::path::PathBuf;

use imaging::{Error, Outcome, Result};
use serde_json::json;

/// What was done.
#[derive(Debug, Clone)]
pub(super) struct Done {
    /// For people: `Import Complete`.
    pub(super) message: &'static str,
    /// Of the disk in the image, or of an archive's files.
    pub(super) virtual_size: u64,
    /// None for archives.
    pub(super) outcome: Option<Outcome>,
    /// Of the image that was asked for, not imported.
    pub(super) digest: Option<String>,
}

impl Done {
    pub(super) fn disk(message: &'static str, outcome: Outcome) -> Self {
        Self {
            message,
            virtual_size: outcome.virtual_size,
            outcome: Some(outcome),
            digest: None,
        }
    }

    pub(super) fn archive(message: &'static str, bytes: u64) -> Self {
        Self {
            message,
            virtual_size: bytes,
            outcome: None,
            digest: None,
        }
    }

    pub(super) fn looked(message: &'static str, digest: String) -> Self {
        Self {
            message,
            virtual_size: 0,
            outcome: None,
            digest: Some(digest),
        }
    }
}

/// The file a worker's end is written into.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    path: PathBuf,
}

/// The kubelet reads at most this many bytes of it.
const LONGEST: usize = 3500;

impl Ending {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Writes it, and gives the error that makes the process exit with 1.
    pub(super) fn write(&self, outcome: &Result<Done>) -> anyhow::Result<()> {
        let text = match outcome {
            Ok(done) => {
                let mut text = json!({
                    "message": done.message,
                    "virtualSize": done.virtual_size,
                });
                if let Some(digest) = &done.digest {
                    text = json!({ "message": done.message, "digest": digest });
                }
                if let Some(outcome) = &done.outcome {
                    text["format"] = json!(outcome.format.to_string());
                    text["size"] = json!(outcome.size);
                    if let Some(checksum) = &outcome.checksum {
                        let (name, hex) = (checksum.to_string(), &checksum.hex);
                        text["checksum"] = json!(name);
                        if name.starts_with("sha256:") {
                            text["sha256"] = json!(hex);
                        }
                    }
                }
                text
            }
            Err(error) => {
                let mut reason = error.to_string();
                let end = reason.floor_char_boundary(LONGEST);
                reason.truncate(end);
                json!({"error": reason, "permanent": error.is_permanent()})
            }
        };
        tracing::info!(%text, "ended");
        if let Err(error) = std::fs::write(&self.path, text.to_string()) {
            // The exit code says the rest.
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
        match outcome {
            Ok(_) => Ok(()),
            Err(Error::Cancelled) => anyhow::bail!("stopped before the end"),
            Err(error) => anyhow::bail!("{error}"),
        }
    }
}
