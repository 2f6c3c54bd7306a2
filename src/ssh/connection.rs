//! One SSH session: TCP (or a jump host's channel), handshake, host key, login.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec};
use ssh2::{
    BlockDirections, Error, ErrorCode, KeyboardInteractivePrompt, MethodType, Prompt, Session,
};

use super::known_hosts::{self, Answer, KnownHosts};
use super::relay::Relay;
use super::{Deadline, Endpoint, Failure, Limits, Secret, Target, Trust, harmless};

/// LIBSSH2_ERROR_EAGAIN: nothing went wrong, wait for the socket.
const EAGAIN: ErrorCode = ErrorCode::Session(-37);
/// Errors of a server that closes before or in the handshake, as sshd does with some
/// of many connections at once (MaxStartups in sshd_config(5)).
const DROPPED: [ErrorCode; 4] = [
    ErrorCode::Session(-2),  // LIBSSH2_ERROR_BANNER_RECV
    ErrorCode::Session(-8),  // LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE
    ErrorCode::Session(-13), // LIBSSH2_ERROR_SOCKET_DISCONNECT
    ErrorCode::Session(-43), // LIBSSH2_ERROR_SOCKET_RECV
];
/// How often a dropped handshake is tried again.
const RETRIES: u32 = 4;
/// sshd lets a client try six keys (MaxAuthTries); some are left for key files.
const AGENT_KEYS: usize = 4;
/// Kinds of host keys the library knows, best first.
const HOST_KEYS: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// Ciphers, best first. AES-GCM is a processor's own instruction nearly everywhere; the library's
/// first choice, ChaCha20, is portable C in it, which took most of the time of sending a program.
/// CBC and older ones are left out: what has none of these has been no SSH server for twenty years.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr,aes192-ctr";

/// Threads that meet a new host append to one file.
static APPEND: Mutex<()> = Mutex::new(());

/// A session that is logged in.
pub(crate) struct Connection {
    pub(super) session: Session,
    socket: OwnedFd,
    via: Option<Box<Relay>>,
}

/// Connects to the target through its jump hosts and logs in everywhere.
pub(crate) fn open(
    target: &Target,
    limits: Limits,
    deadline: &Deadline,
) -> Result<Connection, Failure> {
    let mut via = None;
    for jump in &target.jumps {
        let connection = login(jump, &target.trust, via.take(), limits, deadline)
            .map_err(|why| why.of_jump_host(jump))?;
        via = Some((connection, jump.to_string()));
    }
    login(&target.end, &target.trust, via, limits, deadline)
}

fn login(
    endpoint: &Endpoint,
    trust: &Trust,
    via: Option<(Connection, String)>,
    limits: Limits,
    deadline: &Deadline,
) -> Result<Connection, Failure> {
    let address = known_hosts::address(&endpoint.host, endpoint.port);
    let hosts = read_known_hosts(trust)?;
    let soon = deadline.at_most(limits.connect);
    let mut connection = match via {
        Some((jump, name)) => {
            let relay = Relay::open(jump, &name, &endpoint.host, endpoint.port, &soon)?;
            let (relay, near) = relay;
            let socket = clone_fd(&near)?;
            let mut connection = Connection::start(near, socket, &hosts, &address)?;
            connection.via = Some(Box::new(relay));
            connection
                .handshake(&soon)
                .map_err(|e| e.failure(endpoint))?;
            connection
        }
        None => direct(endpoint, &hosts, &address, &soon)?,
    };
    connection.check_host_key(&hosts, trust, &address)?;
    connection.authenticate(endpoint, deadline)?;
    Ok(connection)
}

/// TCP and handshake; a server that drops us is asked again, a little later.
fn direct(
    endpoint: &Endpoint,
    hosts: &KnownHosts,
    address: &str,
    soon: &Deadline,
) -> Result<Connection, Failure> {
    let mut attempt = 0;
    loop {
        let stream = connect(endpoint, soon)?;
        let socket = clone_fd(&stream)?;
        let mut connection = Connection::start(stream, socket, hosts, address)?;
        match connection.handshake(soon) {
            Ok(()) => return Ok(connection),
            Err(HandshakeError::Library(error))
                if attempt < RETRIES && DROPPED.contains(&error.code()) =>
            {
                attempt += 1;
                soon.sleep(pause(attempt), "connecting again")?;
            }
            Err(error) => return Err(error.failure(endpoint)),
        }
    }
}

/// How long to wait before a dropped handshake is tried again: longer each time, and not all
/// of many connections at the same moment.
fn pause(attempt: u32) -> Duration {
    let least = 100_u64 << attempt;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let spread = now.map_or(0, |now| u64::from(now.subsec_micros())) % least;
    Duration::from_millis(least + spread)
}

/// The first address that answers.
fn connect(endpoint: &Endpoint, soon: &Deadline) -> Result<TcpStream, Failure> {
    let resolve = |reason: String| Failure::Resolve {
        host: endpoint.host.clone(),
        reason,
    };
    let addresses: Vec<_> = (endpoint.host.as_str(), endpoint.port)
        .to_socket_addrs()
        .map_err(|e| resolve(e.to_string()))?
        .collect();
    let mut reason = None;
    for (index, address) in addresses.iter().enumerate() {
        soon.slice("connecting")?;
        let share = u32::try_from(addresses.len() - index).unwrap_or(1);
        let limit = (soon.left() / share).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, limit) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return stream
                    .set_nonblocking(true)
                    .map(|()| stream)
                    .map_err(|e| lost("connecting", &e));
            }
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                reason = Some(format!("no answer within {} s", limit.as_secs_f32().ceil()));
            }
            Err(error) => reason = Some(error.to_string()),
        }
    }
    match reason {
        Some(reason) => Err(Failure::Connect {
            address: format!("{}:{}", endpoint.host, endpoint.port),
            reason,
        }),
        None => Err(resolve("the name has no address".to_owned())),
    }
}

fn clone_fd(fd: &impl AsFd) -> Result<OwnedFd, Failure> {
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|e| lost("opening a socket", &e))
}

pub(super) fn lost(step: &'static str, error: &impl ToString) -> Failure {
    Failure::Lost {
        step,
        reason: error.to_string(),
    }
}

/// How a handshake failed; the library's error is kept for the decision to try again.
enum HandshakeError {
    Library(Error),
    Other(Failure),
}

impl HandshakeError {
    fn failure(self, endpoint: &Endpoint) -> Failure {
        match self {
            Self::Other(failure) => failure,
            Self::Library(error) => Failure::Handshake {
                address: format!("{}:{}", endpoint.host, endpoint.port),
                reason: error.message().to_owned(),
            },
        }
    }
}

/// A step that would block, or did fail.
pub(super) fn would_block(error: &Error) -> bool {
    error.code() == EAGAIN
}

impl Connection {
    fn start<S: 'static + std::os::fd::AsRawFd>(
        stream: S,
        socket: OwnedFd,
        hosts: &KnownHosts,
        address: &str,
    ) -> Result<Self, Failure> {
        let mut session = Session::new().map_err(|e| lost("making a session", &e))?;
        session.set_blocking(false);
        session.set_tcp_stream(stream);
        session
            .method_pref(
                MethodType::HostKey,
                &host_key_preference(&hosts.kinds(address)),
            )
            .map_err(|e| lost("choosing host keys", &e))?;
        for direction in [MethodType::CryptCs, MethodType::CryptSc] {
            session
                .method_pref(direction, CIPHERS)
                .map_err(|e| lost("choosing ciphers", &e))?;
        }
        Ok(Self {
            session,
            socket,
            via: None,
        })
    }

    fn handshake(&mut self, soon: &Deadline) -> Result<(), HandshakeError> {
        loop {
            match self.session.handshake() {
                Ok(()) => return Ok(()),
                Err(error) if would_block(&error) => self
                    .wait(soon, "waiting for the SSH handshake")
                    .map_err(HandshakeError::Other)?,
                Err(error) => return Err(HandshakeError::Library(error)),
            }
        }
    }

    /// Tries `op` until it does not block any more.
    pub(super) fn drive<T>(
        &mut self,
        step: &'static str,
        deadline: &Deadline,
        mut op: impl FnMut(&Session) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, Failure> {
        loop {
            match op(&self.session) {
                Err(error) if would_block(&error) => self.wait(deadline, step)?,
                // The socket is gone: no answer of the server's, whatever was asked.
                Err(error) if matches!(error.code(), ErrorCode::Session(-13 | -43 | -7)) => {
                    return Err(lost(step, &error.message()));
                }
                done => return Ok(done),
            }
        }
    }

    /// Sleeps until something can go on, at most a moment.
    pub(super) fn wait(&mut self, deadline: &Deadline, step: &'static str) -> Result<(), Failure> {
        let slice = deadline.slice(step)?;
        self.pump()?;
        let mut interests = Vec::new();
        self.interests(&mut interests);
        let mut fds: Vec<PollFd<'_>> = interests
            .iter()
            .map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let slice = Timespec {
            tv_sec: slice.as_secs().cast_signed(),
            tv_nsec: slice.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut fds, Some(&slice)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(lost(step, &error)),
        }
        self.pump()
    }

    /// Moves what is in the jump hosts' channels.
    pub(super) fn pump(&mut self) -> Result<(), Failure> {
        match &mut self.via {
            Some(relay) => relay.pump(),
            None => Ok(()),
        }
    }

    /// What to wait for.
    pub(super) fn interests<'a>(&'a self, into: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        let mut flags = PollFlags::IN;
        if matches!(
            self.session.block_directions(),
            BlockDirections::Outbound | BlockDirections::Both
        ) {
            flags |= PollFlags::OUT;
        }
        into.push((self.socket.as_fd(), flags));
        if let Some(relay) = &self.via {
            relay.interests(into);
        }
    }

    fn check_host_key(
        &self,
        hosts: &KnownHosts,
        trust: &Trust,
        address: &str,
    ) -> Result<(), Failure> {
        let blob = match self.session.host_key() {
            Some((blob, _)) => blob,
            None => return Err(lost("checking the host key", &"the server showed none")),
        };
        let address = address.to_owned();
        let kind = known_hosts::kind(blob);
        let fingerprint = known_hosts::fingerprint(blob);
        match hosts.check(&address, blob) {
            Answer::Known => Ok(()),
            Answer::Unknown if trust.accept_new => remember(trust, &address, blob),
            Answer::Unknown => Err(Failure::UnknownHostKey {
                address,
                kind,
                fingerprint,
                files: trust
                    .files
                    .iter()
                    .map(|f| f.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
            Answer::Changed(place) => Err(Failure::ChangedHostKey {
                address,
                kind,
                fingerprint,
                file: place.file,
                line: place.line,
            }),
            Answer::Revoked(place) => Err(Failure::RevokedHostKey {
                address,
                kind,
                fingerprint,
                file: place.file,
                line: place.line,
            }),
        }
    }

    fn authenticate(&mut self, endpoint: &Endpoint, deadline: &Deadline) -> Result<(), Failure> {
        const STEP: &str = "logging in";
        let user = endpoint.user.as_str();
        let mut tried = Vec::new();
        let passphrase = endpoint.passphrase.as_ref().map(Secret::reveal);
        for key in &endpoint.keys {
            match self.drive(STEP, deadline, |s| {
                s.userauth_pubkey_file(user, None, key, passphrase)
            })? {
                Ok(()) => return Ok(()),
                Err(error) => tried.push(format!(
                    "key {}: {}",
                    key.display(),
                    key_error(key, passphrase.is_some(), &error)
                )),
            }
        }
        if endpoint.agent && std::env::var_os("SSH_AUTH_SOCK").is_some() {
            match self.try_agent(user, deadline)? {
                None => return Ok(()),
                Some(outcome) => tried.push(outcome),
            }
        }
        if let Some(password) = &endpoint.password {
            let answer = self.drive(STEP, deadline, |s| {
                s.userauth_password(user, password.reveal())
            })?;
            if answer.is_ok() {
                return Ok(());
            }
            let mut prompter = Answering(password.reveal());
            let answer = self.drive(STEP, deadline, |s| {
                s.userauth_keyboard_interactive(user, &mut prompter)
            })?;
            if answer.is_ok() {
                return Ok(());
            }
            tried.push("password: refused".to_owned());
        }
        if tried.is_empty() {
            tried.push(
                "there is no key to try (--private-key, ansible_ssh_private_key_file, ~/.ssh/id_*, an agent, --ask-pass)"
                    .to_owned(),
            );
        }
        // Asked only now: a server that takes the first key is spared a round trip.
        let methods = self
            .drive(STEP, deadline, |s| s.auth_methods(user).map(str::to_owned))?
            .unwrap_or_default();
        if self.session.authenticated() {
            return Ok(());
        }
        Err(Failure::Login {
            endpoint: endpoint.to_string(),
            tried: tried.join("; "),
            methods: harmless(methods.as_bytes(), 80),
        })
    }

    /// `None`: logged in. Else what to say about the agent.
    fn try_agent(&mut self, user: &str, deadline: &Deadline) -> Result<Option<String>, Failure> {
        let keys = self.session.agent().and_then(|mut agent| {
            agent.connect()?;
            agent.list_identities()?;
            Ok((agent.identities()?, agent))
        });
        let (keys, agent) = match keys {
            Ok(found) => found,
            Err(error) => return Ok(Some(format!("agent: {}", error.message()))),
        };
        for key in keys.iter().take(AGENT_KEYS) {
            let answer = self.drive("logging in with the agent", deadline, |_| {
                agent.userauth(user, key)
            })?;
            if answer.is_ok() {
                return Ok(None);
            }
        }
        Ok(Some(format!(
            "agent: {} of its {} keys refused",
            keys.len().min(AGENT_KEYS),
            keys.len()
        )))
    }

    /// Says goodbye, so that the server need not find out.
    pub(crate) fn close(&mut self, deadline: &Deadline) {
        let _ = self.drive("closing", deadline, |s| s.disconnect(None, "done", None));
        let _ = self.pump();
    }
}

/// Answers every question with the password, as PAM's one question wants it.
struct Answering<'a>(&'a str);

impl KeyboardInteractivePrompt for Answering<'_> {
    fn prompt<'a>(&mut self, _: &str, _: &str, prompts: &[Prompt<'a>]) -> Vec<String> {
        prompts.iter().map(|_| self.0.to_owned()).collect()
    }
}

/// LIBSSH2_ERROR_FILE is all the library says about keys it cannot read, and about encrypted ones.
fn key_error(key: &Path, passphrase: bool, error: &Error) -> String {
    match error.code() {
        ErrorCode::Session(-16) => match (std::fs::File::open(key), passphrase) {
            (Err(error), _) => error.to_string(),
            (Ok(_), false) => "cannot be read; if a passphrase protects it: --ask-key-passphrase, ansible_private_key_passphrase, or an agent (ssh-add)".to_owned(),
            (Ok(_), true) => "cannot be read with this passphrase; is it the key's?".to_owned(),
        },
        ErrorCode::Session(-18 | -19) => "refused".to_owned(),
        _ => error.message().to_owned(),
    }
}

/// Kinds that are known first, so that the server shows the key we can check.
fn host_key_preference(known: &[&str]) -> String {
    let is_known = |kind: &&&str| {
        known.contains(*kind) || (kind.starts_with("rsa-sha2-") && known.contains(&"ssh-rsa"))
    };
    let mut order: Vec<&str> = HOST_KEYS.iter().filter(is_known).copied().collect();
    let rest: Vec<&str> = HOST_KEYS
        .iter()
        .filter(|k| !order.contains(k))
        .copied()
        .collect();
    order.extend(rest);
    order.join(",")
}

fn read_known_hosts(trust: &Trust) -> Result<KnownHosts, Failure> {
    let mut hosts = KnownHosts::default();
    for file in &trust.files {
        match std::fs::read(file) {
            Ok(text) => hosts.add(file, &String::from_utf8_lossy(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::KnownHosts {
                    file: file.clone(),
                    reason: error.to_string(),
                });
            }
        }
    }
    Ok(hosts)
}

fn remember(trust: &Trust, address: &str, blob: &[u8]) -> Result<(), Failure> {
    let Some(file) = trust.files.first() else {
        return Ok(());
    };
    let failure = |error: std::io::Error| Failure::KnownHosts {
        file: file.clone(),
        reason: format!("cannot remember {address}: {error}"),
    };
    let _guard = APPEND.lock();
    if let Some(dir) = file.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(failure)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut f| f.write_all(known_hosts::line(address, blob).as_bytes()))
        .map_err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_asked_for_the_key_we_know() {
        let first = |known: &[&str]| {
            host_key_preference(known)
                .split(',')
                .next()
                .map(str::to_owned)
        };
        assert_eq!(first(&[]).as_deref(), Some("ssh-ed25519"));
        assert_eq!(
            first(&["ecdsa-sha2-nistp256"]).as_deref(),
            Some("ecdsa-sha2-nistp256")
        );
        assert_eq!(first(&["ssh-rsa"]).as_deref(), Some("rsa-sha2-512"));
    }
}
