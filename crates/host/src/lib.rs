//! The only door to Linux: network namespaces and links, taps, nft, sysctls,
//! unix sockets with credentials and passed descriptors, inotify, device nodes
//! of other processes, VFIO groups, the clock's discipline, and whether KVM
//! really runs a guest.
//!
//! It knows nothing of virtual machines as objects: every function takes plain
//! values. It is also the only crate in which `unsafe` is allowed, block by
//! block, each with the reason why it is sound.

pub mod clock;
pub mod devnode;
pub mod fdpass;
pub mod files;
#[cfg(feature = "async")]
pub mod inotify;
pub mod kvm;
#[cfg(feature = "async")]
pub mod links;
pub mod memory;
#[cfg(feature = "async")]
pub mod netns;
pub mod nft;
pub mod sysctl;
pub mod tap;
pub mod unix;
pub mod vfio;
