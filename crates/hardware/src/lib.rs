//! Facts of a node in, verdicts out. Pure: whoever gathers the facts (this
//! machine, a probe over SSH, a captured tree) gets the same verdicts.
//!
//! A verdict comes from an effect, never from a string: virtualization works
//! when a guest ran, not when a flag is listed.

mod checks;
mod facts;
mod verdict;

pub use checks::{Requirements, judge};
pub use facts::{CpuVendor, Facts, Kvm};
pub use verdict::{Status, Verdict, worst};
