//! Programs that run beside a test: port-forward, vnc, an installer that is interrupted.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// A program with a process group of its own, as a shell gives one; nothing of the group outlives this value.
#[derive(Debug)]
pub struct Background {
    child: Child,
}

impl Background {
    /// A program that Ctrl-C ends, also where the tests themselves run in the background of a shell, which makes their
    /// children ignore it.
    #[must_use]
    pub fn command(program: &str) -> Command {
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", program]);
        command
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let child = command
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child }
    }

    /// The program's process, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Ctrl-C as a terminal sends it: SIGINT for the whole group.
    ///
    /// # Panics
    /// When there is no such group.
    pub fn interrupt_group(&self) {
        self.signal("-INT", &format!("-{}", self.child.id()));
    }

    /// SIGINT for the program alone, as `kill -INT` sends it.
    ///
    /// # Panics
    /// When it has ended.
    pub fn interrupt(&self) {
        self.signal("-INT", &self.child.id().to_string());
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it goes on longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "still runs after {limit:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many processes of the group there are, ended ones that nobody waited for left out.
    ///
    /// # Panics
    /// When /proc cannot be read.
    #[must_use]
    pub fn left(&self) -> usize {
        let group = self.child.id().to_string();
        let alive = |stat: &str| {
            // After the name in parentheses: state, parent, group.
            let mut fields = stat.rsplit(')').next()?.split_whitespace();
            Some(fields.next()? != "Z" && fields.nth(1)? == group)
        };
        std::fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
            .filter(|stat| alive(stat) == Some(true))
            .count()
    }

    fn signal(&self, signal: &str, whom: &str) {
        let done = Command::new("kill").args([signal, "--", whom]).status();
        assert!(done.expect("kill").success(), "kill {signal} {whom}");
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.left() > 0 {
            // They may end meanwhile.
            let group = format!("-{}", self.child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).output();
        }
        let _ = self.child.wait();
    }
}
