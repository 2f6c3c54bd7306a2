//! QEMU's command line.

/// Size of TCG's translation buffer, MiB.
pub const TB_SIZE_MIB: u64 = 64;
/// Bytes of cached qcow2 tables for each layer of a disk.
pub const L2_CACHE_BYTES: u64 = 1 << 20;
