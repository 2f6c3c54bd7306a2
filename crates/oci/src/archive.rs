//! Writes an image as an OCI archive: the image layout in one tar, which containerd, podman and skopeo import.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use crate::spec::{ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Descriptor, Index, MediaType};
use crate::{Error, Image, Reference, Result};

/// Writes an image under a name. The file appears whole or not at all: it is written beside and renamed.
///
/// # Errors
/// A file that cannot be read or written; then nothing is left behind.
pub fn write_archive(path: &Path, name: &Reference, image: &Image) -> Result<()> {
    let partial = path.with_extension("partial");
    let written = write_to(&partial, name, image)
        .and_then(|()| std::fs::rename(&partial, path).map_err(Error::file("write", path)));
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

fn write_to(path: &Path, name: &Reference, image: &Image) -> Result<()> {
    let file = File::create(path).map_err(Error::file("write", path))?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
    let mut manifest = Descriptor::of(MediaType::MANIFEST, image.manifest());
    manifest
        .annotations
        .insert(ANNOTATION_CONTAINERD_NAME.to_owned(), name.to_string());
    if let Some(tag) = name.tag() {
        manifest
            .annotations
            .insert(ANNOTATION_REF_NAME.to_owned(), tag.to_owned());
    }
    let media_type = Some(MediaType::INDEX.to_owned());
    let index = Index {
        schema_version: 2,
        media_type,
        manifests: vec![manifest.clone()],
    };
    let index = serde_json::to_vec(&index).map_err(Error::json("the index"))?;
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;

    let mut add = |name: &str, length: u64, content: &mut dyn Read| -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(length);
        tar.append_data(&mut header, name, content)
            .map_err(Error::file("write", path))
    };
    add("oci-layout", layout.len() as u64, &mut layout.as_slice())?;
    add("index.json", index.len() as u64, &mut index.as_slice())?;
    let blob = |digest: &crate::Digest| format!("blobs/sha256/{}", digest.hex());
    add(
        &blob(&manifest.digest),
        manifest.size,
        &mut image.manifest(),
    )?;
    add(
        &blob(&crate::Digest::of(image.config())),
        image.config().len() as u64,
        &mut image.config(),
    )?;
    let mut written = Vec::new();
    for layer in image.layers() {
        let descriptor = layer.descriptor();
        if !written.contains(&&descriptor.digest) {
            add(
                &blob(&descriptor.digest),
                descriptor.size,
                &mut layer.open()?,
            )?;
            written.push(&descriptor.digest);
        }
    }
    let mut writer = tar.into_inner().map_err(Error::file("write", path))?;
    writer.flush().map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{ArchiveReader, Digest, HashingReader, Layer, ProcessConfig, Tree};

    fn image(content: &str) -> Image {
        let mut tree = Tree::owned_by(107, 107);
        tree.file("disk/x.qcow2", content, 0o440).unwrap();
        Image::new(vec![Layer::new(tree).unwrap()], ProcessConfig::default()).unwrap()
    }

    #[test]
    fn same_content_gives_the_same_archive_and_other_content_another() {
        let dir = tempfile::tempdir().unwrap();
        let name: Reference = "a/b".parse().unwrap();
        let digest = |file: &str, content: &str| {
            let path = dir.path().join(file);
            write_archive(&path, &name, &image(content)).unwrap();
            HashingReader::new(File::open(path).unwrap())
                .finish()
                .unwrap()
                .0
        };
        assert_eq!(digest("1.tar", "x"), digest("2.tar", "x"));
        assert_ne!(digest("1.tar", "x"), digest("3.tar", "y"));
        assert!(
            std::fs::read_dir(dir.path())
                .unwrap()
                .all(|e| e.unwrap().path().extension().unwrap() == "tar")
        );
    }

    #[test]
    fn what_was_written_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.tar");
        let image = image("content");
        write_archive(&path, &"docker.io/a/b:1".parse().unwrap(), &image).unwrap();
        let reader = ArchiveReader::open(&path).unwrap();
        let read = reader.image().unwrap();
        assert_eq!(read.names, ["docker.io/a/b:1"]);
        assert_eq!(read.digest(), image.digest());
        let layer = &read.manifest.layers[0];
        let mut bytes = Vec::new();
        reader.blob(layer).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(Digest::of(&bytes), layer.digest);
    }
}
