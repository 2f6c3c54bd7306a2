//! decide
pub mod admission;
pub mod operator;
pub mod subresource;
pub mod conditions;
pub mod merge;
pub mod node;
pub mod plan;
pub mod pod;
pub mod vm;
pub mod vmi;
pub mod handler;
