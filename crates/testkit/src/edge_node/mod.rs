//! Bare-metal edge nodes as QEMU guests: an IOMMU, a NIC with SR-IOV, KVM, a spare disk, sshd on loopback.
//!
//! `cargo xtask edge-node build` makes what they start from. A variant of `testbed/edge-node/variants.yaml` says how
//! a node differs from the one that has everything. The processor is emulated on every host, so that a variant is
//! the same everywhere.

pub mod captured;
mod disk;
mod node;
mod processes;
mod qemu;
mod variant;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

pub use captured::Captured;
pub use node::EdgeNode;
pub use processes::{running, stop, stop_all, stop_one};
pub use variant::{Disk, Iommu, Nic, Variant, table as variants};

/// The directory below the build cache where the builder puts its outputs.
pub const BUILT: &str = "edge-node";
/// The build cache of the Makefile.
const CACHE: &str = "/var/cache/edgevirt";

/// What nodes are started from.
#[derive(Debug, Clone)]
pub struct Testbed {
    built: PathBuf,
    keys: PathBuf,
    variants: BTreeMap<String, Variant>,
}

impl Testbed {
    /// Finds the builder's outputs (below `EDGEVIRT_CACHE`, else the Makefile's cache) and reads the variants.
    ///
    /// # Errors
    /// When nothing was built yet, or the table of variants is not as expected.
    pub fn open() -> anyhow::Result<Self> {
        let cache = std::env::var_os("EDGEVIRT_CACHE").map_or_else(|| CACHE.into(), PathBuf::from);
        let built = cache.join(BUILT).join("current");
        let built = built.canonicalize().with_context(|| {
            format!(
                "expected the nodes' kernel and QEMU in {}, found nothing; run `cargo xtask edge-node build`",
                built.display()
            )
        })?;
        let keys = cache.join(BUILT).join("keys");
        Ok(Self {
            built,
            keys,
            variants: variant::table()?,
        })
    }

    /// Every variant by its name.
    #[must_use]
    pub fn variants(&self) -> &BTreeMap<String, Variant> {
        &self.variants
    }

    /// One variant.
    ///
    /// # Errors
    /// When there is none of this name; the message lists them.
    pub fn variant(&self, name: &str) -> anyhow::Result<&Variant> {
        self.variants.get(name).with_context(|| {
            let names: Vec<&str> = self.variants.keys().map(String::as_str).collect();
            format!("no variant {name}; expected one of {}", names.join(", "))
        })
    }

    /// The private key that every node accepts for root and for the unprivileged user `edge`.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.keys.join("id_ed25519")
    }

    /// The line that known_hosts needs for a node on this port of 127.0.0.1.
    ///
    /// # Errors
    /// When the builder's public host key cannot be read.
    pub fn known_host(&self, port: u16) -> anyhow::Result<String> {
        let path = self.keys.join("host_key.pub");
        let key = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(format!("[127.0.0.1]:{port} {key}"))
    }

    /// A file of the build.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.built.join(name)
    }
}

/// Where running nodes keep what they write: one directory each, removed when they stop.
pub(crate) fn run_root() -> &'static Path {
    Path::new("/run/edgevirt-nodes")
}
