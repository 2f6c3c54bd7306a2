//! Runs a program of ours on a node that has nothing but a POSIX shell.
//!
//! One channel carries everything: its input the program, its output the answer. The
//! shell line finds a directory that is writable, has room and lets programs run
//! (/tmp may be mounted noexec or be full), stores the program there in a private
//! directory, runs it, and removes it whatever happens. A large program goes compressed,
//! which halves the work of both ends; a node without gzip says so before anything is
//! stored and gets it as it is. The channel's input stays open
//! as a leash: when it ends, because we were killed or the network broke, the program
//! is ended too.

use std::borrow::Cow;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::connection::Connection;
use super::exec::{self, Job, Outcome, PROMPT};
use super::{Become, Deadline, Failure, harmless};

/// Printed when the shell line runs, with the rights it was asked to have.
const READY: &str = "@edgevirt-ready@\n";
/// Directories that are tried, in order.
const PLACES: &str = "/tmp, /run, /var/tmp, /dev/shm, $HOME";
/// Exit code of the shell line when no directory will do (EX_CANTCREAT of sysexits.h).
const NO_PLACE: i32 = 73;
/// Exit code of the shell line when the program came incomplete (EX_IOERR).
const INCOMPLETE: i32 = 74;
/// Exit code of the shell line when the node cannot unpack the program (EX_UNAVAILABLE).
const NO_GZIP: i32 = 69;
/// Programs smaller than this, bytes, are not worth a process that unpacks them.
const SMALL: usize = 128 << 10;
/// Most output of a program that is taken: facts of a large node are some 300 KiB.
const OUTPUT_LIMIT: usize = 16 << 20;

/// A program as it is sent, compressed once for all nodes.
pub(crate) struct Program<'a> {
    plain: Cow<'a, [u8]>,
    packed: Option<Vec<u8>>,
}

impl<'a> Program<'a> {
    /// Compresses it, if that is worth while.
    pub(crate) fn new(plain: impl Into<Cow<'a, [u8]>>) -> Self {
        let plain = plain.into();
        let packed = (plain.len() >= SMALL).then(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            // Writing to memory does not fail; if it did, the program would go as it is.
            encoder.write_all(&plain).and_then(|()| encoder.finish())
        });
        Self {
            packed: packed.and_then(Result::ok),
            plain,
        }
    }
}

/// Runs `program` with `arguments` on the node. Whatever its exit code, its output
/// is the answer; that it could not be run at all is an error.
pub(crate) fn run(
    connection: &mut Connection,
    privilege: &Become,
    program: &Program<'_>,
    arguments: &str,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    let size = program.plain.len();
    if let Some(packed) = &program.packed {
        let line = script(size, Some(packed.len()), arguments);
        let outcome = send(connection, privilege, &line, packed, size, deadline)?;
        if outcome.code != Some(NO_GZIP) || !outcome.stdout.is_empty() {
            return Ok(outcome);
        }
    }
    let line = script(size, None, arguments);
    send(connection, privilege, &line, &program.plain, size, deadline)
}

/// Runs the shell line and gives it `input`, out of which comes a program of `size` bytes.
fn send(
    connection: &mut Connection,
    privilege: &Become,
    line: &str,
    input: &[u8],
    size: usize,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    let command = command(privilege, line);
    let outcome = exec::run(
        connection,
        &Job {
            command: &command,
            password: match privilege {
                Become::SudoPassword(password) => Some(password),
                Become::No | Become::Sudo => None,
            },
            ready: READY,
            input: &[input],
            limit: OUTPUT_LIMIT,
            what: "running the probe",
        },
        deadline,
    )?;
    let message = harmless(&outcome.stderr, 300);
    if !outcome.ready {
        return Err(not_ready(privilege, &outcome, message));
    }
    match outcome.code {
        Some(NO_PLACE) => Err(Failure::NoPlace {
            reason: message.trim_end_matches(';').to_owned(),
            bytes: size,
            places: PLACES,
        }),
        Some(INCOMPLETE) => Err(Failure::NoPlace {
            reason: "the program arrived incomplete".to_owned(),
            bytes: size,
            places: PLACES,
        }),
        _ => Ok(outcome),
    }
}

/// The shell line did not even begin: sudo refused, or the account has no shell.
fn not_ready(privilege: &Become, outcome: &Outcome, message: String) -> Failure {
    if *privilege == Become::No {
        if message.is_empty() && !outcome.stdout.is_empty() {
            return Failure::Garbage {
                expected: "a POSIX shell",
                found: harmless(&outcome.stdout, 80),
            };
        }
        return Failure::Command {
            what: "the login shell".to_owned(),
            status: outcome.status.clone(),
            message,
        };
    }
    let remedy = if message.contains("password") || message.contains("terminal") {
        "run again with --ask-become-pass, or allow NOPASSWD in sudoers"
    } else if message.contains("not found") || outcome.code == Some(127) {
        "install sudo, or log in as root without become"
    } else if message.contains("tty") {
        "take requiretty out of sudoers"
    } else {
        "allow the user to run commands as root in sudoers, or log in as root without become"
    };
    Failure::Sudo {
        reason: if message.is_empty() {
            outcome.status.clone()
        } else {
            message
        },
        remedy,
    }
}

/// Ends the program when the input ends. The signal is sent several times: it is lost
/// on a program that was forked but not begun yet.
const LEASH: &str = "{ while read -r x; do :; done <&3; for i in 1 2 3 4 5; do kill -TERM $p || exit; sleep 1; done; kill -KILL $p; } >/dev/null 2>&1 & w=$! ";

/// What the login shell is told.
fn command(privilege: &Become, script: &str) -> String {
    match privilege {
        Become::No => format!("sh -c '{script}'"),
        // sudo takes SSH_CONNECTION away, which tells the NIC that must not be touched.
        Become::Sudo => format!("sudo -n sh -c '{script}' sh \"$SSH_CONNECTION\""),
        Become::SudoPassword(_) => {
            format!("sudo -S -p '{PROMPT}' sh -c '{script}' sh \"$SSH_CONNECTION\"")
        }
    }
}

/// The shell line. It has no single quotes, newlines, backslashes and no exclamation
/// marks but before a space, so that any login shell passes it on unharmed.
///
/// A file without `#!` tells a noexec mount (refused by the kernel) from any other
/// (the shell runs it itself); zeros in the program's size tell whether it will fit.
/// Every command that is no part of the shell is two milliseconds of the node's.
fn script(size: usize, packed: Option<usize>, arguments: &str) -> String {
    let blocks = size.div_ceil(64 << 10);
    let unpacker = match packed {
        Some(_) => format!("command -v gzip >/dev/null 2>&1 || exit {NO_GZIP}"),
        None => ":".to_owned(),
    };
    // gzip tells by itself whether it got everything.
    let store = match packed {
        Some(packed) => {
            format!(r#"head -c {packed} | gzip -dc >"$d/p" 2>/dev/null || exit {INCOMPLETE}"#)
        }
        None => format!(
            r#"head -c {size} >"$d/p"; if [ "$(wc -c <"$d/p")" -ne {size} ]; then exit {INCOMPLETE}; fi"#
        ),
    };
    let find_place = format!(
        r#"for b in /tmp /run /var/tmp /dev/shm "$HOME"; do
 [ -n "$b" ] && [ -d "$b" ] || continue;
 d=$(mktemp -d "$b/.edgevirt.XXXXXX" 2>/dev/null) || {{ d=; why="$why $b: not writable or full;"; continue; }};
 if {{ echo : >"$d/p"; }} 2>/dev/null && chmod 700 "$d/p" && "$d/p" 2>/dev/null; then
 if dd if=/dev/zero of="$d/p" bs=65536 count={blocks} 2>/dev/null; then break; fi;
 why="$why $b: full;";
 else why="$why $b: noexec or full;"; fi;
 rm -rf "$d"; d=;
 done"#
    )
    .replace('\n', "");
    [
        "umask 077",
        r#"[ -z "$1" ] || export SSH_CONNECTION="$1""#,
        "echo @edgevirt-ready@",
        &unpacker,
        "d=",
        "p=",
        "why=",
        r#"clean() { [ -z "$d" ] || rm -rf "$d"; }"#,
        r#"stop() { [ -z "$p" ] || kill -TERM $p 2>/dev/null; exit 130; }"#,
        "trap clean 0",
        "trap stop 1 2 13 15",
        &find_place,
        &format!(r#"if [ -z "$d" ]; then echo "$why" >&2; exit {NO_PLACE}; fi"#),
        &store,
        "exec 3<&0",
        &format!(r#""$d/p" {arguments} </dev/null 3<&- & p=$! "#),
        LEASH,
        "wait $p",
        "s=$?",
        "p=",
        "kill $w 2>/dev/null",
        "exit $s",
    ]
    .join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn any_login_shell_passes_the_line_on() {
        for packed in [None, Some(1_000_000)] {
            let script = script(3_000_000, packed, "gather");
            assert!(
                !script
                    .replace("! ", "")
                    .contains(['\'', '\n', '!', '\\', '`']),
                "{script}"
            );
        }
    }

    /// Runs the line with a shell and sends it input; returns its output and exit code.
    fn with_shell(shell: &[&str], line: &str, whole: usize, send: &[u8]) -> (String, Option<i32>) {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(shell[0])
            .args(&shell[1..])
            .arg(line)
            .env("HOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(send).unwrap();
        if send.len() < whole {
            drop(input);
            let output = child.wait_with_output().unwrap();
            return (
                String::from_utf8_lossy(&output.stdout).into_owned(),
                output.status.code(),
            );
        }
        // The leash stays open until the program has ended by itself.
        let output = child.wait_with_output().unwrap();
        drop(input);
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            output.status.code(),
        )
    }

    fn shells() -> Vec<Vec<&'static str>> {
        let mut shells = vec![vec!["sh", "-c"]];
        if which::which("bash").is_ok() {
            shells.push(vec!["bash", "--posix", "-c"]);
        }
        if which::which("busybox").is_ok() {
            shells.push(vec!["busybox", "ash", "-c"]);
        }
        shells
    }

    #[test]
    fn the_program_runs_gets_its_arguments_and_is_gone_afterwards() {
        let program = [
            b"#!/bin/sh\necho \"$0 $*\"\nexit 7\n".as_slice(),
            &vec![b'#'; SMALL],
        ]
        .concat();
        let packed = Program::new(program.as_slice()).packed.unwrap();
        assert!(packed.len() < program.len() / 10);
        for shell in shells() {
            for (sent, size) in [(&program, None), (&packed, Some(packed.len()))] {
                let line = script(program.len(), size, "a b");
                let (output, code) = with_shell(&shell, &line, sent.len(), sent);
                let mut lines = output.lines();
                assert_eq!(lines.next(), Some("@edgevirt-ready@"), "{shell:?}");
                let (path, arguments) = lines.next().unwrap().split_once(' ').unwrap();
                assert_eq!((arguments, code), ("a b", Some(7)), "{shell:?}");
                assert!(!std::path::Path::new(path).exists(), "{shell:?}: {path}");
            }
        }
    }

    #[test]
    fn half_a_program_is_not_run() {
        let program = b"#!/bin/sh\necho ran\nexit 0\n".repeat(SMALL / 20);
        let packed = Program::new(program.as_slice()).packed.unwrap();
        for shell in shells() {
            for (sent, size) in [(&program, None), (&packed, Some(packed.len()))] {
                let line = script(program.len(), size, "");
                let (output, code) = with_shell(&shell, &line, sent.len(), &sent[..sent.len() / 2]);
                assert_eq!(code, Some(INCOMPLETE), "{shell:?}");
                assert!(!output.contains("ran"), "{shell:?}");
            }
        }
    }

    #[test]
    fn a_node_without_gzip_says_so_before_it_stores_anything() {
        let line = script(SMALL, Some(100), "");
        let output = Command::new("/bin/sh")
            .args(["-c", &line])
            .env("PATH", "/nowhere")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(NO_GZIP));
        assert_eq!(output.stdout, b"@edgevirt-ready@\n");
    }

    #[test]
    fn a_small_program_goes_as_it_is() {
        assert!(Program::new(b"#!/bin/sh\n".as_slice()).packed.is_none());
    }

    #[test]
    fn the_end_of_the_leash_ends_the_program() {
        let program = b"#!/bin/sh\necho $$\nexec sleep 60\n";
        for shell in shells() {
            let start = std::time::Instant::now();
            let mut child = Command::new(shell[0])
                .args(&shell[1..])
                .arg(script(program.len(), None, ""))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(program).unwrap();
            let code = child.wait().unwrap().code();
            assert_eq!(code, Some(143), "{shell:?}");
            assert!(start.elapsed().as_secs() < 20, "{shell:?}");
        }
    }
}
