//! Wire types of the API groups edgevirt serves or reads, and the names that
//! travel with them (labels, annotations, finalizers, reasons).
//!
//! The structs model what edgevirt acts on. They are views: an object is never
//! written back from them, so fields they do not know stay in the cluster. The
//! full list of fields, and which of them are refused, is in `schema`.
//! Source of names and shapes: KubeVirt API v1 (kubevirt.io/api/core/v1).

pub mod cdi;
pub mod condition;
pub mod kubevirt;
pub mod launcher;
pub mod names;
pub mod objects;
pub mod resource;
pub mod schema;
pub mod subresource;
pub mod upload;
pub mod vm;
pub mod vmi;
pub mod vmi_status;

pub use condition::Condition;
pub use kubevirt::KubeVirt;
pub use vm::VirtualMachine;
pub use vmi::VirtualMachineInstance;
