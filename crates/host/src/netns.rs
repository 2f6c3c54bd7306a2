//! Work inside another process' network namespace.
//!
//! A thread enters a namespace for good: it is made for one piece of work and
//! ends with it, so no thread of the runtime ever changes its namespace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The network namespace of a process.
///
/// # Errors
/// When the process is gone or may not be looked into.
pub fn of_process(pid: u32) -> io::Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    Ok(rustix::fs::open(
        path.as_str(),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// The caller's network namespace.
///
/// # Errors
/// When /proc is not there.
pub fn current() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/proc/thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Runs `work` inside `namespace` on a thread of its own and waits for it.
///
/// # Errors
/// When the namespace cannot be entered, or `work` panicked.
pub fn run_in<T, F>(namespace: BorrowedFd<'_>, work: F) -> io::Result<T>
where
    T: Send,
    F: FnOnce() -> T + Send,
{
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, move || enter(namespace).map(|()| work()))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the work in a network namespace panicked")))
    })
}

/// Like [`run_in`], without holding up the caller's runtime.
///
/// # Errors
/// As [`run_in`].
pub async fn run_in_async<T, F>(namespace: OwnedFd, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            // Nobody may be left to hear the outcome; that is theirs to decide.
            let _ = send.send(enter(namespace.as_fd()).map(|()| work()));
        })?;
    receive
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the work in a network namespace panicked")))
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    Ok(())
}
