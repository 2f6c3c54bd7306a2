//! Runs a program of ours on a node that has nothing but a POSIX shell.
//!
//! One channel carries everything: its input the program, its output the answer. The
//! shell line finds a directory that is writable, has room and lets programs run
//! (/tmp may be mounted noexec or be full), stores the program there in a private
//! directory, runs it, and removes it whatever happens. The channel's input stays open
//! as a leash: when it ends, because we were killed or the network broke, the program
//! is ended too.

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
/// Most output of a program that is taken: facts of a large node are some 300 KiB.
const OUTPUT_LIMIT: usize = 16 << 20;

/// Runs `program` with `arguments` on the node. Whatever its exit code, its output
/// is the answer; that it could not be run at all is an error.
pub(crate) fn run(
    connection: &mut Connection,
    privilege: &Become,
    program: &[u8],
    arguments: &str,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    let command = command(privilege, &script(program.len(), arguments));
    let outcome = exec::run(
        connection,
        &Job {
            command: &command,
            password: match privilege {
                Become::SudoPassword(password) => Some(password),
                Become::No | Become::Sudo => None,
            },
            ready: READY,
            input: &[program],
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
            reason: message,
            bytes: program.len(),
            places: PLACES,
        }),
        Some(INCOMPLETE) => Err(Failure::NoPlace {
            reason: "the program arrived incomplete".to_owned(),
            bytes: program.len(),
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
const LEASH: &str = "{ cat <&3; for i in 1 2 3 4 5; do kill -TERM $p || exit; sleep 1; done; kill -KILL $p; } >/dev/null 2>&1 & w=$! ";

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
fn script(size: usize, arguments: &str) -> String {
    let kib = size.div_ceil(1024);
    let find_place = format!(
        r#"for b in /tmp /run /var/tmp /dev/shm "$HOME"; do
 [ -n "$b" ] && [ -d "$b" ] || continue;
 d=$(mktemp -d "$b/.edgevirt.XXXXXX" 2>/dev/null) || {{ d=; why="$why $b: not writable or full;"; continue; }};
 if {{ echo : >"$d/p"; }} 2>/dev/null && chmod 700 "$d/p" && "$d/p" 2>/dev/null; then
 if dd if=/dev/zero of="$d/p" bs=1024 count={kib} 2>/dev/null; then break; fi;
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
        "d=",
        "p=",
        "why=",
        r#"clean() { [ -z "$d" ] || rm -rf "$d"; }"#,
        r#"stop() { [ -z "$p" ] || kill -TERM $p 2>/dev/null; exit 130; }"#,
        "trap clean 0",
        "trap stop 1 2 13 15",
        &find_place,
        &format!(r#"if [ -z "$d" ]; then echo "$why" >&2; exit {NO_PLACE}; fi"#),
        &format!(r#"head -c {size} >"$d/p""#),
        &format!(r#"if [ "$(wc -c <"$d/p")" -ne {size} ]; then exit {INCOMPLETE}; fi"#),
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
        let script = script(3_000_000, "gather");
        assert!(
            !script
                .replace("! ", "")
                .contains(['\'', '\n', '!', '\\', '`']),
            "{script}"
        );
    }

    /// Runs the line with every shell of the machine; returns its output and exit code.
    fn with_shell(shell: &[&str], program: &[u8], send: &[u8]) -> (String, Option<i32>) {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(shell[0])
            .args(&shell[1..])
            .arg(script(program.len(), "a b"))
            .env("HOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(send).unwrap();
        if send.len() < program.len() {
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
        let program = b"#!/bin/sh\necho \"$0 $*\"\nexit 7\n";
        for shell in shells() {
            let (output, code) = with_shell(&shell, program, program);
            let mut lines = output.lines();
            assert_eq!(lines.next(), Some("@edgevirt-ready@"), "{shell:?}");
            let (path, arguments) = lines.next().unwrap().split_once(' ').unwrap();
            assert_eq!((arguments, code), ("a b", Some(7)), "{shell:?}");
            assert!(!std::path::Path::new(path).exists(), "{shell:?}: {path}");
        }
    }

    #[test]
    fn half_a_program_is_not_run() {
        let program = b"#!/bin/sh\necho ran\nexit 0\n";
        for shell in shells() {
            let (output, code) = with_shell(&shell, program, &program[..20]);
            assert_eq!(code, Some(INCOMPLETE), "{shell:?}");
            assert!(!output.contains("ran"), "{shell:?}");
        }
    }

    #[test]
    fn the_end_of_the_leash_ends_the_program() {
        let program = b"#!/bin/sh\necho $$\nexec sleep 60\n";
        for shell in shells() {
            let start = std::time::Instant::now();
            let mut child = Command::new(shell[0])
                .args(&shell[1..])
                .arg(script(program.len(), ""))
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
