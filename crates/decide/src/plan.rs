//! What every reconciler's decision looks like: steps to take, and when to
//! look again though nothing changed.

use std::time::Duration;

use jiff::Timestamp;

/// An event to publish about the object that was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// It needs attention.
    pub warning: bool,
    /// CamelCase word for programs.
    pub reason: &'static str,
    /// Sentence for people.
    pub message: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Step<Op> {
    /// The thing.
    pub op: Op,
    /// Published once it is done.
    pub done: Option<Event>,
    /// Reason of the event and the condition when it cannot be done; `None`
    /// when that is worth a log line only.
    pub failed: Option<&'static str>,
}

/// What to do, in order. A step is taken only if those before it succeeded.
/// An empty plan means that all is as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<Op> {
    /// The steps.
    pub steps: Vec<Step<Op>>,
    /// Look again after this time, whatever happens.
    pub requeue: Option<Duration>,
}

impl<Op> Default for Plan<Op> {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            requeue: None,
        }
    }
}

impl<Op> Plan<Op> {
    /// Adds a step that is worth no event.
    pub fn push(&mut self, op: Op) {
        self.steps.push(Step {
            op,
            done: None,
            failed: None,
        });
    }

    /// Looks again at `then`, or earlier.
    pub fn look_again(&mut self, now: Timestamp, then: Timestamp) {
        let millis = then.as_millisecond().saturating_sub(now.as_millisecond());
        let wait = Duration::from_millis(u64::try_from(millis).unwrap_or(0).max(1));
        self.requeue = Some(self.requeue.map_or(wait, |known| known.min(wait)));
    }
}

/// The last step that failed, kept until one like it succeeds or the object changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// CamelCase word for programs.
    pub reason: String,
    /// Sentence for people.
    pub message: String,
    /// Not to be tried again before.
    pub retry_at: Timestamp,
}

impl Failure {
    /// It is too early to try again.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.retry_at
    }
}

/// `now` without its fraction: times on the wire have whole seconds, and a
/// status that differs in a fraction would be patched for ever.
#[must_use]
pub fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
