//! SIGINT and SIGTERM, which then do not end this program by themselves.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code after an interruption, as shells have it: 128 and SIGINT.
pub(crate) const EXIT: u8 = 130;

/// Calls `on_signal` at every signal, on a thread of its own, from now on: none that comes after this
/// returns is missed.
///
/// # Errors
/// When signals cannot be watched.
pub(crate) fn watch(mut on_signal: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    const WHAT: &str = "cannot watch for signals";
    let runtime = crate::cluster::runtime()?;
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        (
            signal(SignalKind::interrupt()).context(WHAT)?,
            signal(SignalKind::terminate()).context(WHAT)?,
        )
    };
    let _ = std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    on_signal();
                }
            });
        })
        .context(WHAT)?;
    Ok(())
}
