//! `cargo xtask images`: the images of the product, made from this workspace and Debian packages.
//!
//! ```text
//! apt (packages of the day) -> root (one merged file tree) -> closure (what a program needs of it)
//!     base    : libc, nft                                    \
//!     virt    : our binary, container-disk                    > components, launcher (with qemu above)
//!     pause   : one static program
//!     storage : busybox, local-path-provisioner (third_party)
//!     guest   : kernel + initramfs -> FAT disk -> qcow2 -> one layer /disk/
//! ```
//! Same inputs give the same digests: packages are resolved once and kept, tars hold no times, and nothing is
//! installed into the machine that builds.

pub(crate) mod apt;
pub(crate) mod base;
pub(crate) mod bootable;
mod build;
pub(crate) mod guest;
mod launcher;
pub(crate) mod manifest;
pub(crate) mod qemu_img;
pub(crate) mod root;
mod storage;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use oci::{Image, Layer, ProcessConfig, Reference, write_archive};

use self::apt::Apt;
use self::manifest::{Entry, Images};

/// What to build and where to.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Directory for the archives, images.json and packages.json.
    #[arg(long, default_value = "target/images")]
    out: PathBuf,
    /// Build only these; the others stay as images.json has them.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Name>,
    /// Where packages and unpacked trees are kept between runs.
    #[arg(long, default_value = "/var/cache/edgevirt", env = "EDGEVIRT_CACHE")]
    cache: PathBuf,
    /// Take this program as the components' binary instead of building it.
    #[arg(long, value_name = "FILE")]
    virt: Option<PathBuf>,
    /// Ask the package mirror for newer versions instead of taking those of the last run.
    #[arg(long)]
    refresh: bool,
}

/// Where the probe goes.
#[derive(clap::Args, Debug)]
pub(crate) struct ProbeArgs {
    /// Directory for the program `edgevirt-probe`.
    #[arg(long, default_value = "target/release")]
    out: PathBuf,
}

/// Builds the program that preflight runs on nodes: static, because it is pushed to machines of any distribution.
pub(crate) fn probe(repository: &Path, args: &ProbeArgs) -> anyhow::Result<()> {
    let built = build::probe(repository)?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    // Renamed into place: one that runs is not written over.
    let place = args.out.join("edgevirt-probe");
    let fresh = args.out.join(".edgevirt-probe.new");
    std::fs::copy(&built, &fresh).with_context(|| fresh.display().to_string())?;
    std::fs::rename(&fresh, &place).with_context(|| place.display().to_string())
}

/// The images there are.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// All control-plane components in one.
    Components,
    /// The components' layers with QEMU above.
    Launcher,
    /// What holds a pod's namespaces.
    Pause,
    /// The provisioner of node-local storage, and the shell of its helper pods.
    Storage,
    /// The demo guest.
    Guest,
}

/// What every builder needs.
struct Workshop {
    repository: PathBuf,
    apt: Apt,
    cache: PathBuf,
}

/// Builds what was asked for.
pub(crate) fn run(repository: &Path, args: &Args) -> anyhow::Result<()> {
    let wanted = |name: Name| args.only.is_empty() || args.only.contains(&name);
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    std::fs::create_dir_all(&args.cache).with_context(|| args.cache.display().to_string())?;
    // Two runs at once would unpack into the same trees. The lock goes with the process.
    let lock = File::create(args.cache.join("images.lock")).context("images.lock in the cache")?;
    lock.lock().context("images.lock in the cache")?;
    let apt = Apt::prepare(&args.cache, args.refresh)?;
    let mut context = Workshop {
        repository: repository.to_owned(),
        apt,
        cache: args.cache.clone(),
    };
    let mut images = Images::read(&args.out)?;

    if wanted(Name::Pause) {
        let layer = Layer::new(build::pause(&context)?)?;
        let process = ProcessConfig {
            entrypoint: vec!["/pause".to_owned()],
            ..ProcessConfig::default()
        };
        let image = Image::new(vec![layer], process)?;
        images.pause = Some(save(
            &args.out,
            "pause.tar",
            "edgevirt.local/pause:3.10",
            &image,
        )?);
        images.write(&args.out)?;
    }
    if wanted(Name::Storage) {
        let layer = Layer::new(storage::build(&mut context)?)?;
        let image = Image::new(vec![layer], process("0:0"))?;
        images.storage = Some(save_by_digest(&args.out, "storage-local", &image)?);
        images.write(&args.out)?;
    }
    if wanted(Name::Guest) {
        let image = Image::new(
            vec![Layer::new(guest::build(&mut context)?)?],
            ProcessConfig::default(),
        )?;
        images.guest = Some(save(&args.out, "guest.tar", guest::REFERENCE, &image)?);
        images.write(&args.out)?;
    }
    if wanted(Name::Components) || wanted(Name::Launcher) {
        let base = base::build(&mut context)?;
        let virt = build::virt(&context, args.virt.as_deref())?;
        let lower = [Layer::new(base.clone())?, Layer::new(virt)?];
        if wanted(Name::Components) {
            let image = Image::new(lower.to_vec(), process("0:0"))?;
            images.components = Some(save_by_digest(&args.out, "virt", &image)?);
            images.write(&args.out)?;
        }
        if wanted(Name::Launcher) {
            let qemu = Layer::new(launcher::build(&mut context, &base)?)?;
            let image = Image::new([&lower[..], &[qemu]].concat(), process("107:107"))?;
            images.launcher = Some(save_by_digest(&args.out, "virt-launcher", &image)?);
            images.write(&args.out)?;
        }
    }
    context.apt.record(&args.out)?;
    Ok(())
}

fn process(user: &str) -> ProcessConfig {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    ProcessConfig {
        user: user.to_owned(),
        env: vec![path],
        ..ProcessConfig::default()
    }
}

/// Our own images are named after what they hold, so that a new one is never mistaken for an old one.
fn save_by_digest(out: &Path, name: &str, image: &Image) -> anyhow::Result<Entry> {
    let reference = format!("edgevirt.local/{name}:{}", &image.digest().hex()[..12]);
    save(out, &format!("{name}.tar"), &reference, image)
}

fn save(out: &Path, archive: &str, reference: &str, image: &Image) -> anyhow::Result<Entry> {
    let reference: Reference = reference.parse()?;
    write_archive(&out.join(archive), &reference, image)?;
    Ok(Entry {
        reference: reference.to_string(),
        archive: archive.to_owned(),
        digest: image.digest().to_string(),
        size: image.size(),
    })
}
