//! Ctrl-C and SIGTERM: the first asks every node's thread to end, so that nodes are
//! cleaned up; the second ends this program at once.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::ssh::Cancel;

/// Watches for signals on a thread of its own.
pub(super) fn watch(cancel: &Cancel) -> anyhow::Result<()> {
    let cancel = cancel.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot watch for signals")?;
    std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(move || {
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                ) else {
                    return;
                };
                for again in [false, true] {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if again {
                        std::process::exit(i32::from(super::EXIT_INTERRUPTED));
                    }
                    cancel.cancel();
                }
            });
        })
        .context("cannot watch for signals")?;
    Ok(())
}
