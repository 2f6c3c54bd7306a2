//! The whole server over a fake API server, a fake virt-handler with real TLS
//! and a fake guest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod requests;
mod streams;
mod world;
