//! Harness of the tests that run on a real cluster or on booted nodes. Everything goes
//! through the programs a user has: kubectl, virtctl, edgevirt.
//!
//! Every test makes a namespace or nodes of its own and removes them, also when it panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod background;
mod console;
pub mod edge_node;
mod namespace;
mod program;
mod wait;

pub use background::Background;
pub use console::Console;
pub use namespace::Namespace;
pub use program::{Output, edgevirt, edgevirt_program, kubectl, virtctl, virtctl_program};
pub use wait::{eventually, eventually_within};
