//! Images that lie: each is an error that a person understands, and costs nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{Pack, as_stream, by_ranges, disk, job, put, qcow2, vdi, vhd_dynamic, vmdk};

const SIZE: u64 = 8 << 20;

/// An image, changed, and what the reason must say.
#[test]
fn each_lie_has_its_reason() {
    let plain = disk(64 << 10, 40, &[0, 1, 2, 30]);
    let q = || qcow2(&plain, 16, 3, Pack::Plain, false);
    let with = |mut image: Vec<u8>, at: usize, bytes: &[u8]| {
        put(&mut image, at, bytes);
        image
    };
    let cut = |mut image: Vec<u8>, by: usize| {
        image.truncate(image.len() - by);
        image
    };
    // The first L2 table, and its first two entries.
    let l2 = 2 << 16;
    let first = q()[l2..l2 + 8].to_vec();
    let m = || vmdk(&plain, false);
    let descriptor = |from: &str, to: &str| {
        let mut image = m();
        let text = String::from_utf8_lossy(&image[512..1024]).replace(from, to);
        put(&mut image, 512, text.as_bytes());
        image
    };
    let zip = qcow2(&plain, 16, 3, Pack::Zlib, false);
    for (name, image, reason) in [
        (
            "backing file",
            with(q(), 8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11]),
            "backing file",
        ),
        (
            "data file",
            with(q(), 72, &4u64.to_be_bytes()),
            "external data file",
        ),
        (
            "corrupt bit",
            with(q(), 72, &2u64.to_be_bytes()),
            "marked corrupt",
        ),
        (
            "unknown feature",
            with(q(), 72, &(1u64 << 40).to_be_bytes()),
            "features that are not known",
        ),
        (
            "encryption",
            with(q(), 32, &2u32.to_be_bytes()),
            "encrypted",
        ),
        (
            "version 4",
            with(q(), 4, &4u32.to_be_bytes()),
            "version 2 or 3, found 4",
        ),
        (
            "cluster bits",
            with(q(), 20, &40u32.to_be_bytes()),
            "clusters of 2^9",
        ),
        (
            "bomb",
            with(q(), 24, &(1u64 << 50).to_be_bytes()),
            "L1 table of",
        ),
        (
            "bomb with room for tables",
            with(
                with(q(), 24, &(1u64 << 50).to_be_bytes()),
                36,
                &u32::MAX.to_be_bytes(),
            ),
            "A larger PVC is required",
        ),
        (
            "short L1",
            with(q(), 36, &0u32.to_be_bytes()),
            "L1 table of 1 entries",
        ),
        (
            "L1 beyond the end",
            with(q(), 40, &(1u64 << 40).to_be_bytes()),
            "truncated",
        ),
        (
            "L2 in the L1",
            with(q(), 1 << 16, &(1u64 << 16).to_be_bytes()),
            "cyclic",
        ),
        (
            "two clusters at one place",
            with(q(), l2 + 8, &first),
            "overlapping",
        ),
        (
            "odd cluster",
            with(q(), l2, &(0x30200u64).to_be_bytes()),
            "at a cluster's begin",
        ),
        ("cut qcow2", cut(q(), 70_000), "truncated"),
        ("cut header", q()[..60].to_vec(), "truncated"),
        (
            "broken deflate",
            {
                let n = zip.len();
                with(zip.clone(), n - 1500, &[0xff; 400])
            },
            "cannot be unpacked",
        ),
        (
            "extent path",
            descriptor("SPARSE \"disk.vmdk\"", "FLAT \"/etc/shadow\" 0"),
            "other files are never opened",
        ),
        (
            "create type",
            descriptor("monolithicSparse", "monolithicFlat\"\n#"),
            "createType",
        ),
        (
            "parent",
            descriptor("parentCID=ffffffff", "parentCID=12345678"),
            "parent",
        ),
        (
            "descriptor only",
            b"# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n".repeat(20),
            "never opened",
        ),
        (
            "grain size",
            with(m(), 20, &3u64.to_le_bytes()),
            "grains of",
        ),
        (
            "vmdk bomb",
            with(m(), 12, &(1u64 << 50).to_le_bytes()),
            "A larger PVC is required",
        ),
        ("cut vmdk", cut(m(), 600), "truncated"),
        (
            "stream without a footer",
            cut(vmdk(&plain, true), 1024),
            "footer",
        ),
        (
            "vdi difference",
            with(vdi(&plain), 0x4c, &4u32.to_le_bytes()),
            "parent",
        ),
        (
            "vdi block map",
            with(vdi(&plain), 512, &77u32.to_le_bytes()),
            "truncated",
        ),
        (
            "vdi bomb",
            with(vdi(&plain), 0x170, &(1u64 << 60).to_le_bytes()),
            "blocks of",
        ),
        ("vhd sum", with(vhd_dynamic(&plain), 50, &[7]), "checksum"),
        (
            "vhd table",
            with(vhd_dynamic(&plain), 1536, &[9; 4]),
            "truncated",
        ),
    ] {
        for error in [
            by_ranges(&image, Some(SIZE), None).0.expect_err(name),
            as_stream(&image, Some(SIZE), None).0.expect_err(name),
        ] {
            let text = error.to_string();
            assert!(text.contains(reason), "{name}: {text}");
            assert!(error.is_permanent(), "{name}: {text}");
        }
    }
}

#[test]
fn a_disk_larger_than_the_claim_says_so_as_upstream_does() {
    let raw = vec![1; 2 << 20];
    let image = qcow2(&raw, 16, 3, Pack::Plain, false);
    for (bytes, needed) in [(&raw, "2097152"), (&image, "2097152")] {
        for error in [
            by_ranges(bytes, Some(1 << 20), None).0.unwrap_err(),
            as_stream(bytes, Some(1 << 20), None).0.unwrap_err(),
        ] {
            let want = format!(
                "virtual image size {needed} is larger than the reported available storage 1048576. A larger PVC is required"
            );
            assert_eq!(error.to_string(), want);
        }
    }
}

#[test]
fn a_bomb_of_zeros_stops_at_the_claims_size() {
    use std::io::Write;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..200 {
        gz.write_all(&zeros).unwrap();
    }
    let bomb = gz.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    let (outcome, ..) = as_stream(&bomb, Some(SIZE), None);
    assert!(
        outcome
            .unwrap_err()
            .to_string()
            .contains("A larger PVC is required")
    );
    // The same behind a header that must be staged.
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(b"QFI\xfb").unwrap();
    for _ in 0..200 {
        gz.write_all(&zeros).unwrap();
    }
    let (outcome, _, left) = as_stream(&gz.finish().unwrap(), Some(SIZE), None);
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains("longer than") && left == 0, "{text}");
}

fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, body) in entries {
        let mut header = tar::Header::new_ustar();
        // The library's own setters refuse such names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.as_old_mut().linkname[..body.len()].copy_from_slice(body.as_bytes());
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, &b""[..]).unwrap();
        } else {
            header.set_size(body.len() as u64);
            header.set_cksum();
            builder.append(&header, body.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn extract(bytes: &[u8], into: &Path) -> imaging::Result<u64> {
    let cancel = AtomicBool::new(false);
    imaging::archive::extract(bytes, into, &job(Some(1 << 20), None, &cancel))
}

#[test]
fn an_archive_stays_in_its_directory() {
    use tar::EntryType as T;
    for (name, entries) in [
        ("dots", vec![("../out", T::Regular, "x")]),
        ("deep dots", vec![("a/../../out", T::Regular, "x")]),
        ("absolute", vec![("/tmp/edgevirt-out", T::Regular, "x")]),
        (
            "link out",
            vec![("l", T::Symlink, "/etc"), ("l/x", T::Regular, "x")],
        ),
        ("relative link out", vec![("d/l", T::Symlink, "../../etc")]),
        ("hard link out", vec![("l", T::Link, "../secret")]),
        ("device", vec![("null", T::Char, "")]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("volume");
        std::fs::create_dir(&into).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        let error = extract(&tar(&entries), &into).expect_err(name);
        assert!(error.is_permanent(), "{name}: {error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let good = [("d/f", T::Regular, "hello"), ("d/l", T::Symlink, "../d/f")];
    assert_eq!(extract(&tar(&good), dir.path()).unwrap(), 5);
    assert_eq!(
        std::fs::read_to_string(dir.path().join("d/l")).unwrap(),
        "hello"
    );
    let large = "x".repeat(2 << 20);
    let error = extract(&tar(&[("f", T::Regular, &large)]), dir.path()).unwrap_err();
    assert!(error.to_string().contains("A larger PVC"), "{error}");
    assert!(extract(&tar(&good)[..700], dir.path()).is_err());
    assert!(extract(b"no archive", dir.path()).is_err());
}
