//! `cargo xtask cloud-image`: a Debian like the ones that clouds start, for the tests of persistent machines; with
//! `--node` one that becomes a node of the embedded cluster, for the test under systemd.
//!
//! ```text
//! mmdebstrap (packages with their own scripts, in a directory) -> ext4 -> MBR and GRUB -> qcow2, compressed
//! ```
//! Kernel, systemd, cloud-init and sshd are Debian's; nobody can log in before cloud-init has read its data. What
//! was built is in a file named after the recipe, so that a second run finds it done.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use oci::Digest;

use crate::images::apt::Apt;
use crate::images::root::Root;
use crate::images::{bootable, qemu_img};

/// Where to put it.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Where it is kept between runs.
    #[arg(long, default_value = "/var/cache/edgevirt", env = "EDGEVIRT_CACHE")]
    cache: PathBuf,
    /// Room and packages for a node of the embedded cluster: what Ansible needs, and a repository on the disk with the
    /// packages of services, for the role to install on a machine that reaches no mirror.
    #[arg(long)]
    node: bool,
    /// Unpack it into this file besides, for who mounts it.
    #[arg(long)]
    raw: Option<PathBuf>,
}

/// What the image has beside Debian's essential packages.
const PACKAGES: &str = "linux-image-cloud-amd64,systemd-sysv,udev,dbus,cloud-init,openssh-server,sudo,\
     iproute2,ifupdown,isc-dhcp-client,netbase,cloud-guest-utils,fdisk,grub-pc-bin,grub-common";
/// What a node has besides: Ansible's Python, and those of the role's packages that bring no service.
const NODE_PACKAGES: &str = ",python3,python3-apt,conntrack,containernetworking-plugins,ethtool,iptables,nftables,\
     openssl,procps,runc,util-linux";
/// The role's packages that bring services of their own: it has to install these itself, and keep them from starting.
const NODE_SERVICES: &str = "containerd etcd-server docker-registry";
/// Files that no test reads.
const LEFT_OUT: [&str; 4] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
];
/// Written on the partition.
const LABEL: &str = "cloudroot";
/// The disk's length in bytes; what is never written takes no room.
const DISK: u64 = 2 << 30;
/// A node's, with the cluster's programs, images and state, and the 10 GiB that preflight wants free.
const NODE_DISK: u64 = 16 << 30;
/// An emulated processor needs no defence against itself, and its timer does not pass the kernel's test.
const LINUX: &str = "console=ttyS0 quiet no_timer_check mitigations=off";
/// GRUB's modules in front of the partition.
const GRUB: &str = "biosdisk part_msdos ext2 normal linux serial terminal";
/// Raised when the way of building changes.
const REVISION: u32 = 1;

/// What distinguishes the two images.
struct Recipe {
    name: &'static str,
    packages: String,
    disk: u64,
    services: Option<&'static str>,
}

impl Recipe {
    fn new(node: bool) -> Self {
        match node {
            false => Self {
                name: "debian",
                packages: PACKAGES.to_owned(),
                disk: DISK,
                services: None,
            },
            true => Self {
                name: "node",
                packages: format!("{PACKAGES}{NODE_PACKAGES}"),
                disk: NODE_DISK,
                services: Some(NODE_SERVICES),
            },
        }
    }

    /// What the image's name is a digest of.
    fn text(&self) -> String {
        let (packages, disk, hook) = (&self.packages, self.disk, self.repository());
        let hook = hook.unwrap_or_default();
        format!("{REVISION}{packages}{LEFT_OUT:?}{disk}{LINUX}{GRUB}{hook}")
    }

    /// The hook that puts the services' packages with all they depend on into a repository on the disk, and makes it
    /// apt's only source.
    fn repository(&self) -> Option<String> {
        let services = self.services?;
        Some(format!(
            "set -e; at=\"$1/opt/packages\"; mkdir -p \"$at\"; chroot \"$1\" apt-get clean; \
         chroot \"$1\" apt-get install -qy --no-install-recommends --download-only {services} >/dev/null; \
         mv \"$1\"/var/cache/apt/archives/*.deb \"$at\"; cd \"$at\"; \
         for deb in *.deb; do dpkg-deb -f \"$deb\"; printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \"$deb\" \
         \"$(stat -c %s \"$deb\")\" \"$(sha256sum \"$deb\" | cut -d' ' -f1)\"; done > Packages; \
         rm -rf \"$1\"/etc/apt/sources.list.d/* \"$1\"/var/lib/apt/lists/*; \
         echo 'deb [trusted=yes] file:/opt/packages ./' > \"$1/etc/apt/sources.list\""
        ))
    }
}

/// Makes the image, unless it is there, and prints its path.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let dir = args.cache.join("cloud-image");
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let recipe = Recipe::new(args.node);
    let digest = Digest::of(recipe.text().as_bytes()).hex()[..12].to_owned();
    let image = dir.join(format!("{}-{digest}.qcow2", recipe.name));
    if !image.is_file() || args.raw.is_some() {
        // The same lock as that of the images: packages are unpacked into one place.
        let lock =
            File::create(args.cache.join("images.lock")).context("images.lock in the cache")?;
        lock.lock().context("images.lock in the cache")?;
        let work = dir.join("partial");
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir_all(&work)?;
        if !image.is_file() {
            let built = build(&args.cache, &work, &recipe)?;
            fs::rename(built, &image)?;
        }
        if let Some(raw) = &args.raw {
            qemu_img::unpack(&tools(&args.cache)?, &image, &work, raw)?;
        }
        fs::remove_dir_all(&work)?;
    }
    // Whoever closed the pipe wants no more of it.
    let _ = writeln!(std::io::stdout(), "{}", image.display());
    Ok(())
}

fn build(cache: &Path, work: &Path, recipe: &Recipe) -> anyhow::Result<PathBuf> {
    let top = work.join("root");
    bootstrap(&top, recipe)?;
    let kernel = fs::read_dir(top.join("boot"))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()))
        .context("the kernel's package has no /boot/vmlinuz-*")?;
    let menu = format!(
        "set timeout=0\nlinux /boot/vmlinuz-{kernel} root=LABEL={LABEL} rw {LINUX}\n\
         initrd /boot/initrd.img-{kernel}\nboot\n"
    );
    fs::write(top.join("boot/grub/grub.cfg"), menu)?;
    fs::write(
        top.join("etc/fstab"),
        format!("LABEL={LABEL} / ext4 defaults 0 1\n"),
    )?;
    let raw = work.join("cloud.raw");
    let file = OpenOptions::new().write(true).create_new(true).open(&raw)?;
    file.set_len(recipe.disk)?;
    bootable::file_system(&top, &raw, LABEL, recipe.disk)?;
    let boot = fs::read(top.join("usr/lib/grub/i386-pc/boot.img"))?;
    let core = fs::read(top.join("boot/grub/core.img"))?;
    bootable::write(&file, &boot, &core, recipe.disk)?;
    qemu_img::pack(&tools(cache)?, &raw, work, &["-c"])
}

/// Debian's qemu-img.
fn tools(cache: &Path) -> anyhow::Result<Root> {
    let mut apt = Apt::prepare(cache, false)?;
    Root::new(&apt.closure(&["qemu-utils"])?)
}

/// Debian into a directory. Its packages' scripts run there, as on a machine.
fn bootstrap(top: &Path, recipe: &Recipe) -> anyhow::Result<()> {
    let codename = fs::read_to_string("/etc/os-release")?
        .lines()
        .find_map(|line| Some(line.strip_prefix("VERSION_CODENAME=")?.to_owned()))
        .context("/etc/os-release names no VERSION_CODENAME; expected Debian 12 or later")?;
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=minbase", "--format=directory"])
        .arg(format!("--include={}", recipe.packages));
    for path in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    let core = format!(
        "printf 'serial --unit=0\\nterminal_output serial\\n' > \"$1/tmp/core.cfg\"; mkdir -p \"$1/boot/grub\"; \
         chroot \"$1\" grub-mkimage -O i386-pc -c /tmp/core.cfg -o /boot/grub/core.img \
         -p '(hd0,msdos1)/boot/grub' {GRUB}; cp -r \"$1/usr/lib/grub/i386-pc\" \"$1/boot/grub/\"; rm \"$1/tmp/core.cfg\""
    );
    if let Some(hook) = recipe.repository() {
        command.arg(format!("--customize-hook={hook}"));
    }
    let output = command
        .arg(format!("--customize-hook={core}"))
        .arg(codename)
        .arg(top)
        .output()
        .context("mmdebstrap is not there; install it")?;
    if !output.status.success() {
        bail!(
            "mmdebstrap ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
