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
//!
//! An operator is an [`Operator`]: it says what one owner needs next, with the
//! help of its [`Kit`]; [`lead`] calls it.

mod credentials;
mod follow;
mod hand;
mod kit;
mod lead;
mod store;

use credentials::{Credentials, Kept};
pub use follow::Seen;
use follow::Stream;
pub use hand::{Hand, hash};
use hand::{Rendered, passing};
pub use kit::{Applied, Kit, Wish, lasting};
pub use lead::{Operator, lead, round};
pub use store::{Meta, Pods, Store};
