//! What a claim refers to.

use api::cdi::names::GROUP;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::plan::Event;

/// Kinds that a claim may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// VolumeImportSource.
    Import,
    /// VolumeUploadSource.
    Upload,
    /// VolumeCloneSource.
    Clone,
}

impl Kind {
    /// The kind of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "VolumeImportSource" => Some(Self::Import),
            "VolumeUploadSource" => Some(Self::Upload),
            "VolumeCloneSource" => Some(Self::Clone),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Import => "VolumeImportSource",
            Self::Upload => "VolumeUploadSource",
            Self::Clone => "VolumeCloneSource",
        }
    }

    /// Event of a prime that is full.
    pub(super) fn succeeded(self, name: &str) -> Event {
        let (reason, message) = match self {
            Self::Import => (
                "importSucceeded",
                format!("Successfully imported into {name}"),
            ),
            Self::Upload => (
                "UploadSucceeded",
                format!("Successfully uploaded into {name}"),
            ),
            Self::Clone => ("CloneSucceeded", format!("Successfully cloned into {name}")),
        };
        Event {
            warning: false,
            reason,
            message,
        }
    }

    /// Event of a prime that could not be filled.
    pub(super) fn failed(self, name: &str, why: &str) -> Event {
        let (reason, message) = match self {
            Self::Import => ("importFailed", format!("import into {name} failed: {why}")),
            Self::Upload => ("UploadFailed", format!("Upload into {name} failed: {why}")),
            Self::Clone => ("CloneFailed", format!("Clone into {name} failed: {why}")),
        };
        Event {
            warning: true,
            reason,
            message,
        }
    }
}

/// What a claim refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Kind of the source.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
    /// Its namespace, if the claim names one.
    pub namespace: Option<&'a str>,
}

/// What the claim refers to, if that is a source of ours.
#[must_use]
pub fn reference(claim: &PersistentVolumeClaim) -> Option<Reference<'_>> {
    let spec = claim.spec.as_ref()?;
    let to = spec.data_source_ref.as_ref()?;
    (to.api_group.as_deref() == Some(GROUP)).then_some(())?;
    Some(Reference {
        kind: Kind::of(&to.kind)?,
        name: &to.name,
        namespace: to.namespace.as_deref().filter(|name| !name.is_empty()),
    })
}
