//! A queue of keys to reconcile.
//!
//! A key that is queued twice before it is taken comes out once. A key that is
//! queued while it is being worked on comes out again after [`WorkQueue::done`],
//! never at the same time. Failures come back with exponential backoff.
//!
//! ```text
//!   add ──────────────► ready ── next() ──► processing ── done() ──► gone
//!   add_after/retry ─► delayed ─(time)─► ready      └ added meanwhile: ready
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// First delay of [`WorkQueue::retry`].
pub const BACKOFF_BASE: Duration = Duration::from_millis(200);
/// Longest delay of [`WorkQueue::retry`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The delay before attempt number `failures` (1 is the first retry).
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    BACKOFF_BASE.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

/// See the module. Clones share one queue.
#[derive(Debug)]
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

#[derive(Debug)]
struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    processing: HashSet<K>,
    delayed: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            processing: HashSet::new(),
            delayed: HashMap::new(),
            failures: HashMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Notify::new(),
            }),
        }
    }

    /// Queues `key` now; a pending delay of it is dropped.
    pub fn add(&self, key: K) {
        self.with(|state| {
            state.delayed.remove(&key);
            state.push(key);
        });
        self.shared.changed.notify_one();
    }

    /// Queues `key` after `delay`; the earlier of two delays counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        self.with(|state| {
            if !state.queued.contains(&key) {
                state
                    .delayed
                    .entry(key)
                    .and_modify(|known| *known = (*known).min(at))
                    .or_insert(at);
            }
        });
        self.shared.changed.notify_one();
    }

    /// Queues `key` after its backoff and gives that delay. Each call doubles
    /// the next one, until [`WorkQueue::forget`].
    pub fn retry(&self, key: K) -> Duration {
        let failures = self.with(|state| {
            let count = state.failures.entry(key.clone()).or_insert(0);
            *count = count.saturating_add(1);
            *count
        });
        let delay = backoff(failures);
        self.add_after(key, delay);
        delay
    }

    /// Sets the backoff of `key` back to its start: call it after a success.
    pub fn forget(&self, key: &K) {
        self.with(|state| state.failures.remove(key));
    }

    /// Says that the work on a key given by [`WorkQueue::next`] has ended.
    pub fn done(&self, key: &K) {
        let again = self.with(|state| {
            state.processing.remove(key);
            if state.queued.contains(key) {
                state.ready.push_back(key.clone());
                true
            } else {
                false
            }
        });
        if again {
            self.shared.changed.notify_one();
        }
    }

    /// The next key; waits for one. Cancel-safe. Several workers may wait.
    pub async fn next(&self) -> K {
        loop {
            let (key, wake) = self.with(|state| {
                state.promote(Instant::now());
                (state.pop(), state.delayed.values().min().copied())
            });
            if let Some(key) = key {
                // Another worker may sleep while more is ready.
                self.shared.changed.notify_one();
                return key;
            }
            match wake {
                Some(at) => tokio::select! {
                    () = self.shared.changed.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.shared.changed.notified().await,
            }
        }
    }

    /// How many keys are ready or delayed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|state| state.queued.len() + state.delayed.len())
    }

    /// Nothing is ready or delayed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<R>(&self, f: impl FnOnce(&mut State<K>) -> R) -> R {
        f(&mut self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn push(&mut self, key: K) {
        if self.queued.insert(key.clone()) && !self.processing.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn pop(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.processing.insert(key.clone());
        Some(key)
    }

    fn promote(&mut self, now: Instant) {
        let due: Vec<K> = self
            .delayed
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.delayed.remove(&key);
            self.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    async fn now_or_none(queue: &WorkQueue<&'static str>) -> Option<&'static str> {
        tokio::time::timeout(Duration::from_millis(1), queue.next())
            .await
            .ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_comes_out_once() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert_eq!(now_or_none(&queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_during_its_work_comes_out_only_after_done() {
        let queue = WorkQueue::new();
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert_eq!(now_or_none(&queue).await, None);
        queue.done(&"a");
        assert_eq!(now_or_none(&queue).await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_key_waits_and_an_earlier_delay_wins() {
        let queue = WorkQueue::new();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(20));
        let start = Instant::now();
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn adding_now_drops_the_delay() {
        let queue = WorkQueue::new();
        queue.add_after("a", Duration::from_secs(10));
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(now_or_none(&queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_double_until_forgotten() {
        let queue = WorkQueue::new();
        let delays: Vec<u128> = (0..4).map(|_| queue.retry("a").as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600]);
        queue.forget(&"a");
        assert_eq!(queue.retry("a").as_millis(), 200);
    }

    #[test]
    fn backoff_is_capped_and_never_overflows() {
        assert_eq!(backoff(0), BACKOFF_BASE);
        assert_eq!(backoff(1), BACKOFF_BASE);
        assert_eq!(backoff(40), BACKOFF_MAX);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }
}
