//! CDI: images in, claims filled with them out.
//!
//! ```text
//!   cdi-operator ── makes ──► cdi-apiserver  cdi-deployment  cdi-uploadproxy
//!
//!   client ── token ──► cdi-apiserver
//!   client ── bytes ──► cdi-uploadproxy ──► cdi-uploadserver ──► the claim
//!   DataVolume ─► cdi-deployment ─► claim + worker pod ─► cdi-importer / cdi-cloner ──► the claim
//! ```
//! One module for each program. Programs do not call one another: they meet in the API
//! server's objects and over HTTP.

pub mod apiserver;
pub mod controller;
pub mod operator;
mod passage;
pub mod token;
pub mod uploadproxy;
pub mod worker;

#[cfg(test)]
mod testing;
