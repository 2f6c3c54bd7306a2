//! Who is connected to which socket: a newer one replaces an older one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Namespace and name of the VMI, and the socket.
pub(super) type Key = (String, String, &'static str);

/// All open streams.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<Key, (u64, CancellationToken)>>,
}

/// One open stream, until dropped.
pub(super) struct Session {
    sessions: Arc<Sessions>,
    key: Key,
    number: u64,
    replaced: CancellationToken,
}

impl Sessions {
    /// Somebody is connected.
    pub(super) fn is_open(&self, key: &Key) -> bool {
        self.lock().contains_key(key)
    }

    /// Takes the socket; who had it is told.
    pub(super) fn take(self: &Arc<Self>, key: Key) -> Session {
        let replaced = CancellationToken::new();
        let mut open = self.lock();
        let before = open.remove(&key);
        let number = before.as_ref().map_or(0, |(number, _)| number + 1);
        if let Some((_, older)) = before {
            older.cancel();
        }
        open.insert(key.clone(), (number, replaced.clone()));
        Session {
            sessions: Arc::clone(self),
            key,
            number,
            replaced,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (u64, CancellationToken)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Resolves when a newer one took the socket.
    pub(super) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut open = self.sessions.lock();
        if open
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number)
        {
            open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_session_replaces_the_older_and_outlives_its_end() {
        let sessions = Arc::new(Sessions::default());
        let key = || ("n".to_owned(), "a".to_owned(), "s");
        let first = sessions.take(key());
        assert!(sessions.is_open(&key()));
        let second = sessions.take(key());
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert!(sessions.is_open(&key()));
        drop(second);
        assert!(!sessions.is_open(&key()));
    }
}
