//! Makes ready what QEMU needs: disks, cloud-init media, the DHCP servers, and
//! the command line with the descriptors it inherits.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use api::launcher::Sync;
use api::names;
use machine::Machine;
use machine::image::{self, PROBE_BYTES};
use machine::qemu::{self, Base, Medium, Runtime, Setup};
use machine::spec::{Content, Disk, Firmware, Mounted};
use rustix::fs::{Mode, OFlags};
use tokio::sync::watch;

use crate::args::Args;
use crate::children::Children;
use crate::state::Ready;
use crate::volumes::{self, Found};
use crate::{container_disk, dhcp, process, secrets};

/// QEMU, ready to be started.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Program and arguments.
    pub(crate) command: Command,
    /// Our end of the monitor.
    pub(crate) monitor: UnixStream,
    /// Our end of the guest agent's channel.
    pub(crate) agent: UnixStream,
    /// Commands to give before the guest starts.
    pub(crate) setup: Vec<Setup>,
    /// What QEMU inherits; ours are closed once it runs.
    pub(crate) inherited: Vec<OwnedFd>,
    /// The helpers' connections, held until the end.
    pub(crate) helpers: Vec<container_disk::Image>,
    /// Block devices that nobody else on the node may use until the end.
    pub(crate) held: Vec<OwnedFd>,
}

/// Does all of it. `hurry` tells that all containers were started.
///
/// # Errors
/// When the specification makes no machine, an image is missing or refused, or
/// the node lacks what is needed. The message is for the VMI's user.
pub(crate) async fn prepare(
    args: &Args,
    children: &Children,
    mut sync: Box<Sync>,
    hurry: watch::Receiver<bool>,
) -> anyhow::Result<(Prepared, Ready)> {
    sync.cloud_init_secrets = secrets::read(&args.secrets_dir, &sync.vmi)?;
    let sync = &*sync;
    let machine = Machine::try_from(sync)?;
    serve_dhcp(sync)?;
    let mut media: Vec<Option<Medium>> = vec![None; machine.disks.len()];
    let mut ready = Ready::default();
    let mut inherited = Vec::new();
    let mut helpers = Vec::new();
    let mut held = Vec::new();
    let mut sizes = vec![0; machine.disks.len()];
    // What we make ourselves first: the helpers' containers start meanwhile.
    for (i, disk) in machine.disks.iter().enumerate() {
        let made = match &disk.content {
            Content::ContainerDisk { .. } => continue,
            Content::Empty { capacity } => empty_disk(args, disk, *capacity)?,
            Content::CloudInit { kind, files } => {
                iso(args, children, disk, kind.label(), files).await?
            }
            Content::Mounted { from, label } => {
                let directory = mounted(args, disk, *from);
                let files = volumes::files(&directory)
                    .with_context(|| format!("volume {}, {}", disk.name, directory.display()))?;
                iso(args, children, disk, label, &files).await?
            }
            Content::Claim | Content::Ephemeral | Content::Host { .. } => {
                let (medium, size) = durable(args, disk, &mut inherited, &mut held)
                    .with_context(|| format!("volume {}", disk.name))?;
                sizes[i] = size;
                media[i] = Some(medium);
                continue;
            }
        };
        sizes[i] = std::fs::metadata(&made)?.len();
        media[i] = Some(Medium::File {
            direct: takes_direct_io(&made),
            path: text(&made)?,
        });
    }
    for (i, disk) in machine.disks.iter().enumerate() {
        if let Content::ContainerDisk { index } = disk.content {
            let socket = args.container_disk_dir.join(format!("disk_{index}.sock"));
            let image = container_disk::fetch(&socket, hurry.clone())
                .await
                .with_context(|| format!("volume {}", disk.name))?;
            let (medium, size) = overlay(args, disk, &image, &mut inherited)
                .with_context(|| format!("volume {}, image {}", disk.name, image.path))?;
            sizes[i] = size;
            media[i] = Some(medium);
            helpers.push(image);
        }
    }
    for (disk, size) in machine.disks.iter().zip(sizes) {
        ready
            .disks
            .push((disk.name.clone(), disk.target.clone(), size));
    }
    let (monitor, qemu_monitor) = UnixStream::pair()?;
    let (agent, qemu_agent) = UnixStream::pair()?;
    let (qemu_monitor, qemu_agent) = (OwnedFd::from(qemu_monitor), OwnedFd::from(qemu_agent));
    let runtime = Runtime {
        monitor_fd: process::inheritable(&qemu_monitor)?,
        agent_fd: process::inheritable(&qemu_agent)?,
        serial_socket: fresh_socket(&args.private_dir.join(names::SERIAL_SOCKET))?,
        vnc_socket: fresh_socket(&args.private_dir.join(names::VNC_SOCKET))?,
        efi_vars: efi_vars(args, &machine)?,
        ovmf_dir: text(&args.ovmf_dir)?,
        data_dirs: args
            .data_dirs
            .iter()
            .map(|d| text(d))
            .collect::<Result<_, _>>()?,
        media: media.into_iter().flatten().collect(),
        now: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| i64::try_from(d.as_secs()).ok())
            .unwrap_or(0),
    };
    inherited.extend([qemu_monitor, qemu_agent]);
    let mut command = Command::new(&args.qemu);
    command.args(qemu::argv(&machine, &runtime)?);
    let prepared = Prepared {
        command,
        monitor,
        agent,
        setup: qemu::setup(&machine),
        inherited,
        helpers,
        held,
    };
    Ok((prepared, ready))
}

/// A DHCP server for each interface that has a lease to give.
fn serve_dhcp(sync: &Sync) -> anyhow::Result<()> {
    for nic in &sync.nics {
        let Some(lease) = &nic.dhcp else { continue };
        let mac = machine::spec::parse_mac(&nic.mac)
            .with_context(|| format!("interface {} has the MAC {}", nic.network, nic.mac))?;
        let interfaces = &sync.vmi.spec.domain.devices.interfaces;
        let wished = interfaces
            .iter()
            .find(|i| i.name == nic.network)
            .and_then(|i| i.dhcp_options.clone())
            .unwrap_or_default();
        let offer = dhcp::Offer {
            mac,
            lease: lease.clone(),
            wished,
        };
        dhcp::serve(offer)
            .with_context(|| format!("serving DHCP on {} for {}", lease.bridge, nic.network))?;
    }
    Ok(())
}

/// Path of a file for this disk. Names of volumes are DNS labels; what is not
/// one never becomes a path.
fn file_for(args: &Args, disk: &Disk, suffix: &str) -> anyhow::Result<PathBuf> {
    if disk.name.is_empty() || disk.name.contains(['/', '\0']) || disk.name.starts_with('.') {
        bail!("expected a DNS label as volume name, found {:?}", disk.name);
    }
    Ok(args.ephemeral_dir.join(format!("{}.{suffix}", disk.name)))
}

fn empty_disk(args: &Args, disk: &Disk, capacity: u64) -> anyhow::Result<PathBuf> {
    let path = file_for(args, disk, "raw")?;
    let file = File::create(&path)?;
    file.set_len(capacity)
        .with_context(|| format!("making an empty disk of {capacity} bytes at {path:?}"))?;
    Ok(path)
}

/// Where the kubelet mounts what a medium is made from.
fn mounted(args: &Args, disk: &Disk, from: Mounted) -> PathBuf {
    let below = |directory: &str| args.private_dir.join(directory).join(&disk.name);
    match from {
        Mounted::ConfigMap => below(names::CONFIG_MAPS_DIR),
        Mounted::Secret => below(names::SECRETS_DIR),
        Mounted::DownwardApi => below(names::DOWNWARD_API_DIR),
        Mounted::ServiceAccount => args.service_account_dir.clone(),
    }
}

/// A claim or a disk of the node as QEMU gets it, and its bytes.
fn durable(
    args: &Args,
    disk: &Disk,
    inherited: &mut Vec<OwnedFd>,
    held: &mut Vec<OwnedFd>,
) -> anyhow::Result<(Medium, u64)> {
    // The name becomes a path.
    file_for(args, disk, "")?;
    let found = volumes::open(args, disk)?;
    if disk.content == Content::Ephemeral {
        let (base, size) = match found {
            Found::Image { file, size, .. } => {
                let fd = process::inheritable(&file)?;
                inherited.push(file);
                let format = image::Format::Raw;
                (Base::Image { fd, format }, size)
            }
            Found::Device { path, size, .. } => (Base::Device { path: text(&path)? }, size),
        };
        return Ok((on_top(args, disk, base, size.div_ceil(512) * 512)?, size));
    }
    Ok(match found {
        Found::Image { file, direct, size } => {
            if direct && disk.goes_direct(direct) {
                rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? | OFlags::DIRECT)?;
            }
            let fd = process::inheritable(&file)?;
            inherited.push(file);
            (Medium::Inherited { fd, direct }, size)
        }
        Found::Device {
            path,
            held: device,
            size,
        } => {
            held.extend(device);
            (Medium::Device { path: text(&path)? }, size)
        }
    })
}

/// An empty overlay on `base`, whose disk has so many bytes.
fn on_top(args: &Args, disk: &Disk, base: Base, size: u64) -> anyhow::Result<Medium> {
    let path = file_for(args, disk, "qcow2")?;
    File::create(&path)?.write_all(&image::empty_qcow2(size))?;
    Ok(Medium::Overlay {
        base,
        direct: takes_direct_io(&path),
        path: text(&path)?,
    })
}

/// xorriso 1.5.4 dies of SIGSEGV at its start once in some hundred calls; the same call
/// then succeeds.
const XORRISO_TRIES: u32 = 3;

/// Writes the files and lets xorriso make an ISO 9660 image of them.
async fn iso(
    args: &Args,
    children: &Children,
    disk: &Disk,
    label: &str,
    files: &[(String, Vec<u8>)],
) -> anyhow::Result<PathBuf> {
    let path = file_for(args, disk, "iso")?;
    let staging = file_for(args, disk, "files")?;
    std::fs::create_dir_all(&staging)?;
    for (name, content) in files {
        let file = staging.join(name);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        File::create(&file)?.write_all(content)?;
    }
    let mut command = Command::new(&args.xorriso);
    command
        .args(["-as", "mkisofs", "-quiet", "-joliet", "-rock"])
        .args(["-volid", label, "-output"])
        .arg(&path)
        .arg(&staging);
    for left in (0..XORRISO_TRIES).rev() {
        let running = process::start(&mut command, children, false)
            .with_context(|| format!("starting {}", args.xorriso.display()))?;
        let (ending, said) = running.end().await;
        match ending {
            Ok(_) => break,
            // What a failed call left would be read as a disc to go on with.
            Err(_) if left > 0 => drop(std::fs::remove_file(&path)),
            Err(status) => bail!(
                "xorriso ended with {status} making the medium of volume {}: {said}",
                disk.name
            ),
        }
    }
    // Secrets need not lie about twice.
    std::fs::remove_dir_all(&staging)?;
    Ok(path)
}

/// Looks at the image and puts an empty overlay beside it.
fn overlay(
    args: &Args,
    disk: &Disk,
    image: &container_disk::Image,
    inherited: &mut Vec<OwnedFd>,
) -> anyhow::Result<(Medium, u64)> {
    let length = image.file.metadata()?.len();
    let mut head = vec![0; PROBE_BYTES.min(usize::try_from(length).unwrap_or(PROBE_BYTES))];
    image.file.read_exact_at(&mut head, 0)?;
    let info = image::probe(&head, length)?;
    let fd = OwnedFd::from(image.file.try_clone()?);
    let base = Base::Image {
        fd: process::inheritable(&fd)?,
        format: info.format,
    };
    inherited.push(fd);
    let medium = on_top(args, disk, base, info.virtual_size)?;
    Ok((medium, info.virtual_size))
}

/// The guest's own copy of the UEFI variables.
fn efi_vars(args: &Args, machine: &Machine) -> anyhow::Result<String> {
    let Firmware::Efi { secure_boot } = machine.firmware else {
        return Ok(String::new());
    };
    let template = if secure_boot {
        "OVMF_VARS_4M.ms.fd"
    } else {
        "OVMF_VARS_4M.fd"
    };
    let template = args.ovmf_dir.join(template);
    let path = args.ephemeral_dir.join(".efi-vars.fd");
    let mut from = File::open(&template)
        .with_context(|| format!("opening UEFI variables {}", template.display()))?;
    io::copy(&mut from, &mut File::create(&path)?)?;
    text(&path)
}

/// Some file systems of emptyDirs (tmpfs, for one) have no O_DIRECT.
fn takes_direct_io(path: &Path) -> bool {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .is_ok()
}

/// Path of a socket that QEMU makes; what a launcher before us left is removed.
fn fresh_socket(path: &Path) -> anyhow::Result<String> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => text(path),
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str()
        .map(str::to_owned)
        .with_context(|| format!("expected a path in UTF-8, found {path:?}"))
}
