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
    /// Check the hardware of this machine or of many nodes, by effect. Changes nothing
    /// unless told to.
    Preflight(Box<PreflightArgs>),
    /// Write the manifests that deploy would apply.
    Render(RenderArgs),
    /// Apply a directory of rendered manifests to a cluster.
    Apply(ApplyArgs),
    /// Render, run the playbook, wait, and prove that it works.
    Deploy(DeployArgs),
    /// Prove that the control plane of a cluster works.
    Validate(ValidateArgs),
    /// Say why something does not work, with the evidence and the command that helps.
    #[command(subcommand)]
    Doctor(DoctorCommand),
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

/// Parts of the product that are rendered and looked at each by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Component {
    /// The virtualization control plane.
    #[default]
    Kubevirt,
    /// Storage on the nodes' own disks.
    StorageLocal,
    /// Images into claims.
    Cdi,
}

/// Where the cluster is.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Kubeconfig of the cluster [default: $KUBECONFIG, else /etc/edgevirt/admin.conf, else ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Ansible inventory of the cluster. Where its control plane is another machine, the cluster is the one of the
    /// kubeconfig that was fetched from there, whatever KUBECONFIG says.
    #[arg(long, short, value_name = "FILE|DIR")]
    pub(crate) inventory: Option<PathBuf>,
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

/// How verdicts are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people.
    #[default]
    Table,
    /// For programs: all facts and verdicts.
    Json,
    /// For test reports: a suite per node, a case per check.
    Junit,
    /// A page in one file to hand on: a card per node, filters by failing check.
    Html,
}

/// Arguments of `preflight`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 all passed, 4 warnings, 3 failures or a node that could not be asked, 2 bad usage \
(a flag, an inventory, a file), 130 interrupted. With --strict warnings exit with 3.",
    after_long_help = PREFLIGHT_HELP
)]
pub(crate) struct PreflightArgs {
    /// Something else than checking.
    #[command(subcommand)]
    pub(crate) what: Option<PreflightCommand>,
    /// Which nodes.
    #[command(flatten)]
    pub(crate) nodes: NodesArgs,
    /// How to print the verdicts.
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) output: ReportFormat,
    /// Write the report to a file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// Leave a check out; may be repeated. `preflight explain` lists them.
    #[arg(long, value_name = "ID")]
    pub(crate) skip: Vec<String>,
    /// Warnings are failures.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Fail, not warn, where KVM cannot run a guest.
    #[arg(long)]
    pub(crate) require_kvm: bool,
    /// What the nodes must be able to do (YAML or JSON); the inventory's
    /// edgevirt_requirements of a node wins, key by key.
    #[arg(long, value_name = "FILE")]
    pub(crate) requirements: Option<PathBuf>,
    /// Directory whose file system must have room (this machine only).
    #[arg(long, default_value = "/var/lib", value_name = "DIR")]
    pub(crate) disk: PathBuf,
    /// Also try what changes something for a moment: create a virtual function, bind it
    /// to vfio-pci, open its group, and put everything back. Refused on a network card
    /// that carries the default route, the SSH connection, a bridge or a bond.
    #[arg(long)]
    pub(crate) probe: bool,
    /// Put right what software can: kernel command line by the bootloader's own tool,
    /// modules, hugepages, swap. Shows the difference and asks first.
    #[arg(long, conflicts_with_all = ["facts", "root"])]
    pub(crate) fix: bool,
    /// Do not ask before --fix writes.
    #[arg(long, requires = "fix")]
    pub(crate) yes: bool,
    /// Show what --fix would write, write nothing.
    #[arg(long, requires = "fix", conflicts_with_all = ["yes", "reboot"])]
    pub(crate) dry_run: bool,
    /// Reboot nodes whose fixes need it, wait for them, and judge again. This machine, when it is
    /// one of them, is rebooted last, after the report: run preflight again afterwards.
    #[arg(long, requires = "fix")]
    pub(crate) reboot: bool,
    // Last: its heading goes for all that follows.
    /// How they are reached.
    #[command(flatten)]
    pub(crate) ssh: SshArgs,
}

/// Something else than checking.
#[derive(Debug, Subcommand)]
pub(crate) enum PreflightCommand {
    /// Say what a check reads, why it matters and how to fix it; without ID, list all.
    Explain {
        /// The check, for example iommu.active.
        id: Option<String>,
    },
}

/// Which nodes; none named means this machine.
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Ansible inventory (INI or YAML, a file or a directory), read as it is.
    #[arg(long, short, value_name = "FILE|DIR", conflicts_with_all = ["host", "root", "facts"])]
    pub(crate) inventory: Option<PathBuf>,
    /// Part of the inventory: names and groups with wildcards, `!` leaves out, `&` keeps.
    #[arg(long, short, value_name = "PATTERN", requires = "inventory")]
    pub(crate) limit: Option<String>,
    /// A node, without an inventory; may be repeated.
    #[arg(long, value_name = "[USER@]HOST[:PORT]", conflicts_with_all = ["root", "facts"])]
    pub(crate) host: Vec<String>,
    /// Judge a tree of captured files instead of a live node.
    #[arg(long, value_name = "DIR", conflicts_with = "facts")]
    pub(crate) root: Option<PathBuf>,
    /// Judge facts that were gathered earlier; a file of the probe's, or a report of
    /// `--output json`. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) facts: Vec<PathBuf>,
}

/// How nodes are reached. The inventory's variables win, as with Ansible.
#[derive(Debug, Args)]
#[command(next_help_heading = "SSH")]
pub(crate) struct SshArgs {
    /// User to log in as [default: yours].
    #[arg(long, short = 'u', value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Private key; may be repeated [default: the agent's and ~/.ssh/id_*].
    #[arg(long, value_name = "FILE")]
    pub(crate) private_key: Vec<PathBuf>,
    /// Ask for the passphrase of private keys that are encrypted.
    #[arg(long)]
    pub(crate) ask_key_passphrase: bool,
    /// Jump hosts, apart by commas.
    #[arg(long, short = 'J', value_name = "[USER@]HOST[:PORT]")]
    pub(crate) jump: Option<String>,
    /// Ask for the password to log in with.
    #[arg(long)]
    pub(crate) ask_pass: bool,
    /// Become root by sudo; facts that only root may read are missing otherwise.
    #[arg(long, short = 'b')]
    pub(crate) r#become: bool,
    /// Ask for the password of sudo; also becomes root.
    #[arg(long, short = 'K')]
    pub(crate) ask_become_pass: bool,
    /// Host keys; may be repeated [default: ~/.ssh/known_hosts, /etc/ssh/ssh_known_hosts].
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts: Vec<PathBuf>,
    /// Believe and remember hosts that are not known. A changed key is refused always.
    #[arg(long)]
    pub(crate) accept_new_host_keys: bool,
    /// Nodes at once.
    #[arg(long, short = 'f', default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) forks: u16,
    /// Seconds until a connection must stand.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) connect_timeout: u64,
    /// Seconds a node may take in all.
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
    /// Seconds until a node must be back after --reboot.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub(crate) reboot_timeout: u64,
    /// The probe that runs on nodes [default: edgevirt-probe beside this program].
    #[arg(long, env = "EDGEVIRT_PROBE", value_name = "FILE")]
    pub(crate) probe_program: Option<PathBuf>,
}

/// The end of `preflight --help`.
const PREFLIGHT_HELP: &str = "\
Nodes:
  Without --inventory and --host this machine is checked. Nodes are asked over SSH, many
  at once (--forks); one that is down, hangs or refuses gets a line with the reason and
  holds up nobody. A node needs sshd and a POSIX shell, no Python. One connection brings a
  small static program, runs it in a private directory and takes it away again.

Inventory:
  ansible_host, _port, _user, _ssh_private_key_file, _private_key_passphrase, _password,
  _become, _become_password and _ssh_common_args (ProxyJump, ProxyCommand=\"ssh -W\", UserKnownHostsFile,
  StrictHostKeyChecking, IdentityFile) are acted on; ansible_connection=local is this
  machine. ~/.ssh/config is not read. Expressions ({{ }}) are not evaluated: a variable
  that is needed and holds one is refused with its file and line.
  edgevirt_requirements of a host or group says what is asked of it; hosts of the groups
  control_plane, workers and storage get these roles. What nobody asks for never fails.

Host keys:
  Checked strictly. For unknown hosts compare the fingerprint that is printed, then use
  --accept-new-host-keys, which remembers them; a key that changed is never accepted.

Exit codes:
  0    all passed
  4    warnings (3 with --strict)
  3    failures, or a node that could not be asked
  2    bad usage: a flag, an inventory, a file
  130  interrupted";

/// Arguments of `render`.
#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// Settings.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// What to render.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) component: Component,
    /// Where volumes are on a node's disk.
    #[arg(long, default_value = "/var/lib/edgevirt/storage", value_name = "DIR")]
    pub(crate) storage_dir: PathBuf,
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
#[command(mut_arg("inventory", |arg| arg.default_value("inventory/local.yml")))]
pub(crate) struct DeployArgs {
    /// Settings.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Directory with the playbooks.
    #[arg(long, default_value = "playbooks", value_name = "DIR")]
    pub(crate) playbooks: PathBuf,
    /// Where the Ansible log goes.
    #[arg(long, default_value = "/var/log/edgevirt", value_name = "DIR")]
    pub(crate) log_dir: PathBuf,
    /// Seconds to wait for the control plane.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(crate) timeout: u64,
    /// A check of preflight that shall not stop the deployment; may be repeated.
    #[arg(long, value_name = "ID")]
    pub(crate) skip: Vec<String>,
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
    /// What to look at.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = [Component::Kubevirt, Component::StorageLocal, Component::Cdi]
    )]
    pub(crate) component: Vec<Component>,
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

/// What to examine.
#[derive(Debug, Subcommand)]
pub(crate) enum DoctorCommand {
    /// Images that do not come into claims: CDI's programs, the upload proxy, its address and
    /// certificate, network policies, a token, storage, and what is stuck. Changes nothing; the
    /// claim that a token is asked for is taken away again.
    #[command(
        after_help = "Exit codes: 0 all passed, 4 warnings, 3 failures or a cluster that does not answer, \
2 bad usage (a flag, a kubeconfig), 130 interrupted. With --strict warnings exit with 3."
    )]
    Cdi(DoctorCdiArgs),
}

/// Arguments of `doctor cdi`.
#[derive(Debug, Args)]
pub(crate) struct DoctorCdiArgs {
    /// Cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Look at uploads of this namespace only, and ask the token there [default: all, and the
    /// token in the kubeconfig's namespace].
    #[arg(long, short, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// How to print the verdicts.
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) output: DoctorFormat,
    /// Write the report to a file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// Warnings are failures.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// How the doctor's verdicts are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorFormat {
    /// For people.
    #[default]
    Table,
    /// For programs: the document of preflight, without facts.
    Json,
    /// For test reports: a case per check.
    Junit,
}

impl From<DoctorFormat> for ReportFormat {
    fn from(format: DoctorFormat) -> Self {
        match format {
            DoctorFormat::Table => Self::Table,
            DoctorFormat::Json => Self::Json,
            DoctorFormat::Junit => Self::Junit,
        }
    }
}
