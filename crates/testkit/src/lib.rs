//! Harness of the tests that run on a real cluster. Everything goes through the
//! programs a user has: kubectl and virtctl.
//!
//! Every test makes a namespace of its own and removes it, also when it panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod console;
mod namespace;
mod program;
mod wait;

pub use console::Console;
pub use namespace::Namespace;
pub use program::{Output, kubectl, virtctl};
pub use wait::{eventually, eventually_within};
