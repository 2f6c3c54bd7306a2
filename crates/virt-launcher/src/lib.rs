//! virt-launcher: PID 1 of a launcher pod's `compute` container. Owns one QEMU.
//!
//! ```text
//!   virt-handler --launcher.sock--> server --+
//!   QEMU monitor (QMP) --------------------> |            state::Guest (pure)
//!   guest agent ---------------------------> | one queue ----> actions ----> driver
//!   children (SIGCHLD), SIGTERM -----------> |                               |
//!   timers --------------------------------> +     disks, DHCP, QEMU, replies+
//! ```
//!
//! One thread, no Kubernetes client, no polling. It runs as uid 107 with no
//! capability but NET_BIND_SERVICE (for DHCP), and everything the guest can
//! influence (agent answers, DHCP packets, disk images) is bounded and parsed
//! as hostile.

mod agent;
mod args;
mod children;
mod container_disk;
mod dhcp;
mod driver;
mod lines;
mod prepare;
mod process;
mod qmp;
mod secrets;
mod server;
mod state;
mod volumes;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the launcher; `args` are the arguments without the program's name.
///
/// Ends with 0 when the guest shut down or was stopped on request, with 1 when
/// it crashed or never started.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<OsString>) -> anyhow::Result<u8> {
    let args = args::Args::parse(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(driver::run(args))
}
