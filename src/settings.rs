//! Settings in layers: defaults, then the file, then environment and flags.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cli::SettingsArgs;

/// Whether guests run without KVM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Emulation {
    /// Only if a node's KVM cannot run a guest.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The settings file; every key may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    namespace: Option<String>,
    emulation: Option<Emulation>,
    images: Option<PathBuf>,
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Settings {
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// Whether guests run without KVM.
    pub(crate) emulation: Emulation,
    /// Directory with images.json.
    pub(crate) images: PathBuf,
}

/// Reads the file, if one is named, and lays the arguments over it.
pub(crate) fn load(args: &SettingsArgs) -> anyhow::Result<Settings> {
    let file = match &args.config {
        Some(path) => read(path)?,
        None => File::default(),
    };
    let settings = Settings {
        namespace: args
            .namespace
            .clone()
            .or(file.namespace)
            .unwrap_or_else(|| api::names::DEFAULT_NAMESPACE.to_owned()),
        emulation: args.emulation.or(file.emulation).unwrap_or_default(),
        images: args
            .images
            .clone()
            .or(file.images)
            .unwrap_or_else(|| PathBuf::from("target/images")),
    };
    check_namespace(&settings.namespace)?;
    Ok(settings)
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings file {}", path.display()))?;
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_yaml::from_str(&text).with_context(|| {
        format!(
            "{}: expected the keys namespace, emulation (auto, on, off) and images",
            path.display()
        )
    })
}

/// A namespace is a DNS label (RFC 1123).
fn check_namespace(name: &str) -> anyhow::Result<()> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(legal)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        bail!(
            "namespace {name:?}: expected at most 63 lower-case letters, digits and dashes, not beginning or ending with a dash"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with_file(text: &str, args: SettingsArgs) -> anyhow::Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edgevirt.yaml");
        std::fs::write(&path, text).unwrap();
        load(&SettingsArgs {
            config: Some(path),
            ..args
        })
    }

    #[test]
    fn nothing_given_means_the_defaults() {
        let settings = load(&SettingsArgs::default()).unwrap();
        assert_eq!(settings.namespace, "kubevirt");
        assert_eq!(settings.emulation, Emulation::Auto);
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let args = SettingsArgs {
            namespace: Some("edge".into()),
            ..SettingsArgs::default()
        };
        let settings = with_file("namespace: other\nemulation: 'on'\n", args).unwrap();
        assert_eq!(settings.namespace, "edge");
        assert_eq!(settings.emulation, Emulation::On);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = with_file("namespcae: x\n", SettingsArgs::default()).unwrap_err();
        assert!(format!("{error:#}").contains("namespcae"), "{error:#}");
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert!(with_file("\n", SettingsArgs::default()).is_ok());
    }

    #[test]
    fn a_namespace_that_no_cluster_accepts_is_refused_before_anything_is_done() {
        for bad in ["", "Edge", "-x", "x-", "a.b"] {
            let args = SettingsArgs {
                namespace: Some(bad.into()),
                ..SettingsArgs::default()
            };
            assert!(load(&args).is_err(), "{bad:?}");
        }
    }
}
