//! Reads the archives that podman, buildah, skopeo and docker save.
//!
//! An archive is foreign input. Nothing of it is ever unpacked: a name in it is only looked up in a table made from
//! the archive's own headers, so `../` leads nowhere; documents are bounded in length; every blob is checked against
//! its digest while it is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::spec::{
    ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Descriptor, Index, Manifest, MediaType,
};
use crate::{Digest, Error, HashingReader, Result};

/// The longest JSON document of an image; registries refuse manifests above 4 MiB.
const DOCUMENT_MAX: u64 = 4 << 20;
/// The most members an archive may have; an image has a few for each of at most 127 layers.
const MEMBERS_MAX: usize = 20_000;
/// How deep an index may lie in an index.
const INDEX_DEPTH_MAX: usize = 4;

#[derive(Debug, Clone)]
enum Member {
    Data { offset: u64, size: u64 },
    Link(String),
}

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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
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

    /// A Docker archive has a configuration and layers but no manifest; one is made of what is there.
    fn read_docker(&mut self) -> Result<ArchiveImage> {
        let list: Vec<DockerImage> = serde_json::from_slice(&self.document("manifest.json")?)
            .map_err(Error::json("manifest.json"))?;
        let [image] = list.as_slice() else {
            return Err(self.bad(format!(
                "it holds {} images; save the one you want by itself",
                list.len()
            )));
        };
        let config = self.document(
            &normal(&image.config).ok_or_else(|| self.bad("a name leaves the archive"))?,
        )?;
        let mut config_descriptor = Descriptor::of(MediaType::CONFIG, &config);
        config_descriptor.size = config.len() as u64;
        let mut aliases = BTreeMap::new();
        let alias = |name: &str| {
            normal(name).ok_or_else(|| self.bad(format!("{name:?} leaves the archive")))
        };
        aliases.insert(config_descriptor.digest.clone(), alias(&image.config)?);
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = alias(layer)?;
            let (mut content, _) = self.member(&name)?;
            let mut magic = [0; 4];
            let known = content
                .read(&mut magic)
                .map_err(Error::file("read", &self.path))?;
            let media_type = match &magic[..known] {
                [0x1f, 0x8b, ..] => MediaType::LAYER_GZIP,
                [0x28, 0xb5, 0x2f, 0xfd] => MediaType::LAYER_ZSTD,
                _ => MediaType::LAYER,
            };
            let (content, _) = self.member(&name)?;
            let (digest, size) = HashingReader::new(content)
                .finish()
                .map_err(Error::file("read", &self.path))?;
            aliases.insert(digest.clone(), name);
            layers.push(Descriptor::new(media_type, digest, size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST.to_owned()),
            config: config_descriptor,
            layers,
            annotations: BTreeMap::new(),
        };
        let manifest_bytes = serde_json::to_vec(&manifest).map_err(Error::json("the manifest"))?;
        self.aliases = aliases;
        Ok(ArchiveImage {
            names: image.repo_tags.clone().unwrap_or_default(),
            manifest,
            manifest_bytes,
        })
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

/// The table of an archive's members.
fn scan(path: &Path) -> Result<BTreeMap<String, Member>> {
    let mut file = File::open(path).map_err(Error::file("open", path))?;
    let mut magic = [0; 6];
    let known = file.read(&mut magic).map_err(Error::file("read", path))?;
    let packer = match &magic[..known] {
        [0x1f, 0x8b, ..] => Some("gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("unzstd"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("unxz"),
        _ => None,
    };
    if let Some(packer) = packer {
        return Err(Error::archive(
            path,
            format!("it is compressed as a whole; unpack it with `{packer}` first"),
        ));
    }
    file.rewind().map_err(Error::file("read", path))?;
    let length = file.metadata().map_err(Error::file("look at", path))?.len();
    let broken =
        |e: io::Error| Error::archive(path, format!("it is no tar archive, or a damaged one: {e}"));
    let mut members = BTreeMap::new();
    let mut tar = tar::Archive::new(file);
    for entry in tar.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let raw = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        // A name that leaves the archive can be referred to by nothing; it is passed over.
        let Some(name) = normal(&raw) else { continue };
        let kind = entry.header().entry_type();
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if kind.is_file() {
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(Error::archive(
                    path,
                    format!("{name} is longer than the archive; it was cut off"),
                ));
            }
            members.insert(name, Member::Data { offset, size });
        } else if kind.is_symlink() || kind.is_hard_link() {
            let target = entry
                .link_name()
                .map_err(broken)?
                .map(|t| t.to_string_lossy().into_owned());
            let base = name.rsplit_once('/').map_or("", |(dir, _)| dir);
            let joined = target.map(|t| {
                if kind.is_symlink() {
                    format!("{base}/{t}")
                } else {
                    t
                }
            });
            if let Some(target) = joined.as_deref().and_then(normal) {
                members.insert(name, Member::Link(target));
            }
        }
        if members.len() > MEMBERS_MAX {
            return Err(Error::archive(
                path,
                format!("it has more than {MEMBERS_MAX} members; that is no image"),
            ));
        }
    }
    Ok(members)
}

/// A name without `.` and `..`; none if it leaves the archive.
fn normal(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    type Entry<'a> = (&'a str, &'a [u8]);

    fn archive(entries: &[Entry<'_>], links: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, *content).unwrap();
        }
        for (name, target) in links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, target).unwrap();
        }
        tar.finish().unwrap();
        file
    }

    fn docker(config: &str, layer: &str) -> String {
        format!(r#"[{{"Config":"{config}","RepoTags":["centosimage:1.0"],"Layers":["{layer}"]}}]"#)
    }

    fn oci(manifest: &[u8]) -> Vec<u8> {
        let descriptor = Descriptor::of(MediaType::MANIFEST, manifest);
        serde_json::to_vec(&Index {
            schema_version: 2,
            media_type: None,
            manifests: vec![descriptor],
        })
        .unwrap()
    }

    #[test]
    fn a_docker_archive_with_a_linked_layer_is_read() {
        let json = docker("c.json", "b/layer.tar");
        let file = archive(
            &[
                ("manifest.json", json.as_bytes()),
                ("c.json", b"{}"),
                ("a/layer.tar", b"\x1f\x8bxx"),
            ],
            &[("b/layer.tar", "../a/layer.tar")],
        );
        let reader = ArchiveReader::open(file.path()).unwrap();
        let image = reader.image().unwrap();
        assert_eq!(image.names, ["centosimage:1.0"]);
        assert_eq!(image.manifest.layers[0].media_type, MediaType::LAYER_GZIP);
        let mut bytes = Vec::new();
        reader
            .blob(&image.manifest.layers[0])
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, b"\x1f\x8bxx");
    }

    #[test]
    fn names_that_leave_the_archive_lead_nowhere() {
        for (config, layer) in [
            ("../../etc/passwd", "l"),
            ("c.json", "../../../etc/passwd"),
            ("c.json", "/etc/passwd"),
        ] {
            let json = docker(config, layer);
            let file = archive(
                &[("manifest.json", json.as_bytes()), ("c.json", b"{}")],
                &[],
            );
            assert!(
                ArchiveReader::open(file.path()).is_err(),
                "{config} {layer}"
            );
        }
    }

    #[test]
    fn a_blob_that_is_not_what_its_digest_says_is_an_error() {
        let config = Descriptor::of(MediaType::CONFIG, b"{}");
        let layer = Descriptor::of(MediaType::LAYER, b"true");
        let manifest = Manifest {
            schema_version: 2,
            media_type: None,
            config: config.clone(),
            layers: vec![layer.clone()],
            annotations: BTreeMap::new(),
        };
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let blob = |d: &Digest| format!("blobs/sha256/{}", d.hex());
        let (m, c, l) = (
            blob(&Digest::of(&manifest)),
            blob(&config.digest),
            blob(&layer.digest),
        );
        let index = oci(&manifest);
        let file = archive(
            &[
                ("index.json", &index),
                (&m, &manifest),
                (&c, b"{}"),
                (&l, b"fals"),
            ],
            &[],
        );
        let reader = ArchiveReader::open(file.path()).unwrap();
        let read = reader.blob(&layer).unwrap().read_to_end(&mut Vec::new());
        assert!(
            read.unwrap_err()
                .to_string()
                .contains(layer.digest.as_str())
        );

        let file = archive(
            &[
                ("index.json", &index),
                (&m, &manifest),
                (&c, b"{}"),
                (&l, b"longer"),
            ],
            &[],
        );
        assert!(
            ArchiveReader::open(file.path())
                .unwrap_err()
                .to_string()
                .contains("should have 4 bytes and has 6")
        );

        let tampered = [manifest.as_slice(), b" "].concat();
        let file = archive(&[("index.json", &index), (&m, &tampered)], &[]);
        assert!(matches!(
            ArchiveReader::open(file.path()),
            Err(Error::DigestMismatch { .. })
        ));
    }

    #[test]
    fn what_is_no_archive_is_refused_with_what_to_do() {
        for (content, says) in [
            (b"\x1f\x8b\x08\0\0\0".as_slice(), "gunzip"),
            (b"\x28\xb5\x2f\xfd..", "unzstd"),
            (b"QFI\xfb", "no tar archive"),
            (&[b'x'; 2048], "no tar archive"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), content).unwrap();
            let error = ArchiveReader::open(file.path()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let huge = vec![b' '; 5 << 20];
        let file = archive(&[("index.json", &huge)], &[]);
        assert!(
            ArchiveReader::open(file.path())
                .unwrap_err()
                .to_string()
                .contains("at most")
        );
    }

    #[test]
    fn a_size_beyond_the_end_of_the_archive_is_refused() {
        let file = archive(&[("index.json", &[b'x'; 4096])], &[]);
        file.as_file().set_len(1024).unwrap();
        assert!(ArchiveReader::open(file.path()).is_err());
    }
}
