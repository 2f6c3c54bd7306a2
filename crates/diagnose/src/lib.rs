//! What is known of a cluster, judged: verdicts of the shape that nodes get
//! ([`hardware::Verdict`]), each with evidence and the exact command that helps.
//!
//! ```text
//! edgevirt doctor cdi ─▶ Facts (read, dialled, tried) ─▶ judge ─▶ verdicts ─▶ table, JSON, JUnit
//! ```
//!
//! Pure: whoever gathers the facts calls [`judge`]. What could not be read is an `Err` with
//! the reason, and its check is skipped with that reason; it is never taken for absent.

mod certificate;
mod facts;
mod policy;
mod programs;
mod proxy;
mod selector;
mod space;
mod storage;
mod stuck;
#[cfg(test)]
mod tests;
mod token;
mod verdict;

pub use facts::{Attempt, Certificate, Door, Facts, Greeting, Read, Room, Token, Way};
pub use verdict::{CHECKS, Check};

use hardware::Verdict;

/// Every verdict on CDI, in the order in which an upload meets what they are about.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Verdict> {
    [
        programs::object,
        programs::deployments,
        programs::upload_api,
        proxy::service,
        proxy::address,
        proxy::url,
        certificate::judge,
        policy::judge,
        token::judge,
        storage::classes,
        storage::profiles,
        space::judge,
        stuck::judge,
    ]
    .iter()
    .flat_map(|check| check(facts))
    .collect()
}
