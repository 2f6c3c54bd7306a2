//! An image made of layers at hand.

use std::io::Read;

use crate::spec::{Config, Descriptor, Manifest, MediaType, ProcessConfig, RootFs};
use crate::{Digest, Error, HashingReader, Result, Tree};

/// One layer: its content and the digest of its tar.
#[derive(Debug, Clone)]
pub struct Layer {
    tree: Tree,
    descriptor: Descriptor,
}

impl Layer {
    /// Hashes a tree. The layer is not compressed: nodes unpack it at once, and a disk image is compressed already.
    ///
    /// # Errors
    /// A source file that cannot be read.
    pub fn new(tree: Tree) -> Result<Self> {
        Self::with_progress(tree, |_| {})
    }

    /// The same, telling how many more bytes have been read each time some were.
    ///
    /// # Errors
    /// A source file that cannot be read.
    pub fn with_progress(tree: Tree, progress: impl FnMut(u64)) -> Result<Self> {
        let stream = Progress {
            inner: tree.stream()?,
            tell: progress,
        };
        let (digest, size) = HashingReader::new(stream)
            .finish()
            .map_err(|source| Error::File {
                action: "read the content of",
                path: "a layer".into(),
                source,
            })?;
        Ok(Self {
            tree,
            descriptor: Descriptor::new(MediaType::LAYER, digest, size),
        })
    }

    /// Its digest and length.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The bytes of its tar.
    ///
    /// # Errors
    /// A source file that is gone.
    pub fn open(&self) -> Result<impl Read + use<>> {
        self.tree.stream()
    }

    /// What is in it.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

struct Progress<R, F> {
    inner: R,
    tell: F,
}

impl<R: Read, F: FnMut(u64)> Read for Progress<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        (self.tell)(n as u64);
        Ok(n)
    }
}

/// An image for linux/amd64: its documents as bytes, its layers as trees.
#[derive(Debug, Clone)]
pub struct Image {
    layers: Vec<Layer>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    /// Puts layers, lowest first, and the way a container is started together.
    ///
    /// # Errors
    /// None in practice; JSON of plain values can always be written.
    pub fn new(layers: Vec<Layer>, process: ProcessConfig) -> Result<Self> {
        let descriptors: Vec<Descriptor> = layers
            .iter()
            .map(|layer| layer.descriptor.clone())
            .collect();
        let config = Config {
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            config: process,
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: descriptors
                    .iter()
                    .map(|layer| layer.digest.clone())
                    .collect(),
            },
        };
        let config = serde_json::to_vec(&config).map_err(Error::json("the configuration"))?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            config: Descriptor::of(MediaType::CONFIG, &config),
            layers: descriptors,
            annotations: Default::default(),
        };
        let manifest = serde_json::to_vec(&manifest).map_err(Error::json("the manifest"))?;
        Ok(Self {
            layers,
            config,
            manifest,
        })
    }

    /// The digest of its manifest: the image's identity.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// The bytes of all layers together, not compressed.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.descriptor.size).sum()
    }

    /// The layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The manifest's bytes.
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The configuration's bytes.
    #[must_use]
    pub fn config(&self) -> &[u8] {
        &self.config
    }
}
