//! The command line: verbs and flags, as upstream's and kubectl's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::image_upload::ImageUploadArgs;

/// Controls virtual machine related operations on your kubernetes cluster.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
pub(crate) struct Cli {
    /// How to reach the cluster.
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// Flags of every verb, as kubectl's.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Connection {
    /// Path to the kubeconfig file to use
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The name of the kubeconfig context to use
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The name of the kubeconfig cluster to use
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// The name of the kubeconfig user to use
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// If present, the namespace scope for this request
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// The address and port of the Kubernetes API server
    #[arg(short, long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Bearer token for authentication to the API server
    #[arg(long, global = true)]
    pub(crate) token: Option<String>,
    /// Username to impersonate for the operation
    #[arg(long = "as", global = true, value_name = "NAME")]
    pub(crate) impersonate: Option<String>,
    /// Group to impersonate for the operation, may be repeated
    #[arg(long = "as-group", global = true, value_name = "NAME")]
    pub(crate) impersonate_group: Vec<String>,
    /// Path to a cert file for the certificate authority
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// Path to a client certificate file for TLS
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_certificate: Option<PathBuf>,
    /// Path to a client key file for TLS
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
    /// If true, the server's certificate will not be checked for validity
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) insecure_skip_tls_verify: bool,
    /// Server name to use for server certificate validation
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a virtual machine.
    Start(StartArgs),
    /// Stop a virtual machine.
    Stop(StopArgs),
    /// Restart a virtual machine.
    Restart(StopArgs),
    /// Pause a virtual machine
    ///
    /// Freezes it; its state is kept in memory.
    Pause(PauseArgs),
    /// Unpause a virtual machine
    Unpause(PauseArgs),
    /// Soft reboot a virtual machine instance
    SoftReboot(NameArgs),
    /// Reset a virtual machine instance
    Reset(NameArgs),
    /// Connect to a console of a virtual machine instance.
    Console(ConsoleArgs),
    /// Open a vnc connection to a virtual machine instance.
    Vnc(VncArgs),
    /// Forward local ports to a virtualmachine or virtualmachineinstance.
    ///
    /// TARGET is type/name[/namespace]; types are vm and vmi in all their
    /// spellings. A PORT is [protocol/]localPort[:targetPort], protocol tcp
    /// (default) or udp. All traffic goes through the Kubernetes API server.
    PortForward(PortForwardArgs),
    /// Open a SSH connection to a virtual machine instance.
    Ssh(SshArgs),
    /// SCP files from/to a virtual machine instance.
    Scp(ScpArgs),
    /// Upload a VM image to a DataVolume/PersistentVolumeClaim.
    ///
    /// Creates the DataVolume or claim unless it is there. Where the upload proxy
    /// cannot be reached, the bytes go through the Kubernetes API server.
    ImageUpload(ImageUploadArgs),
    /// Print the client and server version information.
    Version(VersionArgs),
    /// Generate the completion script for a shell
    Completion(CompletionArgs),
    /// Verbs of upstream that are not here yet, and mistakes.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Arguments of start.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Name of the VirtualMachine
    #[arg(value_name = "VM")]
    pub(crate) name: String,
    /// If set to true, start virtual machine in paused state
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) paused: bool,
    /// Check only, change nothing
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) dry_run: bool,
}

/// Arguments of stop and restart.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Name of the VirtualMachine
    #[arg(value_name = "VM")]
    pub(crate) name: String,
    /// Use the given grace period instead of the machine's own; needs --grace-period
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) force: bool,
    /// Seconds given to the guest to terminate gracefully; needs --force. A restart takes 0 only
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS")]
    pub(crate) grace_period: Option<i64>,
    /// Check only, change nothing
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) dry_run: bool,
}

/// Arguments of pause and unpause.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// `vm NAME`, `vmi NAME` or NAME alone
    #[arg(num_args = 1..=2, required = true, value_name = "[vm|vmi] NAME")]
    pub(crate) what: Vec<String>,
    /// Check only, change nothing
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) dry_run: bool,
}

/// Arguments of soft-reboot and reset.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Name of the VirtualMachineInstance
    #[arg(value_name = "VMI")]
    pub(crate) name: String,
}

/// Arguments of console.
#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// Name of the VirtualMachineInstance, the same as its VirtualMachine's
    #[arg(value_name = "VMI")]
    pub(crate) name: String,
    /// The number of minutes to wait for the virtual machine instance to be ready
    #[arg(long, default_value_t = 5, value_name = "MINUTES")]
    pub(crate) timeout: u64,
}

/// Arguments of vnc.
#[derive(Debug, Args)]
pub(crate) struct VncArgs {
    /// Name of the VirtualMachineInstance
    #[arg(value_name = "VMI")]
    pub(crate) name: String,
    /// Address on which a proxy listens; needs --proxy-only
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) address: String,
    /// Run only the proxy and show the port where VNC viewers can connect
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) proxy_only: bool,
    /// Preserve an existing VNC session instead of dropping it
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) preserve_session: bool,
    /// Port of the proxy; any free one when 0
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Type of VNC viewer to use: tiger or remote-viewer
    #[arg(long, value_name = "TYPE")]
    pub(crate) vnc_type: Option<String>,
    /// Path of the VNC viewer; needs --vnc-type
    #[arg(long, value_name = "FILE", requires = "vnc_type")]
    pub(crate) vnc_path: Option<PathBuf>,
}

/// Arguments of port-forward.
#[derive(Debug, Args)]
pub(crate) struct PortForwardArgs {
    /// type/name[/namespace]
    pub(crate) target: String,
    /// [protocol/]localPort[:targetPort]
    #[arg(required = true, value_name = "PORT")]
    pub(crate) ports: Vec<String>,
    /// Forward the tunnel to stdout/stdin; works with a single port only
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) stdio: bool,
    /// Address the local ports are opened on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) address: String,
}

/// Flags that ssh and scp share.
#[derive(Debug, Args)]
pub(crate) struct SshOptions {
    /// User to open the SSH connection as
    #[arg(short = 'l', long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Path to a private key used for authenticating to the server
    #[arg(short, long, value_name = "FILE")]
    pub(crate) identity_file: Option<PathBuf>,
    /// Path to the known_hosts file
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// Port on the VM to send SSH traffic to
    #[arg(short, long, default_value_t = 22)]
    pub(crate) port: u16,
    /// Additional option to be passed to the local client, may be repeated
    #[arg(short = 't', long, allow_hyphen_values = true, value_name = "OPTION")]
    pub(crate) local_ssh_opts: Vec<String>,
    /// Old spelling: the local client is always used
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) local_ssh: bool,
}

/// Arguments of ssh.
#[derive(Debug, Args)]
pub(crate) struct SshArgs {
    /// [user@]type/name[/namespace]
    pub(crate) target: String,
    /// Command to execute in the VM
    #[arg(short, long, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    #[command(flatten)]
    pub(crate) options: SshOptions,
}

/// Arguments of scp.
#[derive(Debug, Args)]
pub(crate) struct ScpArgs {
    /// What to copy: a local path or [user@]type/name[/namespace]:path
    pub(crate) from: String,
    /// Where to: a local path or [user@]type/name[/namespace]:path
    pub(crate) to: String,
    /// Recursively copy entire directories
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) recursive: bool,
    /// Preserve modification times, access times and modes
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) preserve: bool,
    #[command(flatten)]
    pub(crate) options: SshOptions,
}

/// Arguments of version.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Client version only (no server required)
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pub(crate) client: bool,
}

/// Arguments of completion.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// What people type to run us: a kubectl plugin `kubectl-virt` is typed
/// `kubectl virt`. Source: KubeVirt pkg/virtctl/root.go, `GetProgramName`.
pub(crate) fn program_name(argv0: &str) -> String {
    let name = Path::new(argv0)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    match name.strip_suffix("-virt") {
        Some(host) => format!("{host} virt"),
        None => "virtctl".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split_whitespace()).unwrap()
    }

    #[test]
    fn the_command_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_spelled_as_cobra_allows() {
        for line in [
            "virtctl start x --paused",
            "virtctl start --paused=true x",
            "virtctl start --paused x",
        ] {
            let Some(Verb::Start(args)) = parse(line).verb else {
                panic!("{line}")
            };
            assert!(args.paused && args.name == "x", "{line}");
        }
        let Some(Verb::Stop(args)) = parse("virtctl stop x --force --grace-period -1").verb else {
            panic!()
        };
        assert_eq!((args.force, args.grace_period), (true, Some(-1)));
        let cli = parse("virtctl -n ns start x --context=c");
        assert_eq!(
            (
                cli.connection.namespace.as_deref(),
                cli.connection.context.as_deref()
            ),
            (Some("ns"), Some("c"))
        );
        assert_eq!(
            parse("virtctl console x -n ns")
                .connection
                .namespace
                .as_deref(),
            Some("ns")
        );
    }

    #[test]
    fn pause_takes_a_kind_or_none() {
        let Some(Verb::Pause(args)) = parse("virtctl pause vm x").verb else {
            panic!()
        };
        assert_eq!(args.what, ["vm", "x"]);
        let Some(Verb::Pause(args)) = parse("virtctl pause x").verb else {
            panic!()
        };
        assert_eq!(args.what, ["x"]);
        assert!(Cli::try_parse_from(["virtctl", "pause"]).is_err());
    }

    #[test]
    fn a_plugin_is_called_through_its_host() {
        assert_eq!(program_name("/usr/local/bin/kubectl-virt"), "kubectl virt");
        assert_eq!(program_name("oc-virt"), "oc virt");
        assert_eq!(program_name("/usr/bin/virtctl"), "virtctl");
    }
}
