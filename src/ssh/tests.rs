//! Against a real sshd on loopback, which each test starts for itself and which dies
//! with it. Keys with a forced command play the nodes that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::exec::Outcome;
use super::{
    Become, Cancel, Deadline, Endpoint, Failure, Limits, Secret, Target, Trust, connection, push,
};

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    total: Duration::from_secs(20),
};
/// Runs what the client asked for.
const AS_ASKED: &str = r#"eval "$SSH_ORIGINAL_COMMAND""#;

/// An sshd that takes one key, or with it a forced command.
struct Sshd {
    child: Child,
    dir: TempDir,
    port: u16,
}

impl Sshd {
    fn start(forced: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Debian's sshd wants this for the part of it that has no rights.
        fs::create_dir_all("/run/sshd").unwrap();
        for name in ["host", "key", "stranger"] {
            key(&dir.path().join(name));
        }
        let public = fs::read_to_string(dir.path().join("key.pub")).unwrap();
        let options = forced.map_or_else(String::new, |command| {
            format!("command=\"{}\" ", command.replace('"', "\\\""))
        });
        fs::write(dir.path().join("authorized"), options + &public).unwrap();
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nLogLevel QUIET\n",
            dir.path().display()
        );
        fs::write(dir.path().join("config"), config).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "/usr/sbin/sshd", "-D", "-e", "-f"])
            .arg(dir.path().join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd: apt-get install openssh-server");
        let sshd = Self { child, dir, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "sshd does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        fs::write(sshd.known_hosts(), sshd.line("host.pub")).unwrap();
        sshd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn known_hosts(&self) -> PathBuf {
        self.path("known_hosts")
    }

    fn line(&self, public: &str) -> String {
        let key = fs::read_to_string(self.path(public)).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    fn end(&self) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "root".into(),
            keys: vec![self.path("key")],
            passphrase: None,
            agent: false,
            password: None,
        }
    }

    fn target(&self) -> Target {
        Target {
            name: "node".into(),
            jumps: Vec::new(),
            end: self.end(),
            trust: Trust {
                files: vec![self.known_hosts()],
                accept_new: false,
            },
            privilege: Become::No,
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key(path: &Path) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn run_within(
    target: &Target,
    program: &str,
    arguments: &str,
    limits: Limits,
) -> Result<Outcome, Failure> {
    let deadline = Deadline::new(limits.total, &Cancel::default());
    let mut connection = connection::open(target, limits, &deadline)?;
    let outcome = push::run(
        &mut connection,
        &target.privilege,
        &push::Program::new(program.as_bytes()),
        arguments,
        &deadline,
    );
    connection.close(&deadline);
    outcome
}

fn run(target: &Target, program: &str) -> Result<Outcome, Failure> {
    run_within(target, program, "", LIMITS)
}

fn text(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stdout).trim().to_owned()
}

/// Prints its path and the connection it came by.
const PROGRAM: &str =
    "#!/bin/sh\necho \"$0\"; echo words >&2; [ -n \"$SSH_CONNECTION\" ]; exit $((3 + $?))\n";

#[test]
fn a_good_node_runs_the_program_and_keeps_nothing() {
    let sshd = Sshd::start(None);
    let outcome = run(&sshd.target(), PROGRAM).unwrap();
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!(outcome.stderr, b"words\n");
    let path = text(&outcome);
    assert!(path.contains("/.edgevirt."), "{path}");
    assert!(!Path::new(&path).parent().unwrap().exists(), "{path}");
}

#[test]
fn a_large_program_and_a_large_answer_come_through() {
    let sshd = Sshd::start(None);
    let program = format!(
        "#!/bin/sh\nhead -c 3000000 /dev/zero; exit 0\n{}",
        "#".repeat(3_000_000)
    );
    let outcome = run(&sshd.target(), &program).unwrap();
    assert_eq!((outcome.code, outcome.stdout.len()), (Some(0), 3_000_000));
}

#[test]
fn what_a_start_up_file_prints_does_no_harm() {
    let sshd = Sshd::start(Some(&format!("echo Welcome; {AS_ASKED}")));
    let outcome = run(&sshd.target(), PROGRAM).unwrap();
    assert!(text(&outcome).starts_with('/'), "{outcome:?}");
}

#[test]
fn a_wrong_key_is_refused_with_what_was_tried() {
    let sshd = Sshd::start(None);
    let mut target = sshd.target();
    target.end.keys = vec![sshd.path("stranger"), sshd.path("absent")];
    let error = run(&target, PROGRAM).unwrap_err().to_string();
    assert!(error.contains("refused to log us in"), "{error}");
    assert!(error.contains("stranger: refused"), "{error}");
    assert!(error.contains("absent"), "{error}");
    assert!(error.contains("publickey"), "{error}");
}

#[test]
fn an_unknown_host_is_refused_until_new_keys_are_accepted() {
    let sshd = Sshd::start(None);
    let mut target = sshd.target();
    target.trust.files = vec![sshd.path("deep/new_hosts")];
    let error = run(&target, PROGRAM).unwrap_err();
    assert!(matches!(error, Failure::UnknownHostKey { .. }), "{error}");
    assert!(error.to_string().contains("SHA256:"), "{error}");
    target.trust.accept_new = true;
    assert!(run(&target, PROGRAM).is_ok());
    target.trust.accept_new = false;
    assert!(run(&target, PROGRAM).is_ok());
}

#[test]
fn a_changed_host_key_is_refused_even_if_new_ones_are_accepted() {
    let sshd = Sshd::start(None);
    fs::write(
        sshd.known_hosts(),
        format!("# x\n{}", sshd.line("stranger.pub")),
    )
    .unwrap();
    let mut target = sshd.target();
    target.trust.accept_new = true;
    let error = run(&target, PROGRAM).unwrap_err();
    assert!(
        matches!(error, Failure::ChangedHostKey { line: 2, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("ssh-keygen -R"), "{error}");
}

#[test]
fn nobody_listening_and_nobody_answering_are_told_apart_in_time() {
    let sshd = Sshd::start(None);
    let mut target = sshd.target();
    target.end.port = free_port();
    let error = run(&target, PROGRAM).unwrap_err();
    assert!(matches!(error, Failure::Connect { .. }), "{error}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    target.end.port = silent.local_addr().unwrap().port();
    let limits = Limits {
        connect: Duration::from_millis(700),
        ..LIMITS
    };
    let start = Instant::now();
    let error = run_within(&target, PROGRAM, "", limits).unwrap_err();
    assert!(matches!(error, Failure::Timeout { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_node_that_hangs_is_left_in_time() {
    let sshd = Sshd::start(Some("sleep 30"));
    let limits = Limits {
        total: Duration::from_millis(1500),
        ..LIMITS
    };
    let start = Instant::now();
    let error = run_within(&sshd.target(), PROGRAM, "", limits).unwrap_err();
    assert!(matches!(error, Failure::Timeout { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(6));
}

#[test]
fn a_program_that_hangs_is_ended_and_taken_away_with_the_connection() {
    let sshd = Sshd::start(None);
    let note = sshd.path("note");
    let program = "#!/bin/sh\necho \"$$ $0\" >\"$1\"\nexec sleep 600\n";
    let limits = Limits {
        total: Duration::from_secs(2),
        ..LIMITS
    };
    let error =
        run_within(&sshd.target(), program, &note.display().to_string(), limits).unwrap_err();
    assert!(matches!(error, Failure::Timeout { .. }), "{error}");
    let note = fs::read_to_string(&note).unwrap();
    let (pid, path) = note.trim().split_once(' ').unwrap();
    let gone =
        || !Path::new("/proc").join(pid).exists() && !Path::new(path).parent().unwrap().exists();
    let start = Instant::now();
    while !gone() {
        assert!(start.elapsed() < Duration::from_secs(10), "{note}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_flood_and_garbage_are_refused() {
    let flood = Sshd::start(Some("yes"));
    let error = run(&flood.target(), PROGRAM).unwrap_err();
    assert!(matches!(error, Failure::TooMuch { .. }), "{error}");
    let garbage = Sshd::start(Some("printf 'this is a \\033[1mswitch'"));
    let error = run(&garbage.target(), PROGRAM).unwrap_err().to_string();
    assert!(error.contains("this is a [1mswitch"), "{error}");
}

/// A directory first on the path with a `sudo` of this text.
fn with_sudo(sudo: &str) -> (Sshd, TempDir) {
    let bin = tempfile::tempdir().unwrap();
    let path = bin.path().join("sudo");
    fs::write(&path, format!("#!/bin/sh\n{sudo}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).unwrap();
    let forced = format!("PATH={}:$PATH; {AS_ASKED}", bin.path().display());
    (Sshd::start(Some(&forced)), bin)
}

#[test]
fn sudo_without_a_password_keeps_the_connection_known() {
    let (sshd, _bin) = with_sudo(r#"unset SSH_CONNECTION; [ "$1" = -n ] && shift && exec "$@""#);
    let mut target = sshd.target();
    target.privilege = Become::Sudo;
    assert_eq!(run(&target, PROGRAM).unwrap().code, Some(3));
}

#[test]
fn no_sudo_is_said_with_the_remedy() {
    for (sudo, expected) in [
        (
            "echo 'sudo: a password is required' >&2; exit 1",
            "--ask-become-pass",
        ),
        (
            "echo 'ops is not in the sudoers file.' >&2; exit 1",
            "sudoers",
        ),
        ("echo 'sudo: not found' >&2; exit 127", "install sudo"),
    ] {
        let (sshd, _bin) = with_sudo(sudo);
        let mut target = sshd.target();
        target.privilege = Become::Sudo;
        let error = run(&target, PROGRAM).unwrap_err();
        assert!(matches!(error, Failure::Sudo { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Asks like sudo -S: on standard error, reading one line; three times at most.
const ASKING: &str = r#"[ "$1 $2" = "-S -p" ] || exit 9
for i in 1 2 3; do printf %s "$3" >&2; IFS= read -r word || exit 1; [ "$word" = "pass word" ] && break; done
[ "$word" = "pass word" ] || { echo 'sudo: 3 incorrect password attempts' >&2; exit 1; }
shift 3; exec "$@""#;

#[test]
fn sudo_gets_its_password_when_it_asks_and_a_wrong_one_only_once() {
    let (sshd, _bin) = with_sudo(ASKING);
    let mut target = sshd.target();
    target.privilege = Become::SudoPassword(Secret::new("pass word"));
    assert_eq!(run(&target, PROGRAM).unwrap().code, Some(3));
    target.privilege = Become::SudoPassword(Secret::new("wrong"));
    let error = run(&target, PROGRAM).unwrap_err().to_string();
    assert!(error.contains("did not take the password"), "{error}");
}

#[test]
fn sudo_that_asks_nothing_is_not_told_the_password() {
    let (sshd, _bin) = with_sudo(r#"shift 3; exec "$@""#);
    let mut target = sshd.target();
    target.privilege = Become::SudoPassword(Secret::new("pass word"));
    assert_eq!(run(&target, PROGRAM).unwrap().code, Some(3));
}

#[test]
fn a_node_behind_two_jump_hosts_is_reached() {
    let (jump, node) = (Sshd::start(None), Sshd::start(None));
    let hosts = jump.line("host.pub") + &node.line("host.pub");
    fs::write(node.known_hosts(), hosts).unwrap();
    let mut target = node.target();
    target.jumps = vec![jump.end(), jump.end()];
    let program = format!(
        "#!/bin/sh\nhead -c 1000000 /dev/zero; exit 0\n{}",
        "#".repeat(1_000_000)
    );
    let outcome = run(&target, &program).unwrap();
    assert_eq!((outcome.code, outcome.stdout.len()), (Some(0), 1_000_000));
}

#[test]
fn a_dead_node_behind_a_jump_host_is_told_from_a_dead_jump_host() {
    let jump = Sshd::start(None);
    let mut target = jump.target();
    target.jumps = vec![jump.end()];
    target.end.port = free_port();
    let error = run(&target, PROGRAM).unwrap_err();
    assert!(matches!(error, Failure::Jump { .. }), "{error}");
    target.jumps[0].port = free_port();
    let error = run(&target, PROGRAM).unwrap_err();
    assert!(matches!(error, Failure::JumpHost { .. }), "{error}");
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

/// Runs what was asked in a mount namespace of its own after some mounts.
fn mounted(mounts: &str) -> Sshd {
    Sshd::start(Some(&format!(
        "export mounts='{mounts}'; exec unshare -m sh -c 'eval \"$mounts\"; eval \"$SSH_ORIGINAL_COMMAND\"'"
    )))
}

#[test]
fn a_tmp_that_lets_no_program_run_is_passed_over() {
    let sshd = mounted("mount -t tmpfs -o noexec x /tmp");
    let outcome = run(&sshd.target(), PROGRAM).unwrap();
    assert!(!text(&outcome).starts_with("/tmp/"), "{outcome:?}");
    assert!(text(&outcome).contains("/.edgevirt."), "{outcome:?}");
}

#[test]
fn a_node_without_room_is_said_to_have_none() {
    let sshd = mounted(
        "for d in /tmp /run /var/tmp /dev/shm /root; do mount -t tmpfs -o size=64k x $d; done",
    );
    let program = PROGRAM.to_owned() + &"#".repeat(200_000);
    let error = run(&sshd.target(), &program).unwrap_err();
    assert!(matches!(error, Failure::NoPlace { .. }), "{error}");
    assert!(error.to_string().contains("/tmp: full"), "{error}");
}

#[test]
fn an_interruption_ends_a_node_at_once() {
    let sshd = Sshd::start(Some("sleep 30"));
    let cancel = Cancel::default();
    let deadline = Deadline::new(LIMITS.total, &cancel);
    let target = sshd.target();
    let start = Instant::now();
    let error = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let mut connection = connection::open(&target, LIMITS, &deadline)?;
            push::run(
                &mut connection,
                &Become::No,
                &push::Program::new(b"x".as_slice()),
                "",
                &deadline,
            )
        });
        std::thread::sleep(Duration::from_millis(500));
        cancel.cancel();
        work.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, Failure::Cancelled), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_node_without_gzip_gets_the_program_as_it_is() {
    let bin = tempfile::tempdir().unwrap();
    for name in ["sh", "mktemp", "chmod", "dd", "rm", "head", "wc"] {
        let program = which::which(name).unwrap();
        std::os::unix::fs::symlink(program, bin.path().join(name)).unwrap();
    }
    let sshd = Sshd::start(Some(&format!("PATH={}; {AS_ASKED}", bin.path().display())));
    // Large enough to be worth compressing.
    let program = format!("#!/bin/sh\necho ran\nexit 0\n{}", "#".repeat(1 << 20));
    let outcome = run(&sshd.target(), &program).unwrap();
    assert_eq!(
        (outcome.code, outcome.stdout.as_slice()),
        (Some(0), &b"ran\n"[..])
    );
}
