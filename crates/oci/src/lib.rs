//! Container images without a daemon.
//!
//! Everything here is a plain function over files and streams:
//!
//! ```text
//! Tree --stream--> Layer --+
//!                          +--> Image --> archive (a tar that `ctr images import` reads)
//! Config ------------------+          \-> Registry::push
//! archive of podman, buildah, docker --> ArchiveReader --> Registry::push
//! ```
//!
//! A [`Tree`] always gives the same bytes for the same content: entries are sorted, times are zero, owners are
//! given, so the digest of an image depends on what is in it and on nothing else.

mod archive;
mod digest;
mod error;
mod image;
mod layer;
mod reader;
mod reference;
mod registry;
mod spec;

pub use archive::write_archive;
pub use digest::{Digest, HashingReader};
pub use error::{Error, Result};
pub use image::{Image, Layer};
pub use layer::{Kind, Source, TarStream, Tree};
pub use reader::{ArchiveImage, ArchiveReader, BlobReader};
pub use reference::Reference;
pub use registry::{Registry, RemoteManifest};
pub use spec::{
    ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Config, Descriptor, Index, Manifest,
    MediaType, Platform, ProcessConfig, RootFs,
};
