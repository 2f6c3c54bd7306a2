//! From a VMI's specification to the machine that runs it: validation, QEMU's
//! command line, cloud-init documents, image headers, memory overhead.
//!
//! Pure: functions over values, no file system, no clock, no environment.

pub mod overhead;
pub mod qemu;
pub mod quantity;

pub use overhead::memory_overhead;
