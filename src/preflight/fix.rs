//! `--fix`: what software can put right. The plan is made from the verdicts, shown as a
//! diff, and carried out by a shell program that is pushed like the probe; afterwards
//! the node is judged again by effect.

mod grub;
pub(crate) mod plan;
mod script;

pub(crate) use plan::{Plan, plan};
pub(crate) use script::{BOOT_ID, REBOOT, apply, look, read_answer};
