//! One command on one channel: input in, bounded output out, always back in time.

use std::io::{ErrorKind, Read, Write};
use std::time::SystemTime;

use super::connection::{Connection, lost};
use super::{Deadline, Failure, Secret, harmless};

/// Standard error that is kept, its end: the reason is on the last lines.
const STDERR_KEPT: usize = 4 << 10;
/// Most bytes that may come before the ready line.
const GREETING: usize = 256 << 10;
/// What `sudo -S` is told to ask with, so that the question can be told from noise.
pub(crate) const PROMPT: &str = "[edgevirt-asks-for-password]";

/// A command and what it gets.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Line for the login shell.
    pub(crate) command: &'a str,
    /// Given when [`PROMPT`] is seen on standard error, once.
    pub(crate) password: Option<&'a Secret>,
    /// Line of standard output before which everything (greetings of shell start-up
    /// files) is dropped.
    pub(crate) ready: &'a str,
    /// Input, in pieces, sent at once (with a password: after the ready line). The channel's input stays open afterwards: its end tells the
    /// node that we are gone.
    pub(crate) input: &'a [&'a [u8]],
    /// Most bytes of output that are taken.
    pub(crate) limit: usize,
    /// What is being done, for errors.
    pub(crate) what: &'static str,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Output after the ready line.
    pub(crate) stdout: Vec<u8>,
    /// The ready line was seen.
    pub(crate) ready: bool,
    /// End of standard error.
    pub(crate) stderr: Vec<u8>,
    /// When the last input began to go out and when the first output after the ready line came
    /// in: what the command did happened in between.
    pub(crate) between: (SystemTime, SystemTime),
    /// Exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// `exit code 3`, `signal KILL`.
    pub(crate) status: String,
}

/// What has come so far.
#[derive(Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ready: bool,
    looked: usize,
    prompts: usize,
}

impl Seen {
    /// Drops everything up to the ready line, once it is complete.
    fn look_for(&mut self, ready: &str) {
        if self.ready {
            return;
        }
        // What was looked at before need not be looked at again.
        let from = self.looked.saturating_sub(ready.len());
        if let Some(at) = find(&self.stdout[from..], ready.as_bytes()) {
            let end = from + at + ready.len();
            self.stdout.drain(..end);
            self.ready = true;
        }
        self.looked = self.stdout.len();
    }

    /// Counts the questions for a password and takes them out of the text.
    fn count_prompts(&mut self) {
        while let Some(at) = find(&self.stderr, PROMPT.as_bytes()) {
            self.stderr.drain(at..at + PROMPT.len());
            self.prompts += 1;
        }
        if self.stderr.len() > 2 * STDERR_KEPT {
            self.stderr.drain(..self.stderr.len() - STDERR_KEPT);
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// Runs the job to its end.
pub(crate) fn run(
    connection: &mut Connection,
    job: &Job<'_>,
    deadline: &Deadline,
) -> Result<Outcome, Failure> {
    let mut channel = connection
        .drive(
            "opening a channel",
            deadline,
            ssh2::Session::channel_session,
        )?
        .map_err(|e| lost("opening a channel", &e.message()))?;
    connection
        .drive("starting the command", deadline, |_| {
            channel.exec(job.command)
        })?
        .map_err(|e| lost("starting the command", &e.message()))?;

    let mut seen = Seen::default();
    let mut feed = Feed::new(job);
    let mut sent = SystemTime::now();
    let mut answered = None;
    let mut buffer = vec![0u8; 32 << 10];
    loop {
        let mut moved = false;
        match channel.read(&mut buffer) {
            Ok(n) => {
                moved |= n > 0;
                if seen.stdout.len() + n > job.limit {
                    return Err(Failure::TooMuch { limit: job.limit });
                }
                seen.stdout.extend_from_slice(&buffer[..n]);
                seen.look_for(job.ready);
                if !seen.ready && seen.stdout.len() > GREETING {
                    return Err(Failure::TooMuch { limit: GREETING });
                }
            }
            Err(error) => blocked(&error, job.what)?,
        }
        match channel.stderr().read(&mut buffer) {
            Ok(n) => {
                moved |= n > 0;
                seen.stderr.extend_from_slice(&buffer[..n]);
                seen.count_prompts();
            }
            Err(error) => blocked(&error, job.what)?,
        }
        if channel.eof() && !moved {
            break;
        }
        if seen.prompts > 1 {
            return Err(Failure::Sudo {
                reason: "it did not take the password".to_owned(),
                remedy: "check the password; it was offered once only, so that no account gets locked",
            });
        }
        if seen.ready && answered.is_none() && !seen.stdout.is_empty() {
            answered = Some(SystemTime::now());
        }
        // Before, for the command may run before this thread does again.
        let before = SystemTime::now();
        if feed.step(&seen, &mut channel, job.what)? {
            sent = before;
            moved = true;
        }
        if !moved {
            connection.wait(deadline, job.what)?;
        }
    }
    let _ = connection.drive("closing the channel", deadline, |_| channel.close())?;
    let _ = connection.drive("closing the channel", deadline, |_| channel.wait_close())?;
    let signal = channel.exit_signal().ok().and_then(|s| s.exit_signal);
    let code = channel.exit_status().unwrap_or(-1);
    Ok(Outcome {
        between: (sent, answered.unwrap_or_else(SystemTime::now)),
        ready: seen.ready,
        stdout: seen.stdout,
        stderr: seen.stderr,
        status: match &signal {
            Some(signal) => format!("signal {}", harmless(signal.as_bytes(), 16)),
            None => format!("exit code {code}"),
        },
        code: signal.is_none().then_some(code),
    })
}

/// What is left to send.
struct Feed<'a> {
    pieces: Vec<&'a [u8]>,
    password: Option<Vec<u8>>,
    wait_for_ready: bool,
}

impl<'a> Feed<'a> {
    fn new(job: &Job<'a>) -> Self {
        Self {
            pieces: job
                .input
                .iter()
                .rev()
                .copied()
                .filter(|piece| !piece.is_empty())
                .collect(),
            password: job
                .password
                .map(|secret| format!("{}\n", secret.reveal()).into_bytes()),
            wait_for_ready: job.password.is_some(),
        }
    }

    /// Sends a piece, if something may be sent now. True if bytes went out.
    fn step(
        &mut self,
        seen: &Seen,
        channel: &mut ssh2::Channel,
        what: &'static str,
    ) -> Result<bool, Failure> {
        if let (Some(password), true) = (&mut self.password, seen.prompts == 1) {
            return match channel.write(password) {
                Ok(n) => {
                    password.drain(..n);
                    if password.is_empty() {
                        self.password = None;
                    }
                    Ok(n > 0)
                }
                Err(error) => gone_or_blocked(&error, what),
            };
        }
        if self.wait_for_ready && !seen.ready {
            return Ok(false);
        }
        let Some(piece) = self.pieces.last_mut() else {
            return Ok(false);
        };
        match channel.write(&piece[..piece.len().min(32 << 10)]) {
            Ok(n) => {
                *piece = &piece[n..];
                if piece.is_empty() {
                    self.pieces.pop();
                }
                Ok(n > 0)
            }
            Err(error) => gone_or_blocked(&error, what),
        }
    }
}

/// A command that ended takes no more input; how it ended is read from its output.
fn gone_or_blocked(error: &std::io::Error, what: &'static str) -> Result<bool, Failure> {
    // LIBSSH2_ERROR_CHANNEL_CLOSED, LIBSSH2_ERROR_CHANNEL_EOF_SENT.
    let text = error.to_string();
    if text.contains("closed") || text.contains("EOF") {
        return Ok(false);
    }
    blocked(error, what).map(|()| false)
}

/// Whoever would have to wait tries again later; anything else ends the connection.
pub(super) fn blocked(error: &std::io::Error, what: &'static str) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
        _ => Err(lost(what, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_up_file_prints_is_dropped() {
        let mut seen = Seen {
            stdout: b"Welcome!\n@ready@\n{}".to_vec(),
            ..Seen::default()
        };
        seen.look_for("@ready@\n");
        assert!(seen.ready);
        assert_eq!(seen.stdout, b"{}");
    }

    #[test]
    fn questions_are_counted_and_standard_error_stays_small() {
        let mut seen = Seen {
            stderr: [&vec![b'x'; 20_000], PROMPT.as_bytes(), b"end"].concat(),
            ..Seen::default()
        };
        seen.count_prompts();
        assert_eq!(seen.prompts, 1);
        assert!(seen.stderr.len() <= 2 * STDERR_KEPT);
        assert!(seen.stderr.ends_with(b"end"));
    }
}
