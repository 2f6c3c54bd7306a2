//! Arguments of virt-launcher and the places it works with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use api::names;

/// Arguments, all of them optional but for tests' sake: the pod gives the first four.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    /// UID of the VMI, for logs.
    pub(crate) uid: String,
    /// Name of the VMI, for logs.
    pub(crate) name: String,
    /// Namespace of the VMI, for logs.
    pub(crate) namespace: String,
    /// Seconds between the power button and the kill, unless the VMI says.
    pub(crate) grace_period: Option<i64>,
    /// Directory of sockets and the state file.
    pub(crate) private_dir: PathBuf,
    /// Directory of the containerDisk helpers' sockets.
    pub(crate) container_disk_dir: PathBuf,
    /// Directory of the secrets with cloud-init data.
    pub(crate) secrets_dir: PathBuf,
    /// Directory of the claims that are block devices.
    pub(crate) dev_dir: PathBuf,
    /// Directory of what the pod's service account is given.
    pub(crate) service_account_dir: PathBuf,
    /// Bytes of an image that is made in a claim, by volume.
    pub(crate) image_sizes: BTreeMap<String, u64>,
    /// Directory of overlays, empty disks and cloud-init media.
    pub(crate) ephemeral_dir: PathBuf,
    /// QEMU.
    pub(crate) qemu: PathBuf,
    /// xorriso.
    pub(crate) xorriso: PathBuf,
    /// Directory of OVMF's files.
    pub(crate) ovmf_dir: PathBuf,
    /// Directories QEMU searches for firmware, beside its own.
    pub(crate) data_dirs: Vec<PathBuf>,
}

/// `<volume>=<bytes>`.
fn image_size(text: &str) -> Result<(String, u64), String> {
    text.split_once('=')
        .and_then(|(volume, bytes)| Some((volume.to_owned(), bytes.parse().ok()?)))
        .ok_or_else(|| format!("expected <volume>=<bytes>, found {text:?}"))
}

impl Args {
    /// Reads the arguments, the first of which is not the program's name.
    ///
    /// # Errors
    /// When one is malformed or unknown.
    pub(crate) fn parse(args: Vec<OsString>) -> anyhow::Result<Self> {
        let mut args = pico_args::Arguments::from_vec(args);
        let path = |args: &mut pico_args::Arguments, flag, default: &str| {
            let value: Option<String> = args.opt_value_from_str(flag)?;
            anyhow::Ok(value.map_or_else(|| PathBuf::from(default), PathBuf::from))
        };
        let parsed = Self {
            uid: args.opt_value_from_str("--uid")?.unwrap_or_default(),
            name: args.opt_value_from_str("--name")?.unwrap_or_default(),
            namespace: args.opt_value_from_str("--namespace")?.unwrap_or_default(),
            grace_period: args.opt_value_from_str("--grace-period")?,
            private_dir: path(&mut args, "--private-dir", names::PRIVATE_DIR)?,
            container_disk_dir: path(&mut args, "--container-disk-dir", names::CONTAINER_DISK_DIR)?,
            secrets_dir: path(&mut args, "--secrets-dir", names::CLOUD_INIT_SECRETS_DIR)?,
            dev_dir: path(&mut args, "--dev-dir", "/dev")?,
            service_account_dir: path(
                &mut args,
                "--service-account-dir",
                names::SERVICE_ACCOUNT_DIR,
            )?,
            image_sizes: args
                .values_from_fn("--image-size", image_size)?
                .into_iter()
                .collect(),
            ephemeral_dir: path(&mut args, "--ephemeral-dir", names::EPHEMERAL_DIR)?,
            qemu: path(&mut args, "--qemu", "/usr/bin/qemu-system-x86_64")?,
            xorriso: path(&mut args, "--xorriso", "/usr/bin/xorriso")?,
            ovmf_dir: path(&mut args, "--ovmf-dir", "/usr/share/OVMF")?,
            data_dirs: args
                .values_from_str::<_, String>("--data-dir")?
                .into_iter()
                .map(PathBuf::from)
                .collect(),
        };
        let rest = args.finish();
        anyhow::ensure!(rest.is_empty(), "unknown arguments: {rest:?}");
        Ok(parsed)
    }
}
