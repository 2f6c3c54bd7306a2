//! Reads the archives that podman, buildah, skopeo and docker save.
//!
//! An archive is foreign input. Nothing of it is ever unpacked: a name in it is only looked up in a table made from
//! the archive's own headers, so `../` leads nowhere; documents are bounded in length; every blob is checked against
//! its digest while it is read.

mod docker;
mod members;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use self::members::{Member, scan};
use crate::spec::{
    ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Descriptor, Index, Manifest, MediaType,
};
use crate::{Digest, Error, HashingReader, Result};

/// The longest JSON document of an image; registries refuse manifests above 4 MiB.
const DOCUMENT_MAX: u64 = 4 << 20;
/// How deep an index may lie in an index.
const INDEX_DEPTH_MAX: usize = 4;

/// An open archive.
#[derive(Debug)]
pub struct ArchiveReader {
    path: PathBuf,
    members: BTreeMap<String, Member>,
    /// Blobs of a Docker archive, which are not stored under their digests.
    aliases: BTreeMap<Digest, String>,
    image: ArchiveImage,
}

/// The image for linux/amd64 of an archive.
#[derive(Debug, Clone)]
pub struct ArchiveImage {
    /// Whole or short names the archive gives it; may be none.
    pub names: Vec<String>,
    /// Its manifest.
    pub manifest: Manifest,
    /// The manifest as it is to be pushed, byte for byte.
    pub manifest_bytes: Vec<u8>,
}

impl ArchiveImage {
    /// The image's identity.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest_bytes)
    }

    /// The media type to push the manifest with.
    #[must_use]
    pub fn media_type(&self) -> &str {
        self.manifest
            .media_type
            .as_deref()
            .unwrap_or(MediaType::MANIFEST)
    }

    /// Configuration and layers, in the order to push them.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifest.layers.iter().chain([&self.manifest.config])
    }
}

impl ArchiveReader {
    /// Opens an archive and finds its image.
    ///
    /// # Errors
    /// A file that is no such archive, holds several images or none for linux/amd64, or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let members = scan(path)?;
        let image = ArchiveImage {
            names: Vec::new(),
            manifest_bytes: Vec::new(),
            manifest: Manifest {
                schema_version: 2,
                media_type: None,
                config: Descriptor::of(MediaType::CONFIG, b""),
                layers: Vec::new(),
                annotations: BTreeMap::new(),
            },
        };
        let mut archive = Self {
            path: path.to_owned(),
            members,
            aliases: BTreeMap::new(),
            image,
        };
        archive.image = if archive.members.contains_key("index.json") {
            archive.read_oci()?
        } else if archive.members.contains_key("manifest.json") {
            archive.read_docker()?
        } else {
            let reason = "it has neither index.json (OCI) nor manifest.json (Docker); make it with \
                          `podman save`, `buildah push IMAGE oci-archive:FILE` or `docker save`";
            return Err(archive.bad(reason));
        };
        for blob in archive.image.blobs() {
            archive.check_size(blob)?;
        }
        Ok(archive)
    }

    /// The archive's image.
    pub fn image(&self) -> Result<ArchiveImage> {
        Ok(self.image.clone())
    }

    /// A blob's bytes. The last read fails if they are not what the digest promises.
    ///
    /// # Errors
    /// A blob that is not in the archive.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader> {
        let name = self.blob_name(&descriptor.digest);
        let (content, _) = self.member(&name)?;
        Ok(BlobReader {
            inner: HashingReader::new(content),
            expected: descriptor.digest.clone(),
            done: false,
            name,
        })
    }

    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::archive(&self.path, reason)
    }

    fn blob_name(&self, digest: &Digest) -> String {
        self.aliases
            .get(digest)
            .cloned()
            .unwrap_or_else(|| format!("blobs/sha256/{}", digest.hex()))
    }

    fn check_size(&self, blob: &Descriptor) -> Result<()> {
        let name = self.blob_name(&blob.digest);
        let (_, size) = self.member(&name)?;
        if size == blob.size {
            return Ok(());
        }
        Err(self.bad(format!(
            "{name} should have {} bytes and has {size}; the archive is damaged",
            blob.size
        )))
    }

    fn member(&self, name: &str) -> Result<(io::Take<File>, u64)> {
        let mut name = name.to_owned();
        // A link may lead to a link, but no archiver chains more than one.
        for _ in 0..4 {
            match self.members.get(&name) {
                Some(Member::Data { offset, size }) => {
                    let mut file =
                        File::open(&self.path).map_err(Error::file("open", &self.path))?;
                    file.seek(SeekFrom::Start(*offset))
                        .map_err(Error::file("read", &self.path))?;
                    return Ok((file.take(*size), *size));
                }
                Some(Member::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(self.bad(format!("{name} is missing; the archive is not complete")))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (mut content, size) = self.member(name)?;
        if size > DOCUMENT_MAX {
            return Err(self.bad(format!(
                "{name} has {size} bytes; expected at most {DOCUMENT_MAX}"
            )));
        }
        let mut bytes = Vec::new();
        content
            .read_to_end(&mut bytes)
            .map_err(Error::file("read", &self.path))?;
        Ok(bytes)
    }

    fn checked_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let name = self.blob_name(&descriptor.digest);
        let bytes = self.document(&name)?;
        let found = Digest::of(&bytes);
        if found == descriptor.digest {
            return Ok(bytes);
        }
        Err(Error::DigestMismatch {
            what: name,
            expected: descriptor.digest.to_string(),
            found: found.to_string(),
        })
    }

    fn read_oci(&self) -> Result<ArchiveImage> {
        let mut index: Index = serde_json::from_slice(&self.document("index.json")?)
            .map_err(Error::json("index.json"))?;
        let mut names = Vec::new();
        for _ in 0..INDEX_DEPTH_MAX {
            let chosen = self.choose(&index)?;
            for key in [ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME] {
                // A bare tag names no image.
                names.extend(
                    chosen
                        .annotations
                        .get(key)
                        .filter(|name| name.contains(['/', ':']))
                        .cloned(),
                );
            }
            let bytes = self.checked_document(&chosen)?;
            if MediaType::is_index(&chosen.media_type) {
                index =
                    serde_json::from_slice(&bytes).map_err(Error::json(chosen.digest.as_str()))?;
                continue;
            }
            let manifest =
                serde_json::from_slice(&bytes).map_err(Error::json(chosen.digest.as_str()))?;
            names.dedup();
            return Ok(ArchiveImage {
                names,
                manifest,
                manifest_bytes: bytes,
            });
        }
        Err(self.bad("its index lies too deep in others"))
    }

    fn choose(&self, index: &Index) -> Result<Descriptor> {
        // Build attestations are listed as images of an unknown machine.
        let fits = |d: &&Descriptor| {
            d.platform
                .as_ref()
                .is_none_or(|p| p.os == "linux" && p.architecture == "amd64")
        };
        let mut fitting = index.manifests.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Ok(one.clone()),
            (None, _) => Err(self.bad("it has no image for linux/amd64")),
            (Some(_), Some(_)) => {
                Err(self.bad("it holds several images; save the one you want by itself"))
            }
        }
    }
}

/// A blob's bytes, checked against its digest.
pub struct BlobReader {
    inner: HashingReader<io::Take<File>>,
    expected: Digest,
    done: bool,
    name: String,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if n > 0 || buffer.is_empty() || self.done {
            return Ok(n);
        }
        self.done = true;
        let found = self.inner.digest();
        if found == self.expected {
            return Ok(0);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            Error::DigestMismatch {
                what: self.name.clone(),
                expected: self.expected.to_string(),
                found: found.to_string(),
            },
        ))
    }
}
