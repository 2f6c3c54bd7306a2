//! `edgevirt demo`: the walk-through's stateless VM, from its YAML to its login prompt.
//!
//! It drives the cluster with the programs a user has: the object goes to the API
//! as `kubectl create` would send it, everything else is `virtctl`.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kube::Api;

use crate::cli::DemoArgs;
use crate::output::{Output, Tone};

/// The YAML of the walk-through, unmodified.
const MANIFEST: &str = include_str!("../examples/statelessVM.yaml");
/// Name in [`MANIFEST`].
const NAME: &str = "cirros-stateless-vm";
/// What a login prompt ends with.
const PROMPT: &str = "login:";
/// What the guest's shell shows where somebody logged in and left.
const SHELL: &str = "$ ";

/// Creates and starts the VM unless it is there, shows its console until the login prompt.
pub(crate) fn run(args: &DemoArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let started = crate::cluster::runtime()?.block_on(create(args))?;
    if started {
        virtctl(args, &["start", NAME])?;
        out.note(&format!("VM {NAME} was scheduled to start"));
    } else {
        out.note(&format!("VM {NAME} runs already"));
    }
    crate::cluster::runtime()?.block_on(until_running(args, deadline))?;
    let mut console = Console::open(args)?;
    match console.until_prompt(deadline, started, out)? {
        Seen::Prompt => {}
        Seen::Interruption => {
            drop(console);
            out.note(&format!(
                "interrupted; the VM goes on: `virtctl console {NAME}` shows it"
            ));
            return Ok(ExitCode::from(crate::interrupt::EXIT));
        }
        Seen::Nothing => bail!(
            "no login prompt within {} s; look with `virtctl console {NAME}` and `kubectl describe vmi {NAME}`",
            args.timeout
        ),
    }
    out.line("");
    out.line(&out.paint("The virtual machine is up.", Tone::Good));
    out.line(&format!(
        "Its console: virtctl console {NAME}   (login cirros, password gocubsgo; Ctrl+] leaves)"
    ));
    Ok(ExitCode::SUCCESS)
}

/// True when the VM has to be started.
async fn create(args: &DemoArgs) -> anyhow::Result<bool> {
    let client = crate::cluster::client(&args.cluster).await?;
    let api: Api<api::VirtualMachine> = Api::default_namespaced(client.clone());
    if let Some(vm) = api.get_opt(NAME).await.context("cannot ask for the VM")? {
        return Ok(!vm.status.unwrap_or_default().created);
    }
    let mut document = crate::apply::parse(MANIFEST)?;
    let body = document.pop().context("the example holds no object")?;
    let uri = format!(
        "/apis/{}/namespaces/{}/virtualmachines",
        body["apiVersion"]
            .as_str()
            .unwrap_or(api::names::API_VERSION),
        client.default_namespace()
    );
    let request = http::Request::post(uri)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&body)?)?;
    client
        .request::<serde_json::Value>(request)
        .await
        .context("the VM was refused")?;
    Ok(true)
}

/// A console is refused until there is an instance, so it is waited for first.
async fn until_running(args: &DemoArgs, deadline: Instant) -> anyhow::Result<()> {
    let client = crate::cluster::client(&args.cluster).await?;
    let api: Api<api::VirtualMachineInstance> = Api::default_namespaced(client);
    let mut phase = String::from("no instance");
    while Instant::now() < deadline {
        if let Some(vmi) = api.get_opt(NAME).await.context("cannot ask for the VMI")? {
            let status = vmi.status.unwrap_or_default();
            if status.phase == api::vmi_status::Phase::Running {
                return Ok(());
            }
            status.phase.as_str().clone_into(&mut phase);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!(
        "the VM did not run within {} s (phase: {phase}); look with `kubectl describe vmi {NAME}`",
        args.timeout
    )
}

fn command(args: &DemoArgs) -> anyhow::Result<Command> {
    let mut command = Command::new(program(&args.virtctl));
    command.env(
        "KUBECONFIG",
        std::env::join_paths(crate::cluster::kubeconfigs(&args.cluster)?)?,
    );
    Ok(command)
}

/// The virtctl beside this program when PATH has none.
fn program(named: &Path) -> std::path::PathBuf {
    if which::which(named).is_ok() {
        return named.to_owned();
    }
    std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(|dir| dir.join(named)))
        .filter(|path| path.exists())
        .unwrap_or_else(|| named.to_owned())
}

fn virtctl(args: &DemoArgs, words: &[&str]) -> anyhow::Result<()> {
    let output = command(args)?
        .args(words)
        .output()
        .with_context(|| format!("cannot run {}", args.virtctl.display()))?;
    if !output.status.success() {
        bail!(
            "virtctl {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// What ended the reading of a console.
enum Seen {
    Prompt,
    Interruption,
    /// The deadline.
    Nothing,
}

/// A `virtctl console` whose output is read here. An interruption ends the reading, not
/// this program, so that virtctl has ended before this program does.
struct Console {
    child: Child,
    chunks: mpsc::Receiver<Vec<u8>>,
    interrupted: Arc<AtomicBool>,
}

impl Console {
    fn open(args: &DemoArgs) -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        crate::interrupt::watch(move || flag.store(true, Ordering::Relaxed))?;
        let mut child = command(args)?
            .args(["console", NAME])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot run {}", args.virtctl.display()))?;
        let mut stdout = child.stdout.take().context("no output of virtctl")?;
        let (sender, chunks) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 4096];
            while let Ok(n) = stdout.read(&mut buffer) {
                if n == 0 || sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            chunks,
            interrupted,
        })
    }

    /// Prints what the guest prints until the prompt is there. A guest that was up
    /// before is woken with a line end, since its prompt was printed long ago.
    fn until_prompt(
        &mut self,
        deadline: Instant,
        fresh: bool,
        out: &Output,
    ) -> anyhow::Result<Seen> {
        let mut tail = String::new();
        let mut quiet_since = Instant::now();
        if !fresh {
            self.press_enter();
        }
        while Instant::now() < deadline {
            let next = self.chunks.recv_timeout(Duration::from_millis(100));
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(Seen::Interruption);
            }
            match next {
                Ok(chunk) => {
                    let text = String::from_utf8_lossy(&chunk).into_owned();
                    out.raw(&text);
                    tail.push_str(&text);
                    let keep = tail.len().saturating_sub(200);
                    let keep = (keep..tail.len())
                        .find(|i| tail.is_char_boundary(*i))
                        .unwrap_or(0);
                    tail.drain(..keep);
                    if tail.trim_end().ends_with(PROMPT) || (!fresh && tail.contains(SHELL)) {
                        return Ok(Seen::Prompt);
                    }
                    quiet_since = Instant::now();
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if quiet_since.elapsed() > Duration::from_secs(10) {
                        self.press_enter();
                        quiet_since = Instant::now();
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("cannot wait for virtctl")?;
                    bail!("virtctl console ended before the login prompt ({status})");
                }
            }
        }
        Ok(Seen::Nothing)
    }

    fn press_enter(&mut self) {
        use std::io::Write;
        if let Some(stdin) = self.child.stdin.as_mut() {
            // A console that is gone shows as a disconnect above.
            let _ = stdin.write_all(b"\r").and_then(|()| stdin.flush());
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
