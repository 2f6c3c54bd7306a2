//! Archives as podman and docker save them, and such as nobody should.
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
