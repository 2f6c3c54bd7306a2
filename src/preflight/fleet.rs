//! Work on many nodes at once: a fixed number of threads with small stacks takes one
//! node after the other. Nobody waits for a node but the thread that serves it.

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::ssh::Cancel;

/// Bytes of a thread's stack. The deepest call is a handshake, which takes some 60 KiB.
const STACK: usize = 512 << 10;
/// After an interruption, how long nodes get to clean up.
const GRACE: Duration = Duration::from_secs(3);

/// What happens to a node, by its index.
#[derive(Debug)]
pub(crate) enum Event<R> {
    /// Work on it began.
    Started(usize),
    /// Work on it ended.
    Done(usize, R),
}

/// Calls `work` for every item on `forks` threads, and `on_event` on this one. Returns
/// when all are done, or a moment after an interruption; items nobody began, or that
/// did not end in time, then have no event.
pub(crate) fn each<T, R>(
    items: Vec<T>,
    forks: usize,
    cancel: &Cancel,
    work: impl Fn(T) -> R + Send + Sync + 'static,
    mut on_event: impl FnMut(Event<R>),
) -> anyhow::Result<()>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let total = items.len();
    let queue: Arc<Mutex<VecDeque<(usize, T)>>> =
        Arc::new(Mutex::new(items.into_iter().enumerate().collect()));
    let work = Arc::new(work);
    let (sender, receiver) = mpsc::channel();
    for _ in 0..forks.clamp(1, total.max(1)) {
        let (queue, work) = (Arc::clone(&queue), Arc::clone(&work));
        let (sender, cancel) = (sender.clone(), cancel.clone());
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || {
                while !cancel.is_cancelled() {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                    let Some((index, item)) = next else { return };
                    if sender.send(Event::Started(index)).is_err() {
                        return;
                    }
                    let result = work(item);
                    if sender.send(Event::Done(index, result)).is_err() {
                        return;
                    }
                }
            })?;
    }
    drop(sender);
    let mut until: Option<Instant> = None;
    loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(event) => on_event(event),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if cancel.is_cancelled() {
            let until = *until.get_or_insert_with(|| Instant::now() + GRACE);
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_by_no_more_threads_than_asked() {
        let running = Arc::new(Mutex::new((0usize, 0usize)));
        let seen = Arc::clone(&running);
        let mut done = Vec::new();
        each(
            (0..20).collect(),
            3,
            &Cancel::default(),
            move |n: i32| {
                {
                    let mut now = seen.lock().unwrap();
                    now.0 += 1;
                    now.1 = now.1.max(now.0);
                }
                std::thread::sleep(Duration::from_millis(5));
                seen.lock().unwrap().0 -= 1;
                n * 2
            },
            |event| {
                if let Event::Done(index, result) = event {
                    done.push((index, result));
                }
            },
        )
        .unwrap();
        done.sort_unstable();
        let expected: Vec<_> = (0..20usize).map(|n| (n, n as i32 * 2)).collect();
        assert_eq!(done, expected);
        assert!(running.lock().unwrap().1 <= 3);
    }

    #[test]
    fn an_interruption_ends_it_though_an_item_hangs() {
        let cancel = Cancel::default();
        let inner = cancel.clone();
        let start = Instant::now();
        each(
            vec![0, 1],
            1,
            &cancel,
            move |_| {
                inner.cancel();
                std::thread::sleep(Duration::from_secs(30));
            },
            |_| {},
        )
        .unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
