//! Command line and the paths on the node.

use std::ffi::OsString;
use std::path::PathBuf;

use api::names::HANDLER_PORT;
use kube_kit::args::Args;

/// What a handler is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the node it runs on.
    pub node_name: String,
    /// Port of the console server.
    pub port: u16,
    /// Port of the health server, without TLS.
    pub health_port: u16,
    /// Directory of the server's `tls.crt` and `tls.key`.
    pub cert_dir: PathBuf,
    /// Directory with `ca-bundle`, the authority of clients.
    pub ca_dir: PathBuf,
    /// How many guests the node's devices are offered to.
    pub max_devices: u32,
    /// The kubelet's directory on the node, at the same path here.
    pub kubelet_dir: PathBuf,
    /// Our directory on the node, at the same path here.
    pub state_dir: PathBuf,
}

/// Port of the health server unless told otherwise.
const HEALTH_PORT: u16 = 8187;
/// Devices of each kind unless told otherwise; the seed's node shows 110.
const MAX_DEVICES: u32 = 110;

impl Settings {
    /// From the command line.
    ///
    /// # Errors
    /// When an option is missing, unknown or not what it should be.
    pub fn parse(args: Vec<OsString>) -> anyhow::Result<Self> {
        let mut args = Args::new(args);
        let settings = Self {
            node_name: args.required("--node-name")?,
            port: args.or("--port", HANDLER_PORT)?,
            health_port: args.or("--health-port", HEALTH_PORT)?,
            cert_dir: args.or(
                "--cert-dir",
                PathBuf::from("/etc/virt-handler/servercertificates"),
            )?,
            ca_dir: args.or("--ca-dir", PathBuf::from("/etc/kubevirt/ca"))?,
            max_devices: args.or("--max-devices", MAX_DEVICES)?,
            kubelet_dir: args.or("--kubelet-dir", PathBuf::from("/var/lib/kubelet"))?,
            state_dir: args.or("--state-dir", PathBuf::from("/var/lib/kubevirt"))?,
        };
        args.finish()?;
        Ok(settings)
    }

    /// Directory of the kubelet's sockets for device plugins.
    #[must_use]
    pub fn device_plugins(&self) -> PathBuf {
        self.kubelet_dir.join("device-plugins")
    }

    /// Directory of the volumes of pods.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.kubelet_dir.join("pods")
    }

    /// Directory of what was decided about the networks of pods.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.state_dir.join("network")
    }
}
