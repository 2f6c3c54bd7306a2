//! What every in-cluster component needs around its own subject: a small
//! runtime, a client of the API server, watches without a cache, a work queue,
//! a leader lease, certificates and TLS that reload themselves, an HTTP server,
//! health endpoints, events and server-side apply.
//!
//! Two properties shape all of it. *Memory*: a component is one thread, keeps
//! no copy of the cluster, and gives buffers back when they are idle.
//! *Quiet*: nothing polls the API server; a watch renews itself about once in
//! an hour, so an idle component costs next to no requests.

pub mod access;
pub mod answer;
pub mod apply;
pub mod args;
pub mod certs;
mod client;
pub mod events;
pub mod front_proxy;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod operator;
pub mod queue;
pub mod rotation;
pub mod serve;
mod start;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
pub mod watch;

pub use client::{client, client_for, is_conflict, is_gone, is_not_found, reason, status_code};
pub use serve::serve;
pub use start::{Shutdown, defer_exit, start};
