//! Facts of a node in, verdicts out. Pure: whoever gathers the facts (this
//! machine, a probe over SSH, a captured tree) gets the same verdicts.
//!
//! A verdict comes from an effect, never from a string: virtualization works
//! when a guest ran, not when a flag is listed.

pub mod boot;
pub mod catalogue;
mod checks;
pub mod facts;
mod finding;
pub mod parse;
pub mod report;
mod requirements;
mod verdict;

pub use catalogue::{Check, Remedy, catalogue, check, explain, judge, markdown};
pub use checks::ports::is_port_of_cluster;
pub use checks::select::trial_targets;
pub use facts::{CpuVendor, Facts};
pub use requirements::{DeviceType, HugepagesWanted, Requirements, Role, SriovPolicy};
pub use verdict::{Fix, Status, Verdict, fixes, worst};
