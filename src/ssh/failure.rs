//! Why a node did not answer: what was expected, what was found, what to do.

use std::path::PathBuf;
use std::time::Duration;

use super::Endpoint;

/// Why a node did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The name means nothing.
    #[error("cannot resolve {host}: {reason}; check the name, or give ansible_host an address")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No TCP connection.
    #[error("cannot connect to {address}: {reason}; is the node up, and does sshd listen there?")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// Something listens, but no SSH session came of it.
    #[error(
        "{address} accepts connections but the SSH handshake failed: {reason}; is sshd what listens there?"
    )]
    Handshake {
        /// `host:port`.
        address: String,
        /// What the library said.
        reason: String,
    },
    /// Nobody vouches for the host key.
    #[error(
        "host key of {address} is not known: {kind} {fingerprint} is in none of {files}; compare the fingerprint on the node's console (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then connect once with ssh, or run again with --accept-new-host-keys"
    )]
    UnknownHostKey {
        /// As known_hosts writes it.
        address: String,
        /// `ssh-ed25519` and the like.
        kind: String,
        /// `SHA256:…`.
        fingerprint: String,
        /// Files that were read.
        files: String,
    },
    /// Another key than the one that was known.
    #[error(
        "HOST KEY of {address} CHANGED: {file}:{line} knows another key than {kind} {fingerprint}; somebody may be listening in, or the node was installed anew. If that is so: ssh-keygen -R '{address}' -f {file}, and accept the new key"
    )]
    ChangedHostKey {
        /// As known_hosts writes it.
        address: String,
        /// `ssh-ed25519` and the like.
        kind: String,
        /// Of the key that was presented.
        fingerprint: String,
        /// File with the known key.
        file: PathBuf,
        /// Its line.
        line: usize,
    },
    /// A key that was withdrawn.
    #[error(
        "host key of {address} is revoked: {file}:{line} marks {kind} {fingerprint} as @revoked; give the node a new key"
    )]
    RevokedHostKey {
        /// As known_hosts writes it.
        address: String,
        /// `ssh-ed25519` and the like.
        kind: String,
        /// Of the key.
        fingerprint: String,
        /// File that says so.
        file: PathBuf,
        /// Its line.
        line: usize,
    },
    /// A file of host keys that cannot be read or written.
    #[error("known hosts file {}: {reason}", file.display())]
    KnownHosts {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nobody lets us in.
    #[error("{endpoint} refused to log us in: {tried}; the server takes {methods}")]
    Login {
        /// `user@host:port`.
        endpoint: String,
        /// What was tried and how it ended.
        tried: String,
        /// Methods the server offers.
        methods: String,
    },
    /// The jump host does not reach the node.
    #[error(
        "jump host {jump} cannot reach {address}: {reason}; check it from there, and AllowTcpForwarding in its sshd_config"
    )]
    Jump {
        /// `user@host:port`.
        jump: String,
        /// `host:port` of the node.
        address: String,
        /// What it said.
        reason: String,
    },
    /// The jump host itself could not be logged in to.
    #[error("jump host {jump}: {why}")]
    JumpHost {
        /// `user@host:port`.
        jump: String,
        /// Why.
        why: Box<Failure>,
    },
    /// The connection ended.
    #[error("connection lost while {step}: {reason}")]
    Lost {
        /// What was being done.
        step: &'static str,
        /// What the library said.
        reason: String,
    },
    /// Time is over.
    #[error("no answer within {} s while {step}; the node is slow, hung or filtered (--connect-timeout, --timeout)", limit.as_secs_f32())]
    Timeout {
        /// What was being done.
        step: &'static str,
        /// The limit that was reached.
        limit: Duration,
    },
    /// The user interrupted.
    #[error("interrupted")]
    Cancelled,
    /// No root's rights.
    #[error("no root rights through sudo: {reason}; {remedy}")]
    Sudo {
        /// What sudo said.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Nowhere to put the program.
    #[error(
        "no place on the node for the probe: {reason}; expected {bytes} bytes free and exec allowed in one of {places}"
    )]
    NoPlace {
        /// What was tried and why it failed.
        reason: String,
        /// Size of the program.
        bytes: usize,
        /// Directories in order.
        places: &'static str,
    },
    /// The command ended badly.
    #[error("{what} ended with {status}: {message}")]
    Command {
        /// What was run.
        what: String,
        /// `exit code 3`, `signal KILL`.
        status: String,
        /// End of its standard error.
        message: String,
    },
    /// More output than anybody needs.
    #[error(
        "the node sent more than {limit} bytes; expected one document of facts. Is the account's shell start-up file, or the node itself, sane?"
    )]
    TooMuch {
        /// Bytes that are taken.
        limit: usize,
    },
    /// Output that is not what was asked for.
    #[error("expected {expected}, the node sent {found:?}")]
    Garbage {
        /// What it should be.
        expected: &'static str,
        /// Its beginning.
        found: String,
    },
}

impl Failure {
    /// The same, said of a jump host; that the user interrupted is nobody's fault.
    pub(super) fn of_jump_host(self, jump: &Endpoint) -> Self {
        match self {
            Self::Cancelled => self,
            why => Self::JumpHost {
                jump: jump.to_string(),
                why: Box::new(why),
            },
        }
    }
}
