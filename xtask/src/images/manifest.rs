//! images.json: what was built, for the role that brings it to the nodes and for the renderer of manifests.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// One image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The whole name under which it is imported.
    #[serde(rename = "ref")]
    pub(crate) reference: String,
    /// The archive's file name, beside images.json.
    pub(crate) archive: String,
    /// The manifest's digest.
    pub(crate) digest: String,
    /// Bytes of all layers, not compressed.
    pub(crate) size: u64,
}

/// All images. One that was never built is not there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Images {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) components: Option<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) launcher: Option<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pause: Option<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storage: Option<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) guest: Option<Entry>,
}

impl Images {
    /// What an earlier run wrote, if one did.
    pub(crate) fn read(out: &Path) -> anyhow::Result<Self> {
        let path = out.join("images.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is damaged; remove it and build again", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context(path.display().to_string()),
        }
    }

    /// Writes the file, whole or not at all.
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        write_json(&out.join("images.json"), self)
    }
}

/// Writes a value as indented JSON, whole or not at all.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    let beside = path.with_extension("partial");
    fs::write(&beside, text).with_context(|| beside.display().to_string())?;
    fs::rename(&beside, path).with_context(|| path.display().to_string())
}
