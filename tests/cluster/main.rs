//! Behaviour on a real cluster, driven through kubectl and virtctl as a user would.
//!
//! Needs a cluster (`make up`), KUBECONFIG, and kubectl and virtctl on PATH;
//! `make test` provides all of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clones_across;
mod control_plane;
mod crons;
mod csi;
mod datavolumes;
mod doctor;
mod faults;
mod fixtures;
mod guest;
mod hostile;
mod images;
mod imports;
mod interrupts;
mod kills;
mod lifecycle;
mod manifest;
mod memory;
mod populators;
mod reach;
mod refusals;
mod stateful;
mod tokens;
mod transfers;
mod two_nodes;
mod volumes;
mod walkthrough;
mod web;
