//! Completion scripts.

use clap_complete::Shell;

use crate::output::out;

/// Prints the script for `shell`. A plugin completes under its file's name.
pub(crate) fn run(shell: Shell, command: &mut clap::Command) -> anyhow::Result<()> {
    let name = command
        .get_bin_name()
        .unwrap_or("virtctl")
        .replace(' ', "-");
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    out(String::from_utf8(script)?.trim_end());
    Ok(())
}
