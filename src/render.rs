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
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cli::{Component, RenderArgs};
use crate::output::Output;
use crate::settings::{Emulation, Settings};

/// A component's templates in the order in which they are applied.
fn templates(component: Component) -> &'static [(&'static str, &'static str)] {
    match component {
        Component::Kubevirt => &[
            (
                "10-kubevirt-operator.yaml",
                include_str!("../manifests/kubevirt-operator.yaml.j2"),
            ),
            (
                "20-kubevirt-cr.yaml",
                include_str!("../manifests/kubevirt-cr.yaml.j2"),
            ),
        ],
        Component::Cdi => &[
            (
                "10-cdi-operator.yaml",
                include_str!("../manifests/cdi-operator.yaml.j2"),
            ),
            (
                "20-cdi-cr.yaml",
                include_str!("../manifests/cdi-cr.yaml.j2"),
            ),
        ],
        Component::StorageLocal => &[(
            "10-storage-local.yaml",
            include_str!("../manifests/storage-local.yaml.j2"),
        )],
    }
}

/// The CRD that comes with a component's operator, and its file: the operator makes the others.
fn crd(component: Component) -> anyhow::Result<Option<(&'static str, Value)>> {
    let (file, kind, all) = match component {
        Component::Kubevirt => ("00-kubevirt-crd.yaml", "KubeVirt", api::schema::crds()),
        Component::Cdi => ("00-cdi-crd.yaml", "CDI", api::cdi::crds()),
        Component::StorageLocal => return Ok(None),
    };
    let mut all = all.into_iter();
    let crd = all
        .find(|crd| crd["spec"]["names"]["kind"] == kind)
        .with_context(|| format!("the schema has no kind {kind}"))?;
    Ok(Some((file, crd)))
}

/// What `cargo xtask images` says of the images it made.
#[derive(Debug, Deserialize)]
struct Images {
    components: Image,
    launcher: Image,
    storage: Option<Image>,
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
        // The others do not depend on it.
        Emulation::Auto if args.component != Component::Kubevirt => false,
        Emulation::Auto => bail!(
            "render needs to know whether guests are emulated: expected --emulation on or off (edgevirt preflight tells which), found auto"
        ),
    };
    let revision = write(settings, args, emulation)?;
    out.line(&revision);
    Ok(ExitCode::SUCCESS)
}

/// Renders into `--out`, replacing what an earlier render left there.
fn write(settings: &Settings, args: &RenderArgs, emulation: bool) -> anyhow::Result<String> {
    let dir = args.out.as_path();
    let images = read_images(&settings.images.join("images.json"))?;
    let files = render(settings, args, &images, emulation)?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    remove_earlier(dir, &files)?;
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
fn remove_earlier(dir: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    for (name, _) in files {
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
    args: &RenderArgs,
    images: &Images,
    emulation: bool,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    if let Some((name, crd)) = crd(args.component)? {
        files.push((name.to_owned(), serde_yaml::to_string(&crd)?));
    }
    let storage_image = images.storage.as_ref();
    if args.component == Component::StorageLocal && storage_image.is_none() {
        bail!(
            "images.json: expected the image storage, found none; make it with `cargo xtask images`"
        );
    }
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, template) in templates(args.component) {
        let text = environment
            .render_str(
                template,
                context! {
                    namespace => &settings.namespace,
                    cdi_namespace => api::cdi::names::NAMESPACE,
                    version => env!("CARGO_PKG_VERSION"),
                    virt_image => &images.components.reference,
                    launcher_image => &images.launcher.reference,
                    storage_image => storage_image.map(|image| &image.reference),
                    storage_dir => args.storage_dir.to_string_lossy(),
                    use_emulation => emulation,
                },
            )
            .with_context(|| format!("template {name}"))?;
        files.push(((*name).to_owned(), text));
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

    fn args(component: Component, out: &Path) -> RenderArgs {
        RenderArgs {
            settings: crate::cli::SettingsArgs::default(),
            component,
            storage_dir: "/disk".into(),
            out: out.to_owned(),
        }
    }

    fn kubevirt(out: &Path) -> RenderArgs {
        args(Component::Kubevirt, out)
    }

    fn images_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("images.json"),
            r#"{"components":{"ref":"edgevirt.local/virt:aaa"},"launcher":{"ref":"edgevirt.local/virt-launcher:bbb"},"storage":{"ref":"edgevirt.local/storage-local:ccc"}}"#,
        )
        .unwrap();
        dir
    }

    #[test]
    fn equal_inputs_give_equal_revisions_and_a_changed_one_another() {
        let images = images_dir();
        let out = tempfile::tempdir().unwrap();
        let settings = settings(images.path().to_owned());
        let first = write(&settings, &kubevirt(out.path()), true).unwrap();
        assert_eq!(
            first,
            write(&settings, &kubevirt(out.path()), true).unwrap()
        );
        assert_ne!(
            first,
            write(&settings, &kubevirt(out.path()), false).unwrap()
        );
    }

    #[test]
    fn every_rendered_document_is_yaml_with_a_kind_and_a_name() {
        let images = images_dir();
        for component in [Component::Kubevirt, Component::Cdi, Component::StorageLocal] {
            let out = tempfile::tempdir().unwrap();
            let settings = settings(images.path().to_owned());
            write(&settings, &args(component, out.path()), true).unwrap();
            for document in crate::apply::read_dir(out.path()).unwrap() {
                assert!(document["kind"].is_string(), "{document}");
                assert!(document["metadata"]["name"].is_string(), "{document}");
            }
        }
    }

    /// Both come with a PriorityClass of the one name and the one field manager: a difference
    /// would let each apply undo the other's.
    #[test]
    fn objects_that_two_components_bring_are_equal() {
        let images = images_dir();
        let settings = settings(images.path().to_owned());
        let documents = |component| {
            let out = tempfile::tempdir().unwrap();
            write(&settings, &args(component, out.path()), true).unwrap();
            crate::apply::read_dir(out.path()).unwrap()
        };
        let theirs = documents(Component::Kubevirt);
        for ours in documents(Component::Cdi) {
            let same = |one: &&Value| {
                one["kind"] == ours["kind"] && one["metadata"]["name"] == ours["metadata"]["name"]
            };
            if let Some(theirs) = theirs.iter().find(same) {
                assert_eq!(*theirs, ours);
            }
        }
    }

    #[test]
    fn missing_images_say_how_to_make_them() {
        let out = tempfile::tempdir().unwrap();
        let error = write(
            &settings("/nonexistent".into()),
            &kubevirt(out.path()),
            true,
        )
        .unwrap_err();
        assert!(format!("{error:#}").contains("xtask images"), "{error:#}");
    }

    #[test]
    fn a_foreign_file_in_the_directory_survives() {
        let images = images_dir();
        let out = tempfile::tempdir().unwrap();
        fs::write(out.path().join("mine.txt"), "x").unwrap();
        let settings = settings(images.path().to_owned());
        write(&settings, &kubevirt(out.path()), true).unwrap();
        assert!(out.path().join("mine.txt").exists());
    }
}
