//! A person at `virtctl console`.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::program::virtctl_program;

/// An open console: what the guest prints is kept, what is typed goes to the guest.
#[derive(Debug)]
pub struct Console {
    child: Child,
    chunks: Receiver<Vec<u8>>,
    seen: String,
    said: JoinHandle<String>,
}

impl Console {
    /// Opens the console of a VMI.
    ///
    /// # Panics
    /// When virtctl cannot be run.
    #[must_use]
    pub fn open(namespace: &str, name: &str) -> Self {
        let mut child = Command::new(virtctl_program())
            .args(["--namespace", namespace, "console", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("virtctl console");
        let mut stdout = child.stdout.take().expect("stdout");
        let mut stderr = child.stderr.take().expect("stderr");
        let said = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 4096];
            while let Ok(n) = stdout.read(&mut buffer) {
                if n == 0 || sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            chunks,
            seen: String::new(),
            said,
        }
    }

    /// Types text.
    ///
    /// # Panics
    /// When the console is gone.
    pub fn send(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin");
        stdin.write_all(text.as_bytes()).expect("type");
        stdin.flush().expect("type");
    }

    /// Waits until `wanted` was printed; gives what came before it since the last wait.
    ///
    /// # Panics
    /// When it does not come in time or the console ends.
    pub fn expect(&mut self, wanted: &str, limit: Duration) -> String {
        match self.wait(wanted, limit) {
            Some(before) => before,
            None => panic!("no {wanted:?} within {limit:?}; seen: {}", self.seen),
        }
    }

    /// As [`Console::expect`], but `None` when it does not come in time.
    fn wait(&mut self, wanted: &str, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(at) = self.seen.find(wanted) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + wanted.len());
                return Some(before);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.seen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    let said = std::mem::replace(&mut self.said, std::thread::spawn(String::new));
                    panic!(
                        "console ended before {wanted:?}; seen: {}; it said: {}",
                        self.seen,
                        said.join().unwrap_or_default()
                    )
                }
            }
        }
    }

    /// Logs in as cirros at a fresh guest's prompt, and waits until the guest has its address:
    /// a busy machine may be slower to answer DHCP than the guest is to boot.
    ///
    /// # Panics
    /// When the guest does not let us in.
    pub fn login(&mut self) {
        // The prompt may have been printed before this console was open: wake it.
        for _ in 0..30 {
            if self.wait("login: ", Duration::from_secs(6)).is_some() {
                break;
            }
            self.send("\r");
        }
        self.send("cirros\r");
        // The banner, which a second prompt repeats, has the word too.
        self.expect("\nPassword: ", Duration::from_secs(60));
        self.send("gocubsgo\r");
        self.expect("$ ", Duration::from_secs(60));
        let _ =
            self.run("for i in $(seq 30); do ip route | grep -q ^default && break; sleep 1; done");
    }

    /// Runs a command in the guest's shell; gives what it printed.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub fn run(&mut self, command: &str) -> String {
        // The marker is split in the typed line, so its echo does not match.
        self.send(&format!("{command}; echo END''MARK\r"));
        let printed = self.expect("ENDMARK", Duration::from_secs(60));
        self.expect("$ ", Duration::from_secs(60));
        match printed.split_once('\n') {
            Some((_echo, rest)) => rest.replace('\r', ""),
            None => printed,
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
