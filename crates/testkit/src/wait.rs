//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// Calls `probe` until it gives a value, at most two minutes.
///
/// # Panics
/// With the last reason when it never does.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Result<T, String>) -> T {
    eventually_within(Duration::from_secs(120), what, probe)
}

/// Calls `probe` every 200 ms until it gives a value, at most `limit`.
///
/// # Panics
/// With the last reason when it never does.
pub fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= deadline => {
                panic!("{what}: not within {limit:?}; last: {reason}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}
