//! From a VMI's specification to the machine that runs it: validation, QEMU's
//! command line, cloud-init documents, image headers, memory overhead.
//!
//! ```text
//!   Sync --Machine::try_from--> Machine --qemu::argv(Runtime)--> QEMU's command line
//!   head of an image --image::probe--> format, size, or why not
//!   VmiSpec --memory_overhead--> bytes beside the guest's own
//! ```
//!
//! Pure: functions over values, no file system, no clock, no environment.

pub mod cloudinit;
mod error;
pub mod image;
pub mod overhead;
mod pci;
pub mod qemu;
pub mod quantity;
pub mod spec;

pub use error::SpecError;
pub use overhead::memory_overhead;
pub use pci::PciAddress;
pub use spec::Machine;
