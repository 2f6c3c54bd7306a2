//! CDI's decisions: what a DataVolume, its claim and its worker pod need next.
//!
//! ```text
//!   DataVolume ──claim──► claim ──worker──► pod
//!       ▲                   ▲                │
//!       └─────status────────┴─────state──────┘
//! ```
//! What the pod does is written onto the claim as annotations, which clients
//! poll, and the DataVolume's status follows from the claim alone. So a claim
//! that nobody made a DataVolume for is filled in the same way.

pub mod across;
pub mod admission;
pub mod claim;
pub mod cluster;
pub mod cron;
pub mod datasource;
pub mod operator;
mod pod;
pub mod populator;
pub mod profile;
pub mod size;
pub mod smart;
pub mod state;
pub mod status;
pub mod strategy;
pub mod transfer;
pub mod volume;
pub mod worker;
