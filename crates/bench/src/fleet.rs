//! Facts of a hundred nodes over SSH, beside Ansible's own on the same nodes.
//!
//! The nodes are one sshd on loopback under a hundred names: the work of the connections
//! is real, and both sides share it. Their users have an empty home: what the shell of
//! whoever develops on this machine does at its start is no work of a node's.
//!
//! Beside both stands what no client can go below: a hundred logins that run `true`,
//! with the key exchange and the cipher that ours agrees on with such a server.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::report::Report;

/// Names of the one node.
const NODES: usize = 100;
/// Nodes at once, for both.
const FORKS: &str = "50";
/// What our client and an OpenSSH server agree on.
const AS_OURS: [&str; 4] = [
    "-o",
    "KexAlgorithms=curve25519-sha256",
    "-c",
    "aes128-gcm@openssh.com",
];
/// Where Debian's openssh-server has it; started by its whole path, as it wants.
const SSHD: &str = "/usr/sbin/sshd";
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Measures both, one after the other.
pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let ansible = Path::new(".venv/bin/ansible");
    for needed in [Path::new(SSHD), ansible] {
        if !needed.exists() {
            eprintln!("left out: {} is not there", needed.display());
            return Ok(());
        }
    }
    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path())?;
    let inventory = server.inventory(dir.path())?;

    let program = std::env::current_exe()?.with_file_name("edgevirt");
    let result = dir.path().join("report.json");
    // One machine has one name and one /dev/kvm, which a hundred real nodes have not.
    let (ours, memory) = run(Command::new(program)
        .args(["preflight", "--output=json", "--quiet", "--forks", FORKS])
        .args(["--skip=names", "--skip=kvm.run", "--inventory"])
        .arg(&inventory)
        .arg("--output-file")
        .arg(&result))?;
    let document: serde_json::Value = serde_json::from_slice(
        &std::fs::read(&result).with_context(|| format!("cannot read {}", result.display()))?,
    )?;
    let answered = document["nodes"].as_array().map_or(0, |nodes| {
        nodes.iter().filter(|node| node["error"].is_null()).count()
    });
    if answered != NODES {
        bail!("expected facts of {NODES} nodes, found {answered}");
    }
    let logins = server.logins(dir.path())?;
    let (theirs, _) = run(Command::new(ansible)
        .args(["all", "-m", "ansible.builtin.setup", "-f", FORKS, "-i"])
        .arg(&inventory)
        .stdout(Stdio::null()))?;
    report.compare(
        "preflight of 100 nodes over SSH",
        "s",
        ours.as_secs_f64(),
        theirs.as_secs_f64() / 10.0,
        ("ansible -m setup, 50 forks", theirs.as_secs_f64()),
    );
    report.add(
        "logins on 100 nodes (ssh NODE true), what no client goes below",
        "s",
        logins.as_secs_f64(),
    );
    report.add("memory of preflight, 100 nodes", "MB", memory as f64 / 1e6);
    Ok(())
}

/// Runs to the end: how long it took, and the most memory it had, bytes.
fn run(command: &mut Command) -> anyhow::Result<(Duration, u64)> {
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        if child.try_wait()?.is_some() {
            return Ok((began.elapsed(), most));
        }
        if let Ok(text) = std::fs::read_to_string(&status) {
            let peak = text
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            most = most.max(peak.unwrap_or(0) * 1024);
        }
        std::thread::sleep(LOOK);
    }
}

/// An sshd of the benchmark's own; ends when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(dir: &Path) -> anyhow::Result<Self> {
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(key))
                .status()
                .context("cannot run ssh-keygen")?;
            if !made.success() {
                bail!("ssh-keygen: {made}");
            }
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let config = dir.join("sshd_config");
        // sshd refuses connections beyond ten that have not logged in yet, unless told otherwise.
        std::fs::write(
            &config,
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/user.pub\n\
                 PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n\
                 PasswordAuthentication no\nLogLevel QUIET\nMaxStartups 500\n\
                 Subsystem sftp internal-sftp\nSetEnv HOME={0}/home\n",
                dir.display()
            ),
        )?;
        std::fs::create_dir_all("/run/sshd")?;
        std::fs::create_dir_all(dir.join("home"))?;
        let child = Command::new(SSHD)
            .args(["-D", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()?;
        let server = Self { child, port };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                bail!("sshd does not listen on port {port}");
            }
            std::thread::sleep(LOOK);
        }
        Ok(server)
    }

    /// How long a hundred logins take, as many at once as both sides have.
    fn logins(&self, dir: &Path) -> anyhow::Result<Duration> {
        let words = || {
            let mut ssh = Command::new("ssh");
            ssh.args(["-F", "none", "-o", "BatchMode=yes", "-p"])
                .arg(self.port.to_string())
                .arg("-i")
                .arg(dir.join("user"))
                .arg("-o")
                .arg(format!(
                    "UserKnownHostsFile={}",
                    dir.join("known_hosts").display()
                ))
                .args(AS_OURS)
                .args(["root@127.0.0.1", "true"])
                .stdin(Stdio::null())
                .stderr(Stdio::null());
            ssh
        };
        let forks: usize = FORKS.parse()?;
        let begun = std::sync::atomic::AtomicUsize::new(0);
        let began = Instant::now();
        let worked: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..forks)
                .map(|_| {
                    scope.spawn(|| {
                        let mut worked = 0;
                        while begun.fetch_add(1, Ordering::Relaxed) < NODES {
                            let status = words().status();
                            worked += usize::from(status.is_ok_and(|status| status.success()));
                        }
                        worked
                    })
                })
                .collect();
            let worked = threads.into_iter().map(|thread| thread.join());
            worked.map(Result::unwrap_or_default).sum()
        });
        if worked != NODES {
            bail!("expected {NODES} logins, found {worked}");
        }
        Ok(began.elapsed())
    }

    /// An inventory of a hundred names for it.
    fn inventory(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let key = std::fs::read_to_string(dir.join("host.pub"))?;
        let known = dir.join("known_hosts");
        std::fs::write(&known, format!("[127.0.0.1]:{} {key}", self.port))?;
        let path = dir.join("hosts.ini");
        std::fs::write(
            &path,
            format!(
                "[workers]\nnode[001:{NODES:03}]\n\n[workers:vars]\nansible_host=127.0.0.1\nansible_port={}\n\
                 ansible_user=root\nansible_ssh_private_key_file={1}/user\n\
                 ansible_ssh_common_args=-o UserKnownHostsFile={2}\nansible_python_interpreter=/usr/bin/python3\n",
                self.port,
                dir.display(),
                known.display()
            ),
        )?;
        Ok(path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
