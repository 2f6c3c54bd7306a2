//! `edgevirt render`: settings and images in, a directory of manifests out.
//!
//! The directory is a revision: its name in revision.json is the hash of its
//! content, so equal inputs give equal revisions.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use minijinja::{Environment, UndefinedBehavior, context};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cli::RenderArgs;
use crate::output::Output;
use crate::settings::{Emulation, Settings};

/// Templates in the order in which they are applied.
const TEMPLATES: [(&str, &str); 2] = [
    (
        "10-kubevirt-operator.yaml",
        include_str!("../manifests/kubevirt-operator.yaml.j2"),
    ),
    (
        "20-kubevirt-cr.yaml",
        include_str!("../manifests/kubevirt-cr.yaml.j2"),
    ),
];

/// Name of the file with the CRD of KubeVirt itself; the operator makes the others.
const CRD_FILE: &str = "00-kubevirt-crd.yaml";

/// What `cargo xtask images` says of the images it made.
#[derive(Debug, Deserialize)]
struct Images {
    components: Image,
    launcher: Image,
}

/// One image of [`Images`].
#[derive(Debug, Deserialize)]
struct Image {
    #[serde(rename = "ref")]
    reference: String,
}

/// What revision.json says.
#[derive(Debug, Serialize)]
struct Revision<'a> {
    revision: String,
    version: &'a str,
    settings: &'a Settings,
    files: Vec<String>,
}

/// Writes the manifests to `--out` and prints the revision.
pub(crate) fn run(
    settings: &Settings,
    args: &RenderArgs,
    out: &Output,
) -> anyhow::Result<ExitCode> {
    let emulation = match settings.emulation {
        Emulation::On => true,
        Emulation::Off => false,
        Emulation::Auto => bail!(
            "render needs to know whether guests are emulated: expected --emulation on or off (edgevirt preflight tells which), found auto"
        ),
    };
    let revision = write(settings, emulation, &args.out)?;
    out.line(&revision);
    Ok(ExitCode::SUCCESS)
}

/// Renders into `dir`, replacing what an earlier render left there.
pub(crate) fn write(settings: &Settings, emulation: bool, dir: &Path) -> anyhow::Result<String> {
    let images = read_images(&settings.images.join("images.json"))?;
    let files = render(settings, &images, emulation)?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    remove_earlier(dir)?;
    let mut hash = Sha256::new();
    for (name, text) in &files {
        hash.update(name.as_bytes());
        hash.update(text.as_bytes());
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let digest = hash.finalize();
    let short: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    let revision = Revision {
        revision: short.clone(),
        version: env!("CARGO_PKG_VERSION"),
        settings,
        files: files.into_iter().map(|(name, _)| name).collect(),
    };
    let path = dir.join("revision.json");
    fs::write(&path, serde_json::to_string_pretty(&revision)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(short)
}

/// Only files that a render writes are removed: a wrong `--out` loses nothing.
fn remove_earlier(dir: &Path) -> anyhow::Result<()> {
    for name in std::iter::once(CRD_FILE).chain(TEMPLATES.iter().map(|(name, _)| *name)) {
        match fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e)
                    .with_context(|| format!("cannot replace {name} in {}", dir.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_images(path: &Path) -> anyhow::Result<Images> {
    let text = fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read {}: make the images first with `cargo xtask images`, or name their directory with --images",
            path.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{}: expected what `cargo xtask images` writes",
            path.display()
        )
    })
}

fn render(
    settings: &Settings,
    images: &Images,
    emulation: bool,
) -> anyhow::Result<Vec<(String, String)>> {
    let crd = api::schema::crds()
        .into_iter()
        .find(|crd| crd["spec"]["names"]["kind"] == "KubeVirt")
        .context("the schema has no KubeVirt kind")?;
    let crd = serde_yaml::to_string(&crd)?;
    let mut files = vec![(CRD_FILE.to_owned(), crd)];
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, template) in TEMPLATES {
        let text = environment
            .render_str(
                template,
                context! {
                    namespace => &settings.namespace,
                    version => env!("CARGO_PKG_VERSION"),
                    virt_image => &images.components.reference,
                    launcher_image => &images.launcher.reference,
                    use_emulation => emulation,
                },
            )
            .with_context(|| format!("template {name}"))?;
        files.push((name.to_owned(), text));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;

    fn settings(images: PathBuf) -> Settings {
        Settings {
            namespace: "edge".into(),
            emulation: Emulation::On,
            images,
        }
    }

    fn images_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("images.json"),
            r#"{"components":{"ref":"edgevirt.local/virt:aaa"},"launcher":{"ref":"edgevirt.local/virt-launcher:bbb"}}"#,
        )
        .unwrap();
        dir
    }

    #[test]
    fn equal_inputs_give_equal_revisions_and_a_changed_one_another() {
        let images = images_dir();
        let out = tempfile::tempdir().unwrap();
        let settings = settings(images.path().to_owned());
        let first = write(&settings, true, out.path()).unwrap();
        assert_eq!(first, write(&settings, true, out.path()).unwrap());
        assert_ne!(first, write(&settings, false, out.path()).unwrap());
    }

    #[test]
    fn every_rendered_document_is_yaml_with_a_kind_and_a_name() {
        let images = images_dir();
        let out = tempfile::tempdir().unwrap();
        write(&settings(images.path().to_owned()), true, out.path()).unwrap();
        for document in crate::apply::read_dir(out.path()).unwrap() {
            assert!(document["kind"].is_string(), "{document}");
            assert!(document["metadata"]["name"].is_string(), "{document}");
        }
    }

    #[test]
    fn missing_images_say_how_to_make_them() {
        let out = tempfile::tempdir().unwrap();
        let error = write(&settings("/nonexistent".into()), true, out.path()).unwrap_err();
        assert!(format!("{error:#}").contains("xtask images"), "{error:#}");
    }

    #[test]
    fn a_foreign_file_in_the_directory_survives() {
        let images = images_dir();
        let out = tempfile::tempdir().unwrap();
        fs::write(out.path().join("mine.txt"), "x").unwrap();
        write(&settings(images.path().to_owned()), true, out.path()).unwrap();
        assert!(out.path().join("mine.txt").exists());
    }
}
