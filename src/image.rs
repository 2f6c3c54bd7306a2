//! `edgevirt image`: virtual machine images in the cluster's own registry.
//!
//! The registry stands before every other one on the nodes, so an image added as `kubevirt/x` is what a manifest means
//! by `kubevirt/x`, `kubevirt/x:latest` or `docker.io/kubevirt/x`. A disk file becomes an image of one layer with the
//! file under /disk/; an archive of podman, buildah or docker is pushed as it is.

mod list;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use oci::{ArchiveReader, Image, Layer, ProcessConfig, Reference, Registry, Tree};

use crate::cli::{Color, Format};
use crate::output::Output;
use source::Source;

/// Where the embedded cluster's registry is.
const REGISTRY: &str = "10.99.0.1:5000";
/// The user that the embedded registry knows, and where its password is on the control plane's node (roles/kubernetes).
const USER: &str = "edgevirt";
const PASSWORD: &str = "/etc/edgevirt/pki/registry.password";
/// The user and group that run QEMU, by KubeVirt's convention.
const OWNER: u64 = 107;

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageArgs {
    /// Put a disk or a saved image into the registry.
    ///
    /// A qcow2 or raw disk becomes an image with the disk under /disk/. An archive made by `podman save`,
    /// `buildah push IMAGE oci-archive:FILE` or `docker save` is taken as it is.
    Add {
        /// The image's name, as in a manifest: [HOST/]NAME[:TAG].
        name: Reference,
        /// The disk or archive.
        #[arg(long, short)]
        file: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// Show the images in the registry.
    Ls {
        #[command(flatten)]
        at: At,
        /// How to print them.
        #[arg(long, short, value_enum, default_value_t)]
        output: Format,
    },
    /// Take an image out of the registry. Its disk space is free when the registry starts the next time.
    Rm {
        /// The image's name, as in a manifest: [HOST/]NAME[:TAG].
        name: Reference,
        /// Remove it even if the same image has other tags, which go with it.
        #[arg(long)]
        all_tags: bool,
        #[command(flatten)]
        at: At,
    },
}

/// Which registry.
#[derive(Debug, clap::Args)]
pub(crate) struct At {
    /// The registry, reached over plain HTTP.
    #[arg(long, env = "EDGEVIRT_REGISTRY", default_value = REGISTRY, value_name = "HOST:PORT")]
    registry: String,
    /// A file with the password of the registry's user edgevirt. On the control plane's node root needs none.
    #[arg(long, env = "EDGEVIRT_REGISTRY_PASSWORD_FILE", value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl At {
    /// Its client. The embedded registry's password goes to no other registry.
    fn client(&self) -> anyhow::Result<Registry> {
        let own = Some(PathBuf::from(PASSWORD)).filter(|_| self.registry == REGISTRY);
        let password = match (&self.password_file, own) {
            (Some(path), _) => Some(
                std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read --password-file {}", path.display()))?,
            ),
            (None, Some(path)) => std::fs::read_to_string(path).ok(),
            (None, None) => None,
        };
        let login = password.as_deref().map(|password| (USER, password.trim()));
        Ok(Registry::new(&self.registry, login)?)
    }
}

/// What to do where the registry wants a password.
fn hint(error: anyhow::Error) -> anyhow::Error {
    if matches!(error.downcast_ref(), Some(oci::Error::Login(_))) {
        return anyhow::anyhow!(
            "{error}; be root on the control plane's node, or give --password-file a copy of its {PASSWORD}"
        );
    }
    error
}

/// Does it.
pub(crate) fn run(args: ImageArgs) -> anyhow::Result<ExitCode> {
    let out = Output::new(Color::Auto, false);
    match args {
        ImageArgs::Add { name, file, at } => add(&at.client()?, &name, &file, &out),
        ImageArgs::Ls { at, output } => list::list(&at.client()?, output, &out),
        ImageArgs::Rm { name, all_tags, at } => remove(&at.client()?, &name, all_tags, &out),
    }
    .map_err(hint)?;
    Ok(ExitCode::SUCCESS)
}

/// The tag of a name. A digest follows from the content, so none can be asked for.
fn tag(name: &Reference) -> anyhow::Result<&str> {
    match (name.digest(), name.tag()) {
        (None, Some(tag)) => Ok(tag),
        _ => {
            bail!("{name}: expected a name with a tag or without one, found a digest; leave it out")
        }
    }
}

fn add(
    registry: &Registry,
    name: &Reference,
    file: &std::path::Path,
    out: &Output,
) -> anyhow::Result<()> {
    let (repository, tag) = (name.repository(), tag(name)?);
    let digest = match Source::detect(file)? {
        Source::Archive => {
            let archive = ArchiveReader::open(file)?;
            let image = archive.image()?;
            let bar = bar(image.blobs().map(|blob| blob.size).sum(), "pushing");
            registry.push_archive(repository, tag, &archive, |n| bar.inc(n))?;
            bar.finish_and_clear();
            image.digest()
        }
        Source::Disk { format, length } => {
            out.note(&format!(
                "{}: a {format} disk, {}",
                file.display(),
                list::human(length)
            ));
            let mut tree = Tree::owned_by(OWNER, OWNER);
            let file_name = file.file_name().and_then(|name| name.to_str());
            let file_name =
                file_name.with_context(|| format!("{}: its name is no text", file.display()))?;
            tree.file(&format!("disk/{file_name}"), file.to_owned(), 0o440)?;
            let total = tree.stream()?.length();
            let hashing = bar(total, "hashing");
            let layer = Layer::with_progress(tree, |n| hashing.inc(n))?;
            hashing.finish_and_clear();
            let image = Image::new(vec![layer], ProcessConfig::default())?;
            let pushing = bar(total, "pushing");
            registry.push(repository, tag, &image, |n| pushing.inc(n))?;
            pushing.finish_and_clear();
            image.digest()
        }
    };
    out.line(&format!("{repository}:{tag} {digest}"));
    Ok(())
}

fn remove(
    registry: &Registry,
    name: &Reference,
    all_tags: bool,
    out: &Output,
) -> anyhow::Result<()> {
    let (repository, tag) = (name.repository(), tag(name)?);
    let Some(found) = registry.manifest(repository, tag)? else {
        let (registry, image) = (registry.address().to_owned(), format!("{repository}:{tag}"));
        return Err(oci::Error::NotFound { registry, image }.into());
    };
    // The registry deletes by digest only, and with it every tag that means the same image.
    let mut others = Vec::new();
    for other in registry
        .tags(repository)?
        .into_iter()
        .filter(|other| other != tag)
    {
        if registry
            .manifest(repository, &other)?
            .is_some_and(|manifest| manifest.digest == found.digest)
        {
            others.push(format!("{repository}:{other}"));
        }
    }
    if !others.is_empty() && !all_tags {
        bail!(
            "{repository}:{tag} is also {}; the registry can only remove them together: give --all-tags to do so",
            others.join(", ")
        );
    }
    registry.delete_manifest(repository, &found.digest)?;
    out.line(&format!("{repository}:{tag} removed"));
    for other in others {
        out.line(&format!("{other} removed"));
    }
    Ok(())
}

/// A bar over bytes; draws nothing when standard error is no terminal.
fn bar(total: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_prefix(what);
    let template = "{prefix:>12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
