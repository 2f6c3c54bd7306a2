//! The terminal in raw mode, given back in every way out: return, error,
//! panic (the hook runs before an abort) and signals (which end the console).

use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// How the terminal was before us, while it is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// Raw mode while it lives.
pub(crate) struct Raw(());

impl Raw {
    /// Makes the terminal on stdin raw; `None` when stdin is none.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub(crate) fn enter() -> anyhow::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(None);
        }
        let failed = |error| anyhow::anyhow!("make raw terminal failed: {error}");
        let before = tcgetattr(stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                usual(info);
            }));
        });
        let guard = Self(());
        tcsetattr(stdin, OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(Some(guard))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // Now, not when the output has drained: a stopped terminal must not keep us.
        if let Err(error) = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before) {
            crate::output::err(format!("failed to restore terminal: {error}"));
        }
    }
}
