//! What operators share: they follow one kind of object that says what is
//! wanted (the owner), and everything they made for it (by label), apply what
//! differs and delete what should go.
//!
//! ```text
//!   watches ─► Store ─► (the operator decides) ─► Hand: apply / delete
//!                ▲                                  │
//!                └────────── answers of the API ◄───┘
//! ```
//! Nothing is cached: of each object the store knows version and generation,
//! the hand a hash of what it applied last.

mod credentials;
mod follow;
mod hand;
mod store;

pub use credentials::{Credentials, Kept};
pub use follow::{Seen, Stream, managed, owners};
pub use hand::{Hand, Rendered, hash, passing};
pub use store::{Meta, Pods, Store};
