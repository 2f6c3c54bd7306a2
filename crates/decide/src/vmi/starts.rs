//! Whose turn it is to start.
//!
//! A node starts many guests in the time that it starts them one after the other, since
//! each start is work of its processors. Begun all at once, all of them end last; begun in
//! order and a few at a time, half of them run after half of that time. So only some
//! launcher pods are on their way at any moment, and the others wait in the order in which
//! they came.
//!
//! ```text
//!   ask ──► waiting ──(a place is free)──► on the way ──► ready, failed, gone: over
//!     └───────────────────────────────────────▲   └── after PATIENCE: no longer counted
//! ```
//! A start that is slow for reasons of its own, such as an image to be pulled, gives its
//! place up after [`PATIENCE_SECONDS`], so nobody waits for a stuck one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use jiff::{SignedDuration, Timestamp};

/// How long a start keeps its place. An emulated guest on two busy processors is up in less.
pub const PATIENCE_SECONDS: i64 = 5;
/// Starts at once for each processor. One start waits for the disk and for other
/// processes about as long as it computes.
const PER_PROCESSOR: usize = 2;

/// Starts that may be on their way at once in a cluster whose nodes have so many processors.
#[must_use]
pub fn places(processors: usize) -> usize {
    processors.max(1).saturating_mul(PER_PROCESSOR)
}

/// See the module. `K` names a VMI.
#[derive(Debug)]
pub struct Starts<K> {
    on_the_way: HashMap<K, Timestamp>,
    waiting: VecDeque<K>,
}

impl<K> Default for Starts<K> {
    fn default() -> Self {
        Self {
            on_the_way: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Starts<K> {
    /// Whether this VMI's pod may be made now: `None`, or when to ask again at the latest.
    pub fn ask(&mut self, key: &K, places: usize, now: Timestamp) -> Option<Timestamp> {
        let patience = SignedDuration::from_secs(PATIENCE_SECONDS);
        self.on_the_way
            .retain(|_, since| now.duration_since(*since) < patience);
        self.promote(places, now);
        if self.on_the_way.contains_key(key) {
            return None;
        }
        if self.on_the_way.len() < places {
            self.on_the_way.insert(key.clone(), now);
            return None;
        }
        if !self.waiting.contains(key) {
            self.waiting.push_back(key.clone());
        }
        let oldest = self.on_the_way.values().min().copied().unwrap_or(now);
        Some(oldest.checked_add(patience).unwrap_or(now))
    }

    /// This VMI's start is over, however it ended: those whose turn it is now.
    pub fn over(&mut self, key: &K, places: usize, now: Timestamp) -> Vec<K> {
        self.waiting.retain(|waiting| waiting != key);
        if self.on_the_way.remove(key).is_none() {
            return Vec::new();
        }
        self.promote(places, now)
    }

    fn promote(&mut self, places: usize, now: Timestamp) -> Vec<K> {
        let free = places.saturating_sub(self.on_the_way.len());
        let next: Vec<K> = self.waiting.drain(..free.min(self.waiting.len())).collect();
        for key in &next {
            self.on_the_way.insert(key.clone(), now);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn starts_beyond_the_places_wait_in_the_order_they_came() {
        let mut starts = Starts::default();
        assert_eq!(starts.ask(&"a", 2, at(0)), None);
        assert_eq!(starts.ask(&"b", 2, at(1)), None);
        assert_eq!(starts.ask(&"c", 2, at(1)), Some(at(5)));
        assert_eq!(starts.ask(&"d", 2, at(1)), Some(at(5)));
        assert_eq!(starts.ask(&"a", 2, at(2)), None, "asked again");
        assert_eq!(starts.over(&"b", 2, at(2)), ["c"]);
        assert_eq!(starts.ask(&"e", 2, at(2)), Some(at(5)), "behind d");
        assert_eq!(starts.over(&"a", 2, at(2)), ["d"]);
        assert_eq!(starts.ask(&"c", 2, at(2)), None);
        assert_eq!(starts.ask(&"d", 2, at(2)), None);
    }

    #[test]
    fn a_stuck_start_gives_its_place_up() {
        let mut starts = Starts::default();
        assert_eq!(starts.ask(&"stuck", 1, at(0)), None);
        assert_eq!(starts.ask(&"a", 1, at(1)), Some(at(5)));
        assert_eq!(starts.ask(&"b", 1, at(2)), Some(at(5)));
        assert_eq!(starts.ask(&"b", 1, at(5)), Some(at(10)), "a has the place");
        assert_eq!(starts.ask(&"a", 1, at(5)), None);
        assert!(starts.over(&"stuck", 1, at(6)).is_empty());
    }

    #[test]
    fn one_that_is_deleted_while_it_waits_is_forgotten() {
        let mut starts = Starts::default();
        assert_eq!(starts.ask(&"a", 1, at(0)), None);
        assert!(starts.ask(&"b", 1, at(0)).is_some());
        assert!(starts.ask(&"c", 1, at(0)).is_some());
        assert!(starts.over(&"b", 1, at(1)).is_empty());
        assert_eq!(starts.over(&"a", 1, at(1)), ["c"]);
    }

    #[test]
    fn a_cluster_without_known_processors_still_starts() {
        assert_eq!(places(0), 2);
        assert_eq!(places(2), 4);
    }
}
