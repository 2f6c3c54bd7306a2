//! Whether somebody disciplines the clock (adjtimex(2)).

use std::io;

use nix::libc;

/// What the kernel knows of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discipline {
    /// adjtimex's return value: TIME_OK 0 to TIME_ERROR 5.
    pub state: i32,
    /// `status`: STA_UNSYNC is 0x40.
    pub status: i32,
    /// `maxerror`, microseconds.
    pub maximum_error: i64,
}

/// Asks, changes nothing.
///
/// # Errors
/// When the kernel refuses, which it does only behind a seccomp filter.
pub fn discipline() -> io::Result<Discipline> {
    #[allow(unsafe_code)]
    // SAFETY: all of `timex` is integers, for which zeros are values; `modes`
    // 0 makes the call a question.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    #[allow(unsafe_code)]
    // SAFETY: `asked` is a live `timex` that the kernel fills in.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Discipline {
        state,
        status: asked.status,
        maximum_error: asked.maxerror,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernel_answers_without_a_change() {
        let answer = discipline().unwrap();
        assert!((0..=5).contains(&answer.state), "{answer:?}");
    }
}
