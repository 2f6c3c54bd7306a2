//! Waits for files to appear, without polling (inotify(7)).
//!
//! One inotify instance serves all waits of a process: the kernel allows a user
//! only 128 of them by default, and the kubelet and the container runtime need
//! theirs.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// The process' inotify instance. Clones share it.
#[derive(Clone)]
pub struct Watcher {
    inner: Arc<Inner>,
}

struct Inner {
    fd: AsyncFd<OwnedFd>,
    /// Watch descriptor to those that wait on it, and how many they are.
    watches: Mutex<HashMap<i32, (Arc<Notify>, usize)>>,
}

/// A directory under watch until dropped.
pub struct Watched {
    inner: Arc<Inner>,
    descriptor: i32,
    notify: Arc<Notify>,
}

impl Watcher {
    /// Opens the instance and begins to listen; needs a tokio runtime.
    ///
    /// # Errors
    /// When the user has no instance left.
    pub fn new() -> io::Result<Self> {
        let fd = rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is owned: it stays the same open file until
        // the registration, which owns it, is dropped.
        let fd = unsafe { AsyncFd::register(fd) }?;
        let inner = Arc::new(Inner {
            fd,
            watches: Mutex::default(),
        });
        let listener = Arc::clone(&inner);
        tokio::spawn(async move {
            // Lives as long as the runtime: a process has one.
            loop {
                if let Err(error) = listener.dispatch().await {
                    tracing::error!("inotify failed: {error}");
                    return;
                }
            }
        });
        Ok(Self { inner })
    }

    /// Watches a directory for entries that come or go.
    ///
    /// # Errors
    /// When it is no directory, or no watch is left.
    pub fn watch(&self, directory: &Path) -> io::Result<Watched> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut watches = self
            .inner
            .watches
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let descriptor = rustix::fs::inotify::add_watch(self.inner.fd.get_ref(), directory, flags)?;
        let (notify, count) = watches.entry(descriptor).or_default();
        *count += 1;
        Ok(Watched {
            inner: Arc::clone(&self.inner),
            descriptor,
            notify: Arc::clone(notify),
        })
    }

    /// Resolves when `path` exists. Directories on the way may not exist yet;
    /// `root` must. Symbolic links count as existing.
    ///
    /// # Errors
    /// When `root` is not there or no watch is left.
    pub async fn wait_for(&self, root: &Path, relative: &Path) -> io::Result<()> {
        loop {
            let Some(directory) = deepest(root, relative)? else {
                return Ok(());
            };
            let watched = match self.watch(&directory) {
                Ok(watched) => watched,
                // Gone again since we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound && directory != root => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let changed = watched.changed();
            // It may have appeared between the look and the watch.
            if deepest(root, relative)?.as_deref() == Some(directory.as_path()) {
                changed.await;
            }
        }
    }
}

impl Watched {
    /// Resolves when something changed in the directory since this was called,
    /// or the directory itself went.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        let notify = Arc::clone(&self.notify);
        let mut waiting = Box::pin(notify.notified_owned());
        // Counts from now, not from the first poll.
        waiting.as_mut().enable();
        waiting
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut watches = self
            .inner
            .watches
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((notify, count)) = watches.get_mut(&self.descriptor) {
            // A directory that went and came again has a new descriptor; the
            // kernel never uses an old number again, but look anyway.
            if !Arc::ptr_eq(notify, &self.notify) {
                return;
            }
            *count -= 1;
            if *count == 0 {
                watches.remove(&self.descriptor);
                // The kernel has removed it already when the directory is gone.
                let _ = rustix::fs::inotify::remove_watch(self.inner.fd.get_ref(), self.descriptor);
            }
        }
    }
}

impl Inner {
    async fn dispatch(&self) -> io::Result<()> {
        let mut guard = self.fd.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.fd.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
                    if event.wd() < 0 {
                        // The queue overflowed: anything may have happened.
                        watches
                            .values()
                            .for_each(|(notify, _)| notify.notify_waiters());
                    } else if let Some((notify, _)) = watches.get(&event.wd()) {
                        notify.notify_waiters();
                    }
                }
                Err(rustix::io::Errno::AGAIN) => {
                    guard.clear_ready();
                    return Ok(());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The deepest directory on the way to the path that exists; `None` when the
/// whole path does.
fn deepest(root: &Path, relative: &Path) -> io::Result<Option<PathBuf>> {
    std::fs::symlink_metadata(root)?;
    let mut directory = root.to_owned();
    for part in relative.components() {
        let next = directory.join(part);
        match std::fs::symlink_metadata(&next) {
            Ok(_) => directory = next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(directory)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_file_deep_below_is_seen_when_it_appears() {
        let root = tempfile::tempdir().unwrap();
        let watcher = Watcher::new().unwrap();
        let path = root.path().to_owned();
        let maker = std::thread::spawn(move || {
            for part in ["a", "a/b", "a/b/c"] {
                std::thread::sleep(Duration::from_millis(20));
                std::fs::create_dir(path.join(part)).unwrap();
            }
            std::fs::write(path.join("a/b/c/s"), "").unwrap();
        });
        let wait = watcher.wait_for(root.path(), Path::new("a/b/c/s"));
        tokio::time::timeout(Duration::from_secs(5), wait)
            .await
            .unwrap()
            .unwrap();
        maker.join().unwrap();
        assert!(watcher.inner.watches.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn two_wait_in_one_directory() {
        let root = tempfile::tempdir().unwrap();
        let watcher = Watcher::new().unwrap();
        let path = root.path().to_owned();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            std::fs::write(path.join("one"), "").unwrap();
            std::fs::write(path.join("two"), "").unwrap();
        });
        let (one, two) = futures::join!(
            watcher.wait_for(root.path(), Path::new("one")),
            watcher.wait_for(root.path(), Path::new("two"))
        );
        one.unwrap();
        two.unwrap();
    }
}
