//! `cargo xtask edge-node`: the nodes of testbed/edge-node, built from Debian packages and started by hand.
//!
//! ```text
//! apt -> kernel  -> vmlinux (QEMU starts it without unpacking: three seconds less under emulation)
//!     -> busybox, dropbear, modules, testbed/edge-node/rootfs -> initrd
//!     -> a shell, Python, GRUB -> a disk for the node that boots by itself
//!     -> QEMU with its libraries and firmware: none need be installed
//! ```
//! Nothing here needs a privilege. What was built is in a directory named after all that went in, so that a
//! second run finds it done; `current` points to it.

mod grub;
mod kernel;
mod keys;
mod programs;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use oci::{Digest, Kind, Source, Tree};
use testkit::edge_node::{BUILT, Captured, EdgeNode, Testbed, captured, stop_all, stop_one};

use self::keys::Keys;
use crate::images::apt::Apt;
use crate::images::base;
use crate::images::guest::{cpio, initramfs, modules};
use crate::images::root::Root;

/// What to do with the nodes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// Build kernel, initial file system and QEMU from Debian packages.
    Build {
        /// Where packages are kept between runs.
        #[arg(long, default_value = "/var/cache/edgevirt", env = "EDGEVIRT_CACHE")]
        cache: PathBuf,
    },
    /// List the variants.
    List,
    /// Start a variant, which then runs until `stop`; prints how to reach it.
    Boot {
        /// The variant; a name of testbed/edge-node/variants.yaml.
        #[arg(default_value = "full")]
        variant: String,
        /// The port of 127.0.0.1 that its sshd gets.
        #[arg(long, default_value_t = 2222)]
        port: u16,
    },
    /// Boot every variant and keep its facts and files in testbed/edge-node/captured, to be judged without it.
    Capture {
        /// The static probe.
        #[arg(
            long,
            default_value = "target/release/edgevirt-probe",
            env = "EDGEVIRT_PROBE"
        )]
        probe: PathBuf,
    },
    /// Run a command in a node that `boot` started.
    Ssh {
        /// The port that it was given.
        #[arg(long, default_value_t = 2222)]
        port: u16,
        /// The command and its words.
        #[arg(trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// Stop one node, or every node of this machine, and remove what they wrote.
    Stop {
        /// The node, by its variant and port: `full-2222`. Without it all, those of a test that crashed and those
        /// that somebody else works with included.
        #[arg(value_name = "NAME-PORT")]
        node: Option<String>,
    },
}

/// Packages with all they depend on: what runs in the node, and what runs it.
const PACKAGES: [&str; 7] = [
    "busybox-static",
    "dropbear-bin",
    "qemu-system-x86",
    "seabios",
    "ipxe-qemu",
    "xz-utils",
    "libc6",
];
/// The kernel is Debian's for real machines: the cloud's has no igb and no vfio.
const KERNEL: &str = "linux-image-amd64";
/// Raised when the way of building changes, so that what an earlier way built is not taken for new.
const REVISION: u32 = 5;

/// Does what was asked for.
pub(crate) fn run(repository: &Path, args: &Args) -> anyhow::Result<()> {
    match &args.verb {
        Verb::Build { cache } => build(repository, cache),
        Verb::List => {
            for (name, variant) in Testbed::open()?.variants() {
                say(&format!("{name:16} {}", variant.what));
            }
            Ok(())
        }
        Verb::Boot { variant, port } => {
            let mut node = EdgeNode::start_detached(&Testbed::open()?, variant, *port)?;
            let took = node.wait()?;
            say(&format!(
                "{variant} answers after {:.1} s:\n{}",
                took.as_secs_f64(),
                node.ssh_words().join(" ")
            ));
            Ok(())
        }
        Verb::Capture { probe } => capture(probe),
        Verb::Ssh { port, command } => {
            let mut words = EdgeNode::words_to_reach(&Testbed::open()?, *port);
            words.extend(command.iter().cloned());
            let status = std::process::Command::new(&words[0])
                .args(&words[1..])
                .status()
                .context("ssh is not there; install openssh-client")?;
            match status.success() {
                true => Ok(()),
                false => bail!("the command in the node ended with {status}"),
            }
        }
        Verb::Stop { node } => {
            let stopped = match node {
                Some(node) => vec![stop_one(node)?],
                None => stop_all()?,
            };
            for path in stopped {
                say(&format!("stopped {}", path.display()));
            }
            Ok(())
        }
    }
}

/// Keeps every variant, first the one from which the others are told.
fn capture(probe: &Path) -> anyhow::Result<()> {
    let testbed = Testbed::open()?;
    let mut names: Vec<&String> = testbed.variants().keys().collect();
    names.sort_by_key(|name| *name != "full");
    for name in names {
        let node = EdgeNode::boot(&testbed, name)?;
        Captured::of(&node, probe)?.keep(name)?;
        say(&captured::path(name).display().to_string());
    }
    Ok(())
}

/// A line for whoever called the chore.
fn say(line: &str) {
    // Whoever closed the pipe wants no more of it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn build(repository: &Path, cache: &Path) -> anyhow::Result<()> {
    let out = cache.join(BUILT);
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    // The same lock as that of the images: both unpack into the same trees. It goes with the process.
    let lock = File::create(cache.join("images.lock")).context("images.lock in the cache")?;
    lock.lock().context("images.lock in the cache")?;
    let mut apt = Apt::prepare(cache, false)?;
    let kernel = apt.dependency(KERNEL, "linux-image-6")?;
    let mut trees = apt.closure(&PACKAGES)?;
    trees.extend(apt.exactly(&[&kernel])?);
    let own = apt.closure(&grub::PACKAGES)?;
    let root = Root::new(&[trees, own.clone()].concat())?;

    let tools = programs::Programs::collect(&root, &out.join("tools"))?;
    let keys = Keys::make(&tools, &out.join("keys"))?;
    let tree = node(repository, &root, &keys, None)?;
    apt.record(&out)?;
    let name = name_of(&tree, &fs::read(out.join("packages.json"))?, cache)?;
    let dir = out.join(&name);
    if !dir.is_dir() {
        let partial = out.join("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)?;
        fs::write(
            partial.join("initrd"),
            initramfs::lz4(&cpio::archive(&tree)?),
        )?;
        kernel::extract(&root, &tools, &partial.join("vmlinux"))?;
        programs::Programs::collect(&root, &partial.join("qemu"))?;
        programs::firmware(&root, &partial.join("firmware"))?;
        let debian = node(repository, &root, &keys, Some(&Root::new(&own)?))?;
        let disk = partial.join("disk.raw");
        grub::make(&root, &tools, debian, &partial, &disk)?;
        fs::rename(&partial, &dir)?;
    }
    let current = out.join("current");
    let link = out.join("current.partial");
    let _ = fs::remove_file(&link);
    symlink(&name, &link)?;
    fs::rename(&link, &current)?;
    remove_older(&out, &name)?;
    say(&dir.display().to_string());
    Ok(())
}

/// The tree of a node's file system; `packages` are those that it has as they are.
fn node(
    repository: &Path,
    root: &Root,
    keys: &Keys,
    packages: Option<&Root>,
) -> anyhow::Result<Tree> {
    let testbed = repository.join("testbed/edge-node");
    let overlay = testbed.join("rootfs");
    let mut tree = Tree::owned_by(0, 0);
    base::skeleton(&mut tree)?;
    for dir in ["etc/dropbear", "root/.ssh"] {
        tree.dir(dir, 0o700)?;
    }
    initramfs::copy_overlay(&overlay, &overlay, &mut tree)?;
    if let Some(packages) = packages {
        packages.copy_all(&mut tree)?;
    }
    tree.file("etc/shadow", fs::read(overlay.join("etc/shadow"))?, 0o600)?;
    tree.file("root/.ssh/authorized_keys", keys.user.as_str(), 0o600)?;
    tree.file(
        "etc/dropbear/dropbear_ed25519_host_key",
        keys.host.clone(),
        0o600,
    )?;

    root.copy_programs(&["usr/sbin/dropbear"], &mut tree)?;
    let busybox = root.find("bin/busybox")?.to_owned();
    for (path, target) in initramfs::applets(&busybox)? {
        if !tree.contains(&path) {
            tree.symlink(&path, &target)?;
        }
    }
    tree.file("usr/bin/busybox", busybox, 0o755)?;
    let names = fs::read_to_string(testbed.join("modules")).context("testbed/edge-node/modules")?;
    modules::copy_with_aliases(root, &names, &mut tree)?;
    Ok(tree)
}

/// A name that changes with anything that goes in. Packages, which `cache` holds, say by their version what is in them.
fn name_of(tree: &Tree, packages: &[u8], cache: &Path) -> anyhow::Result<String> {
    let mut text = format!("{REVISION}\n").into_bytes();
    text.extend_from_slice(packages);
    for (path, kind, mode) in tree.entries() {
        text.extend_from_slice(format!("{path} {mode:o} ").as_bytes());
        match kind {
            Kind::Dir => {}
            Kind::Symlink(target) => text.extend_from_slice(target.as_bytes()),
            Kind::File(Source::Bytes(bytes)) => text.extend_from_slice(bytes),
            Kind::File(Source::Path(path)) if path.starts_with(cache) => {
                text.extend_from_slice(path.as_os_str().as_encoded_bytes());
            }
            Kind::File(Source::Path(path)) => text.extend(fs::read(path)?),
        }
    }
    Ok(Digest::of(&text).hex()[..12].to_owned())
}

/// Removes what earlier builds left; a node that runs has its files open.
fn remove_older(out: &Path, name: &str) -> anyhow::Result<()> {
    for entry in fs::read_dir(out)? {
        let entry = entry?;
        let found = entry.file_name().to_string_lossy().into_owned();
        let digest = found.len() == 12 && found.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digest && found != name {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
