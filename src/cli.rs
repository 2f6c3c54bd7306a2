//! The command line: definitions only, no behaviour.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Turn edge nodes into a Kubernetes cluster that runs virtual machines beside pods.
#[derive(Debug, Parser)]
#[command(name = "edgevirt", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// Print results only, no progress.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check this node: CPU, KVM by running a guest, memory, disk. Changes nothing.
    Preflight(PreflightArgs),
    /// Write the manifests that deploy would apply.
    Render(RenderArgs),
    /// Apply a directory of rendered manifests to a cluster.
    Apply(ApplyArgs),
    /// Render, run the playbook, wait, and prove that it works.
    Deploy(DeployArgs),
    /// Prove that the control plane of a cluster works.
    Validate(ValidateArgs),
    /// Boot the virtual machine of the walk-through and show its login prompt.
    Demo(DemoArgs),
    /// Virtual machine images in the embedded registry.
    #[command(subcommand)]
    Image(crate::image::ImageArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Where the cluster is.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Kubeconfig of the cluster [default: $KUBECONFIG, else /etc/edgevirt/admin.conf, else ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Settings that a file, the environment or a flag may give, the flag winning.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SettingsArgs {
    /// Settings file (YAML).
    #[arg(long, env = "EDGEVIRT_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Namespace of the control plane [default: kubevirt].
    #[arg(long, env = "EDGEVIRT_NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Run guests without KVM: auto asks the nodes [default: auto].
    #[arg(long, env = "EDGEVIRT_EMULATION", value_enum)]
    pub(crate) emulation: Option<crate::settings::Emulation>,
    /// Directory with images.json and the image archives [default: target/images].
    #[arg(long, env = "EDGEVIRT_IMAGES", value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
}

/// Arguments of `preflight`.
#[derive(Debug, Args)]
pub(crate) struct PreflightArgs {
    /// How to print the verdicts.
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Leave a check out; may be repeated.
    #[arg(long, value_name = "ID")]
    pub(crate) skip: Vec<String>,
    /// Fail, not warn, where KVM cannot run a guest.
    #[arg(long)]
    pub(crate) require_kvm: bool,
    /// Directory whose file system must have room.
    #[arg(long, default_value = "/var/lib", value_name = "DIR")]
    pub(crate) disk: PathBuf,
}

/// Arguments of `render`.
#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// Settings.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Directory to write to.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Directory with rendered manifests, applied in the order of their names.
    pub(crate) dir: PathBuf,
    /// Cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Say what would change, change nothing.
    #[arg(long)]
    pub(crate) check: bool,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// Settings.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Ansible inventory.
    #[arg(
        long,
        short,
        default_value = "inventory/local.yml",
        value_name = "FILE"
    )]
    pub(crate) inventory: PathBuf,
    /// Directory with the playbooks.
    #[arg(long, default_value = "playbooks", value_name = "DIR")]
    pub(crate) playbooks: PathBuf,
    /// Where the Ansible log goes.
    #[arg(long, default_value = "/var/log/edgevirt", value_name = "DIR")]
    pub(crate) log_dir: PathBuf,
    /// Seconds to wait for the control plane.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(crate) timeout: u64,
    /// Show what would change, change nothing.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Namespace of the control plane.
    #[arg(long, env = "EDGEVIRT_NAMESPACE", default_value = "kubevirt")]
    pub(crate) namespace: String,
    /// Seconds to wait until all is well.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub(crate) wait: u64,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// The virtctl program.
    #[arg(long, default_value = "virtctl", value_name = "FILE")]
    pub(crate) virtctl: PathBuf,
    /// Seconds until the login prompt must be there.
    #[arg(long, default_value_t = 180, value_name = "SECONDS")]
    pub(crate) timeout: u64,
}
