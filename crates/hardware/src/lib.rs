//! Facts of a node in, verdicts out. Pure: whoever gathers the facts (this
//! machine, a probe over SSH, a captured tree) gets the same verdicts.
//!
//! A verdict comes from an effect, never from a string: virtualization works
//! when a guest ran, not when a flag is listed.

mod checks;
pub mod facts;
pub mod parse;
mod requirements;
mod verdict;

pub use checks::judge;
pub use facts::{CpuVendor, Facts};
pub use requirements::{DeviceType, HugepagesWanted, Requirements, Role, SriovPolicy};
pub use verdict::{Fix, Status, Verdict, worst};
