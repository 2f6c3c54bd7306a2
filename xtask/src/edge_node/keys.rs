//! The node's host key and the key of whoever connects. Made once; they guard a node on this machine's loopback only.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::programs::Programs;

/// The keys as the node's file system holds them.
pub(super) struct Keys {
    /// The line of authorized_keys.
    pub(super) user: String,
    /// The private host key in dropbear's form.
    pub(super) host: Vec<u8>,
}

impl Keys {
    /// Makes the keys that are missing: `id_ed25519`, `host_key` and `host_key.pub`, the public part for known_hosts.
    pub(super) fn make(tools: &Programs, dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let user = dir.join("id_ed25519");
        if !user.exists() {
            let output = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "edge-node", "-f"])
                .arg(&user)
                .output()
                .context("ssh-keygen is not there; install openssh-client")?;
            if !output.status.success() {
                bail!(
                    "ssh-keygen: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
        }
        let host = dir.join("host_key");
        if !host.exists() {
            let path = host.display().to_string();
            tools.run("dropbearkey", &["-t", "ed25519", "-f", &path])?;
        }
        let shown = tools.run("dropbearkey", &["-y", "-f", &host.display().to_string()])?;
        let text = String::from_utf8_lossy(&shown.stdout);
        let public = text
            .lines()
            .find(|line| line.starts_with("ssh-ed25519 "))
            .context("dropbearkey -y printed no line ssh-ed25519")?;
        let words: Vec<&str> = public.split(' ').take(2).collect();
        fs::write(dir.join("host_key.pub"), format!("{}\n", words.join(" ")))?;
        Ok(Self {
            user: fs::read_to_string(user.with_extension("pub"))?,
            host: fs::read(&host)?,
        })
    }
}
