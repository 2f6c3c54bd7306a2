//! A running node.

use std::fs;
use std::marker::PhantomData;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Testbed, disk, processes, qemu, run_root};
use crate::program::Output;

/// A node that does not answer within this time is broken; on idle processors it takes three seconds, on very busy ones a minute.
const BOOT: Duration = Duration::from_secs(240);
/// User networking takes a connection before the node listens and tries again ever more slowly: short tries find the
/// moment sooner.
const TRY: &str = "-oConnectTimeout=1";
/// The file that the node writes when all its drivers are loaded.
const COMPLETE: &str = "until [ -e /run/edge-node ]; do sleep 0.1; done";
/// A node that is alive answers a very busy machine within this time.
const ANSWER: Duration = Duration::from_secs(60);
/// A free port can be taken before QEMU has it, and the emulator can fail: so many tries.
const TRIES: u32 = 4;

/// A node; it is killed and what it wrote removed when the value goes, and also when the process is killed that
/// started it. The kernel ties that to the thread, so the value stays in the thread that made it.
#[derive(Debug)]
pub struct EdgeNode {
    testbed: Testbed,
    variant: String,
    port: u16,
    dir: PathBuf,
    reach: Vec<String>,
    started: Instant,
    child: Option<Child>,
    detached: bool,
    stays: PhantomData<*const ()>,
}

impl EdgeNode {
    /// Starts a variant on a free port, and waits until it is complete.
    ///
    /// # Errors
    /// When the variant is not known, QEMU refuses, or the node does not answer.
    pub fn boot(testbed: &Testbed, variant: &str) -> anyhow::Result<Self> {
        let mut node = Self::start(testbed, variant)?;
        node.wait()?;
        Ok(node)
    }

    /// Starts a variant on a free port; [`wait`](Self::wait) before use.
    ///
    /// # Errors
    /// When the variant is not known or QEMU refuses.
    pub fn start(testbed: &Testbed, variant: &str) -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..TRIES {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            match Self::launch(testbed, variant, port, false) {
                Ok(node) => return Ok(node),
                Err(error) if format!("{error:#}").contains("host forwarding") => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.context("no free port")?)
    }

    /// Starts a variant that outlives this process; `stop_all` ends it.
    ///
    /// # Errors
    /// When the variant is not known or QEMU refuses, for example because the port is taken.
    pub fn start_detached(testbed: &Testbed, variant: &str, port: u16) -> anyhow::Result<Self> {
        Self::launch(testbed, variant, port, true)
    }

    fn launch(testbed: &Testbed, name: &str, port: u16, detached: bool) -> anyhow::Result<Self> {
        let dir = run_root().join(format!("{name}-{port}"));
        if dir.exists() {
            bail!(
                "{} is there: a node runs on port {port}, or one crashed; `cargo xtask edge-node stop` removes it",
                dir.display()
            );
        }
        let mut node = Self {
            testbed: testbed.clone(),
            variant: name.to_owned(),
            port,
            dir,
            reach: Self::words_to_reach(testbed, port),
            started: Instant::now(),
            child: None,
            detached: false,
            stays: PhantomData,
        };
        node.power_on(detached)?;
        node.detached = detached;
        Ok(node)
    }

    /// Starts QEMU with a fresh disk.
    fn power_on(&mut self, detached: bool) -> anyhow::Result<()> {
        let variant = self.testbed.variant(&self.variant)?;
        let dir = &self.dir;
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let known = self.testbed.known_host(self.port)?;
        fs::write(dir.join("known_hosts"), known)?;
        disk::make(&dir.join("spare.raw"), variant.disk)?;
        // The kernel kills QEMU when the thread that started it ends, however that ends.
        let mut words = if detached {
            vec!["setsid".to_owned()]
        } else {
            vec!["setpriv".to_owned(), "--pdeathsig".into(), "KILL".into()]
        };
        words.extend(qemu::words(&self.testbed, variant, dir, self.port));
        let said = fs::File::create(dir.join("qemu.log"))?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("{} is not there; it is part of util-linux", words[0]))?;
        self.child = Some(child);
        while !self.dir.join("pid").exists() {
            self.still_runs()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the node answers over SSH and all its drivers are loaded; gives the time since its start. When the
    /// emulator ended itself meanwhile, the node is started again, a few times: that is not what is tested.
    ///
    /// # Errors
    /// With the end of its console when QEMU ended or the time is up.
    pub fn wait(&mut self) -> anyhow::Result<Duration> {
        let detached = std::mem::take(&mut self.detached);
        for _ in 1..TRIES {
            let waited = self.wait_complete();
            let ended = self.still_runs().is_err();
            if waited.is_ok() || !ended {
                self.detached = detached && waited.is_ok();
                return waited;
            }
            fs::remove_dir_all(&self.dir)?;
            self.power_on(detached)?;
        }
        self.detached = detached;
        self.wait_complete()
    }

    fn wait_complete(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        loop {
            if self.run(&[TRY, COMPLETE]).ok {
                return Ok(self.started.elapsed());
            }
            self.still_runs()?;
            if start.elapsed() > BOOT {
                bail!(
                    "{}: no answer in {BOOT:?}: {}",
                    self.variant,
                    self.console()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The node is alive: QEMU runs, and its kernel answers within a minute. The emulator can fail in nested
    /// virtualization, which ends the node or lets it hang (`testbed/edge-node/README.md`).
    pub fn answers(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < ANSWER && self.still_runs().is_ok() {
            if self.run(&[TRY, "true"]).ok {
                return true;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        false
    }

    /// Runs a shell command in the node as root.
    #[must_use]
    pub fn ssh(&self, command: &str) -> Output {
        self.run(&[command])
    }

    /// Runs a shell command in the node as root, with this standard input.
    #[must_use]
    pub fn ssh_with(&self, command: &str, input: Option<&str>) -> Output {
        self.run_with(&[command], input)
    }

    fn run(&self, more: &[&str]) -> Output {
        self.run_with(more, None)
    }

    fn run_with(&self, more: &[&str], input: Option<&str>) -> Output {
        let mut words: Vec<&str> = self.reach[1..].iter().map(String::as_str).collect();
        // Options may follow the host, up to the command.
        words.extend(more);
        crate::program::run(&self.reach[0], &words, input)
    }

    /// The command that reaches the node; a command of the user's may follow.
    #[must_use]
    pub fn ssh_words(&self) -> &[String] {
        &self.reach
    }

    /// The command that reaches a node on this port.
    #[must_use]
    pub fn words_to_reach(testbed: &Testbed, port: u16) -> Vec<String> {
        // The default key exchange of newer clients costs an emulated processor three times the time.
        [
            "ssh",
            "-i",
            &testbed.key().display().to_string(),
            "-p",
            &port.to_string(),
        ]
        .into_iter()
        .chain([
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "LogLevel=ERROR",
        ])
        .chain([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        // A node that hangs, or reboots, leaves the connection open: its end is noticed after a minute.
        .chain([
            "-o",
            "ServerAliveInterval=10",
            "-o",
            "ServerAliveCountMax=6",
        ])
        .chain(["-o", "KexAlgorithms=curve25519-sha256", "root@127.0.0.1"])
        .map(str::to_owned)
        .collect()
    }

    /// The variant's name.
    #[must_use]
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// The port of 127.0.0.1 that leads to its sshd.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The private key that it accepts.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.testbed.key()
    }

    /// A known_hosts file with its host key.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// A directory that goes with the node.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The end of what its kernel said.
    #[must_use]
    pub fn console(&self) -> String {
        let read = |name: &str| {
            let bytes = fs::read(self.dir.join(name)).unwrap_or_default();
            let from = bytes.len().saturating_sub(2000);
            String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
        };
        format!("{}\n{}", read("qemu.log"), read("console.log"))
    }

    fn still_runs(&mut self) -> anyhow::Result<()> {
        let ended = match self.child.as_mut() {
            Some(child) => child.try_wait()?,
            None => None,
        };
        match ended {
            None => Ok(()),
            Some(status) => bail!(
                "{}: QEMU ended with {status}: {}",
                self.variant,
                self.console()
            ),
        }
    }
}

impl Drop for EdgeNode {
    fn drop(&mut self) {
        if self.detached {
            return;
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        processes::remove(&self.dir);
    }
}
