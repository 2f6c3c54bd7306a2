//! Runs kubectl and virtctl as a user would.

use std::io::Write;
use std::process::{Command, Stdio};

/// Seconds that a program may take, far more than any needs: `kubectl delete`, for one, waits
/// without an end when another object of the name is made the moment the old one goes.
const LIMIT: &str = "300";

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// It exited with 0.
    pub ok: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a program that must have succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn expect_ok(self, what: &str) -> String {
        assert!(self.ok, "{what}: {}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a program that must have failed.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn expect_err(self, what: &str) -> String {
        assert!(
            !self.ok,
            "{what}: expected a refusal, found {}",
            self.stdout
        );
        self.stderr
    }
}

/// Runs `kubectl` with these words; `stdin` is its standard input.
pub fn kubectl(words: &[&str], stdin: Option<&str>) -> Output {
    run(
        &std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into()),
        words,
        stdin,
    )
}

/// Runs `virtctl` with these words.
pub fn virtctl(words: &[&str]) -> Output {
    run(&virtctl_program(), words, None)
}

/// Runs `edgevirt` with these words.
pub fn edgevirt(words: &[&str]) -> Output {
    run(&edgevirt_program(), words, None)
}

/// The edgevirt under test: `EDGEVIRT`, else the release build, beside which `deploy` finds virtctl.
#[must_use]
pub fn edgevirt_program() -> String {
    std::env::var("EDGEVIRT").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/edgevirt").into()
    })
}

/// The virtctl under test: `VIRTCTL`, else the one on PATH.
#[must_use]
pub fn virtctl_program() -> String {
    std::env::var("VIRTCTL").unwrap_or_else(|_| "virtctl".into())
}

pub(crate) fn run(program: &str, words: &[&str], stdin: Option<&str>) -> Output {
    let mut child = Command::new("timeout")
        .args([
            "--foreground",
            "--verbose",
            "--kill-after=10",
            LIMIT,
            program,
        ])
        .args(words)
        .stdin(if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).expect("standard input");
    }
    let output = child.wait_with_output().expect("wait");
    Output {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
