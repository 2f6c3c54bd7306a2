//! decide
pub mod admission;
pub mod cdi;
pub mod conditions;
pub mod handler;
pub mod merge;
pub mod node;
pub mod operate;
pub mod operator;
pub mod plan;
pub mod pod;
pub mod storage;
pub mod subresource;
pub mod vm;
pub mod vmi;
