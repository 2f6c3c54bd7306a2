//! decide
pub mod admission;
pub mod subresource;
