//! Rule sets of nftables, through the program `nft` (nft(8)).

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Applies a rule set, whole or not at all, in the calling thread's namespace.
///
/// # Errors
/// When `nft` is missing or refuses; its words are in the error.
pub fn apply(ruleset: &str) -> io::Result<()> {
    // A child belongs to the namespaces of the thread that made it.
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("starting nft: {error}")))?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(ruleset.as_bytes()),
        None => Ok(()),
    };
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written;
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "nft refused a rule set ({}): {}",
        output.status,
        words.trim()
    )))
}
