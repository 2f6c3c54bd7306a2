//! Parsers of what the kernel, the firmware and disks say: bytes or text in,
//! values out.
//!
//! None does I/O and none fails: a node may hold garbage anywhere, so what does
//! not parse is left out or is `None`, and the caller says which path held it.
//! The properties that hold for any bytes at all are in `tests/parse.rs` and,
//! for a fuzzer, in `fuzz/`.

pub mod acpi;
pub mod cmdline;
pub mod cpu;
pub mod disk;
pub mod efi;
pub mod gpt;
pub mod memory;
pub mod modules;
pub mod mounts;
pub mod net;
pub mod pci;
pub mod system;
pub mod text;
