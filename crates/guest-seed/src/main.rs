//! What the demo guest needs beside busybox, in one static program: the reader of cloud-init seeds, and `sudo`.
//!
//! ```text
//! guest-seed local   before the network: find the seed disk, apply all that needs no network
//! guest-seed final   after it: user scripts, then runcmd
//! sudo COMMAND…      (called by that name) run a command as root, for members of the group sudo
//! ```
//! A seed that is wrong is logged and never stops the boot: somebody has to be able to log in and look.

mod accounts;
mod apply;
mod config;
mod disk;
mod network;
mod sudo;
mod value;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    if program.rsplit('/').next() == Some("sudo") {
        return sudo::run(&rest);
    }
    if !nix::unistd::Uid::current().is_root() {
        return sudo::fail("guest-seed is part of the boot; it serves root alone");
    }
    let done = match rest.first().map(String::as_str) {
        Some("local") => apply::local(),
        Some("final") => apply::finish(),
        other => Err(anyhow::anyhow!(
            "guest-seed: expected local or final, found {other:?}"
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            apply::log(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
