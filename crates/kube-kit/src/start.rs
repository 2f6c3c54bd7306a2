//! The frame of a component's `main`: logging, crypto provider, one-thread
//! runtime, signals and exit code.
//!
//! A component is one thread: at rest it uses no processor, and a second
//! thread would cost an allocator arena and a stack for nothing.

use std::future::Future;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Cancelled when the process is asked to stop (SIGTERM or SIGINT).
pub type Shutdown = CancellationToken;

/// How long work registered with [`defer_exit`] may run after the component's
/// own future has ended. Well below the 30 s a pod is given to stop.
const CLOSING: Duration = Duration::from_secs(3);

/// How long a thread of the blocking pool (name resolution) lives unused.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Runs the component `name` to its end and gives the process' exit code.
///
/// Logs go to stderr at level `info`, or as the environment's `RUST_LOG` says
/// (`target=level` pairs; no regular expressions, their engine costs memory).
/// An error of `f` is logged with its causes and gives exit code 1; an error
/// that only says that we were stopped ([`crate::lease::Stopped`]) gives 0.
pub fn start<F, Fut>(name: &str, f: F) -> ExitCode
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    init_tracing();
    install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot build the runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::new();
        let signals = tokio::spawn(stop_on_signal(shutdown.clone()));
        tracing::info!(
            component = name,
            version = env!("CARGO_PKG_VERSION"),
            "started"
        );
        let outcome = f(shutdown.clone()).await;
        shutdown.cancel();
        closers().close();
        if tokio::time::timeout(CLOSING, closers().wait())
            .await
            .is_err()
        {
            tracing::warn!("unfinished work was left behind at exit");
        }
        signals.abort();
        outcome
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    match outcome {
        Ok(()) => {
            tracing::info!(component = name, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) if error.is::<crate::lease::Stopped>() => {
            tracing::info!(component = name, "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(component = name, "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `future` in the background and keeps the process alive for it (for at
/// most three seconds) when the component ends: releasing a lease, for example.
pub fn defer_exit<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    closers().spawn(future);
}

fn closers() -> &'static TaskTracker {
    static CLOSERS: OnceLock<TaskTracker> = OnceLock::new();
    CLOSERS.get_or_init(TaskTracker::new)
}

/// Makes ring the process' one crypto provider. Doing it twice is harmless.
pub(crate) fn install_crypto_provider() {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a crypto provider was installed before");
    }
}

fn init_tracing() {
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|text| text.parse::<Targets>().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // A second start in one process (tests) keeps the first subscriber.
    if tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()
        .is_err()
    {
        tracing::debug!("logging was set up before");
    }
}

async fn stop_on_signal(shutdown: Shutdown) {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("cannot listen for signals; the component stops only when killed");
        return;
    };
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "stopping");
    shutdown.cancel();
}
