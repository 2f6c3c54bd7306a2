//! `edgevirt preflight` over SSH on booted nodes: every variant of testbed/edge-node gets the verdicts it must get.
//!
//! Needs `cargo xtask edge-node build` and the static probe; `make test-nodes` provides both.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attempt;
mod faults;
mod fix;
mod harness;
mod preflight;
mod trial;
mod variants;
