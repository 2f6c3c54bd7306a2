//! Every format gives the disk that was put in, by ranges and as a stream.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::process::Command;

use common::{Pack, as_stream, by_ranges, disk, job, qcow2, vdi, vhd_dynamic, vhd_fixed, vmdk};
use imaging::Format;
use proptest::prelude::*;

fn images(disk: &[u8]) -> Vec<(&'static str, Format, Vec<u8>)> {
    vec![
        ("raw", Format::Raw, disk.to_vec()),
        ("v2", Format::Qcow2, qcow2(disk, 16, 2, Pack::Plain, false)),
        ("v3", Format::Qcow2, qcow2(disk, 16, 3, Pack::Plain, true)),
        (
            "small clusters",
            Format::Qcow2,
            qcow2(disk, 9, 3, Pack::Plain, true),
        ),
        ("zlib", Format::Qcow2, qcow2(disk, 16, 2, Pack::Zlib, true)),
        ("zstd", Format::Qcow2, qcow2(disk, 16, 3, Pack::Zstd, false)),
        ("sparse", Format::Vmdk, vmdk(disk, false)),
        ("streamOptimized", Format::Vmdk, vmdk(disk, true)),
        ("vdi", Format::Vdi, vdi(disk)),
        ("fixed", Format::Vhd, vhd_fixed(disk)),
        ("dynamic", Format::Vhd, vhd_dynamic(disk)),
    ]
}

#[test]
fn each_format_gives_its_disk_grown_to_the_size_asked() {
    let disk = disk(64 << 10, 83, &[0, 1, 2, 9, 40, 41, 80, 82]);
    let size = disk.len() as u64 + (3 << 20);
    let mut grown = disk.clone();
    grown.resize(size as usize, 0);
    for (name, format, image) in images(&disk) {
        let mut hasher = imaging::Hasher::new(imaging::Algorithm::Sha256);
        hasher.update(&image);
        let sum = hasher.finish().to_string();
        for checksum in [None, Some(sum.as_str())] {
            let (outcome, read) = by_ranges(&image, Some(size), checksum);
            let outcome = outcome.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(
                (outcome.format, outcome.virtual_size),
                (format, disk.len() as u64),
                "{name}"
            );
            assert_eq!(
                outcome.checksum.map(|c| c.to_string()).as_deref(),
                checksum,
                "{name}"
            );
            assert!(read == grown, "{name} by ranges");
            let (outcome, read, left) = as_stream(&image, Some(size), checksum);
            let outcome = outcome.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((outcome.format, left), (format, 0), "{name}");
            assert!(read == grown, "{name} as a stream");
        }
        let wrong = format!("md5:{}", "0".repeat(32));
        for error in [
            by_ranges(&image, Some(size), Some(&wrong)).0.unwrap_err(),
            as_stream(&image, Some(size), Some(&wrong)).0.unwrap_err(),
        ] {
            assert!(
                error
                    .to_string()
                    .starts_with("checksum mismatch: expected md5:000"),
                "{error}"
            );
        }
    }
}

#[test]
fn compression_around_an_image_is_taken_off() {
    let disk = disk(64 << 10, 40, &[0, 7, 39]);
    for inner in [disk.clone(), qcow2(&disk, 16, 3, Pack::Plain, false)] {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&inner[..1000]).unwrap();
        // Two members behind one another are one stream.
        let mut gz = gz.finish().unwrap();
        let mut second = flate2::write::GzEncoder::new(&mut gz, flate2::Compression::fast());
        second.write_all(&inner[1000..]).unwrap();
        second.finish().unwrap();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let mut zst = ruzstd::encoding::compress_to_vec(&inner[..1000], level);
        zst.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        zst.extend(ruzstd::encoding::compress_to_vec(&inner[1000..], level));
        for packed in [gz, zst] {
            let (outcome, read, left) = as_stream(&packed, Some(disk.len() as u64), None);
            outcome.unwrap();
            assert!(read == disk && left == 0);
            let cut = &packed[..packed.len() - 9];
            let (outcome, ..) = as_stream(cut, Some(disk.len() as u64), None);
            assert!(outcome.unwrap_err().is_permanent());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pattern_of_clusters_survives(
        full in proptest::collection::vec(0usize..200, 0..60),
        bits in 9u32..17,
        pack in prop_oneof![Just(Pack::Plain), Just(Pack::Zlib), Just(Pack::Zstd)],
        shuffle: bool,
        cut in 0usize..40,
    ) {
        let mut disk = disk(1 << bits, 200, &full);
        disk.truncate(disk.len() - cut * 8);
        let image = qcow2(&disk, bits, 3, pack, shuffle);
        let (outcome, read) = by_ranges(&image, None, None);
        prop_assert!(outcome.is_ok(), "{:?}", outcome);
        prop_assert!(read == disk);
    }

    #[test]
    fn broken_bytes_are_an_error_or_a_disk_but_never_a_panic(
        at in proptest::collection::vec((0usize..200_000, any::<u8>()), 1..12),
        which in 0usize..11,
    ) {
        let disk = disk(64 << 10, 10, &[0, 3, 9]);
        let (_, _, mut image) = images(&disk).swap_remove(which);
        let length = image.len();
        for (index, byte) in at {
            image[index % length] = byte;
        }
        let _ = by_ranges(&image, Some(8 << 20), None);
        let _ = as_stream(&image, Some(8 << 20), None);
        let _ = imaging::any_image(&image);
    }
}

#[test]
fn a_last_cluster_beyond_the_disks_end_is_cut() {
    for pack in [Pack::Plain, Pack::Zlib, Pack::Zstd] {
        let mut disk = disk(512, 200, &[199]);
        disk.truncate(disk.len() - 8);
        let (outcome, read) = by_ranges(&qcow2(&disk, 9, 3, pack, false), None, None);
        assert_eq!(outcome.unwrap().size, disk.len() as u64, "{pack:?}");
        assert!(read == disk, "{pack:?}");
    }
}

fn qemu_img() -> Option<Command> {
    Command::new("qemu-img")
        .arg("--version")
        .output()
        .ok()
        .map(|_| Command::new("qemu-img"))
}

/// Where qemu-img is installed: what it makes is read as it reads it.
#[test]
fn images_of_qemu_img_are_read_as_it_reads_them() {
    if qemu_img().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("in.raw");
    let disk = disk(64 << 10, 300, &[0, 1, 5, 77, 78, 150, 255, 299]);
    std::fs::write(&raw, &disk).unwrap();
    for (format, options) in [
        ("qcow2", vec![]),
        ("qcow2", vec!["-c"]),
        ("qcow2", vec!["-c", "-o", "compression_type=zstd"]),
        ("qcow2", vec!["-o", "compat=0.10,cluster_size=4096"]),
        ("qcow2", vec!["-o", "extended_l2=on,cluster_size=128k"]),
        ("qcow2", vec!["-o", "preallocation=metadata"]),
        ("vmdk", vec![]),
        ("vmdk", vec!["-o", "subformat=streamOptimized"]),
        ("vdi", vec![]),
        ("vpc", vec!["-o", "force_size=on"]),
        ("vpc", vec!["-o", "subformat=fixed,force_size=on"]),
        ("vhdx", vec![]),
        ("vhdx", vec!["-o", "subformat=fixed"]),
    ] {
        let path = dir.path().join("image");
        let run = Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", format])
            .args(&options)
            .args([&raw, &path])
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{format} {options:?}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
        let image = std::fs::read(&path).unwrap();
        let (outcome, mut read) = by_ranges(&image, None, None);
        outcome.unwrap_or_else(|e| panic!("{format} {options:?}: {e}"));
        assert!(read.len() >= disk.len(), "{format} {options:?}");
        read.truncate(disk.len());
        assert!(read == disk, "{format} {options:?} by ranges");
        let (outcome, read, left) = as_stream(&image, Some(20 << 20), None);
        outcome.unwrap_or_else(|e| panic!("{format} {options:?}: {e}"));
        assert!(
            read[..disk.len()] == disk && left == 0,
            "{format} {options:?} as a stream"
        );
    }
}

#[test]
fn blank_disks_are_all_zeros_and_preallocation_takes_space() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let cancel = std::sync::atomic::AtomicBool::new(false);
    for preallocate in [false, true] {
        let target = imaging::Target::open(&dir.path().join("disk.img")).unwrap();
        let job = imaging::Job {
            preallocate,
            ..job(Some(4 << 20), None, &cancel)
        };
        imaging::fill_blank(&target, &job).unwrap();
        let meta = std::fs::metadata(target.path()).unwrap();
        assert_eq!(meta.len(), 4 << 20);
        assert_eq!(meta.blocks() * 512 >= 4 << 20, preallocate);
    }
}
