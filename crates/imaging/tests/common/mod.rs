//! Images made by the tests themselves, byte by byte as the formats' specifications say.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::sync::atomic::AtomicBool;

use imaging::{Checksum, Job, Outcome, Result, Stage, Target};

pub(crate) fn put(bytes: &mut Vec<u8>, at: usize, value: &[u8]) {
    if bytes.len() < at + value.len() {
        bytes.resize(at + value.len(), 0);
    }
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub(crate) fn job<'a>(
    size: Option<u64>,
    checksum: Option<&str>,
    cancel: &'a AtomicBool,
) -> Job<'a> {
    Job {
        size,
        checksum: checksum.map(|c| c.parse::<Checksum>().unwrap()),
        preallocate: false,
        threads: 3,
        progress: &|part| assert!((0.0..=1.0).contains(&part), "{part}"),
        cancel,
    }
}

/// By ranges: the outcome and the disk.
pub(crate) fn by_ranges(
    image: &[u8],
    size: Option<u64>,
    checksum: Option<&str>,
) -> (Result<Outcome>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let target = Target::open(&path).unwrap();
    let cancel = AtomicBool::new(false);
    let format = imaging::probe(image).unwrap();
    let outcome = imaging::convert(image, format, &target, &job(size, checksum, &cancel));
    (outcome, std::fs::read(&path).unwrap())
}

/// As a stream: the outcome, the disk, and what else was left behind.
pub(crate) fn as_stream(
    image: &[u8],
    size: Option<u64>,
    checksum: Option<&str>,
) -> (Result<Outcome>, Vec<u8>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let target = Target::open(&path).unwrap();
    let cancel = AtomicBool::new(false);
    let outcome = imaging::import_stream(
        image,
        Some(image.len() as u64),
        &target,
        &Stage::File(dir.path().join(".stage")),
        &job(size, checksum, &cancel),
    );
    let left = std::fs::read_dir(dir.path()).unwrap().count() - 1;
    (outcome, std::fs::read(&path).unwrap(), left)
}

/// A disk of `clusters` clusters, of which those in `full` have bytes of their own.
pub(crate) fn disk(cluster: usize, clusters: usize, full: &[usize]) -> Vec<u8> {
    let mut disk = vec![0; cluster * clusters];
    for index in full {
        for (at, byte) in disk[index * cluster..][..cluster].iter_mut().enumerate() {
            *byte = (at / 7 + index * 13 + 1) as u8;
        }
    }
    disk
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Pack {
    Plain,
    Zlib,
    Zstd,
}

/// A cluster as a qcow2 compresses it; nothing where it does not.
fn packed(data: &[u8], pack: Pack) -> Vec<u8> {
    match pack {
        Pack::Plain => Vec::new(),
        Pack::Zlib => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Pack::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(data, level)
        }
    }
}

/// A qcow2 of `disk`: header, L1, L2 tables, data; zero clusters are left out.
pub(crate) fn qcow2(disk: &[u8], bits: u32, version: u32, pack: Pack, shuffle: bool) -> Vec<u8> {
    let cluster = 1usize << bits;
    let per_l2 = cluster / 8;
    let clusters = disk.len().div_ceil(cluster);
    let tables = clusters.div_ceil(per_l2);
    let mut image = Vec::new();
    put(&mut image, 0, b"QFI\xfb");
    put(&mut image, 4, &version.to_be_bytes());
    put(&mut image, 20, &bits.to_be_bytes());
    put(&mut image, 24, &(disk.len() as u64).to_be_bytes());
    put(&mut image, 36, &(tables as u32).to_be_bytes());
    put(&mut image, 40, &(cluster as u64).to_be_bytes());
    if version == 3 {
        let incompatible = if pack == Pack::Zstd { 8u64 } else { 0 };
        put(&mut image, 72, &incompatible.to_be_bytes());
        put(&mut image, 96, &4u32.to_be_bytes());
        put(&mut image, 100, &112u32.to_be_bytes());
        put(&mut image, 104, &[u8::from(pack == Pack::Zstd)]);
    }
    image.resize(cluster, 0);
    let l1_clusters = (tables * 8).div_ceil(cluster).max(1);
    let l2_begin = cluster * (1 + l1_clusters);
    image.resize(l2_begin + tables * cluster, 0);
    for table in 0..tables {
        let offset = (l2_begin + table * cluster) as u64 | 1 << 63;
        put(&mut image, cluster + table * 8, &offset.to_be_bytes());
    }
    let mut order: Vec<usize> = (0..clusters).collect();
    if shuffle {
        order.reverse();
        order.rotate_left(clusters / 3);
    }
    for index in order {
        let mut data = disk[index * cluster..disk.len().min((index + 1) * cluster)].to_vec();
        data.resize(cluster, 0);
        if data.iter().all(|b| *b == 0) {
            continue;
        }
        let packed = packed(&data, pack);
        let shift = 62 - (bits - 8);
        let offset = image.len();
        let sectors = (offset + packed.len().max(1) - 1) / 512 - offset / 512;
        // What does not shrink is stored as it is; the number of sectors has few bits.
        let entry = if packed.is_empty() || sectors >= 1 << (bits - 8) {
            let offset = image.len().next_multiple_of(cluster);
            put(&mut image, offset, &data);
            offset as u64 | 1 << 63
        } else {
            put(&mut image, offset, &packed);
            1 << 62 | (sectors as u64) << shift | offset as u64
        };
        let at = l2_begin + index / per_l2 * cluster + index % per_l2 * 8;
        put(&mut image, at, &entry.to_be_bytes());
    }
    let end = image.len().next_multiple_of(512);
    image.resize(end, 0);
    image
}

/// A VMDK of `disk` with grains of 64 KiB: monolithicSparse or streamOptimized.
pub(crate) fn vmdk(disk: &[u8], stream: bool) -> Vec<u8> {
    let grain = 64 << 10;
    let grains = disk.len().div_ceil(grain);
    let kind = if stream {
        "streamOptimized"
    } else {
        "monolithicSparse"
    };
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"{kind}\"\n\nRW {} SPARSE \"disk.vmdk\"\n",
        disk.len() / 512
    );
    let header = |directory: u64| {
        let mut header = Vec::new();
        put(&mut header, 0, b"KDMV");
        put(
            &mut header,
            4,
            &(if stream { 3u32 } else { 1 }).to_le_bytes(),
        );
        put(
            &mut header,
            8,
            &(if stream { 0x3_0001u32 } else { 1 }).to_le_bytes(),
        );
        put(&mut header, 12, &(disk.len() as u64 / 512).to_le_bytes());
        put(&mut header, 20, &128u64.to_le_bytes());
        put(&mut header, 28, &1u64.to_le_bytes());
        put(&mut header, 36, &20u64.to_le_bytes());
        put(&mut header, 44, &512u32.to_le_bytes());
        put(&mut header, 56, &directory.to_le_bytes());
        put(&mut header, 73, b"\n \r\n");
        put(&mut header, 77, &u16::from(stream).to_le_bytes());
        header.resize(512, 0);
        header
    };
    let mut image = header(u64::MAX);
    put(&mut image, 512, text.as_bytes());
    image.resize(21 * 512, 0);
    let mut sectors = vec![0u32; grains.next_multiple_of(512)];
    for index in 0..grains {
        let mut data = disk[index * grain..disk.len().min((index + 1) * grain)].to_vec();
        data.resize(grain, 0);
        if data.iter().all(|b| *b == 0) {
            continue;
        }
        let at = image.len().next_multiple_of(512);
        sectors[index] = (at / 512) as u32;
        if stream {
            let mut encoder =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&data).unwrap();
            let packed = encoder.finish().unwrap();
            put(&mut image, at, &(index as u64 * 128).to_le_bytes());
            put(&mut image, at + 8, &(packed.len() as u32).to_le_bytes());
            put(&mut image, at + 12, &packed);
        } else {
            put(&mut image, at, &data);
        }
    }
    let mut directory = Vec::new();
    for table in sectors.chunks(512) {
        let at = image.len().next_multiple_of(512);
        directory.extend_from_slice(&((at / 512) as u32).to_le_bytes());
        let bytes: Vec<u8> = table.iter().flat_map(|s| s.to_le_bytes()).collect();
        put(&mut image, at, &bytes);
    }
    let at = image.len().next_multiple_of(512);
    put(&mut image, at, &directory);
    if stream {
        let end = image.len().next_multiple_of(512) + 512;
        put(&mut image, end, &header(at as u64 / 512));
        put(&mut image, end + 1023, &[0]);
    } else {
        put(&mut image, 56, &(at as u64 / 512).to_le_bytes());
    }
    image
}

/// A VDI of `disk`.
pub(crate) fn vdi(disk: &[u8]) -> Vec<u8> {
    let block = 1 << 20;
    let blocks = disk.len().div_ceil(block);
    let mut image = Vec::new();
    put(&mut image, 0x40, &0xbeda_107fu32.to_le_bytes());
    put(&mut image, 0x44, &0x0001_0001u32.to_le_bytes());
    put(&mut image, 0x4c, &1u32.to_le_bytes());
    put(&mut image, 0x154, &512u32.to_le_bytes());
    put(&mut image, 0x158, &4096u32.to_le_bytes());
    put(&mut image, 0x170, &(disk.len() as u64).to_le_bytes());
    put(&mut image, 0x178, &(block as u32).to_le_bytes());
    put(&mut image, 0x180, &(blocks as u32).to_le_bytes());
    image.resize(4096, 0);
    let mut next = 0u32;
    for index in 0..blocks {
        let data = &disk[index * block..disk.len().min((index + 1) * block)];
        let entry = if data.iter().all(|b| *b == 0) {
            u32::MAX
        } else {
            let at = 4096 + next as usize * block;
            put(&mut image, at, data);
            next += 1;
            next - 1
        };
        put(&mut image, 512 + index * 4, &entry.to_le_bytes());
    }
    let end = 4096 + next as usize * block;
    image.resize(end, 0);
    image
}

fn vhd_footer(kind: u32, size: u64) -> Vec<u8> {
    let mut footer = Vec::new();
    put(&mut footer, 0, b"conectix");
    put(&mut footer, 8, &2u32.to_be_bytes());
    put(&mut footer, 12, &0x1_0000u32.to_be_bytes());
    put(
        &mut footer,
        16,
        &(if kind == 3 { 512u64 } else { u64::MAX }).to_be_bytes(),
    );
    put(&mut footer, 28, b"win ");
    put(&mut footer, 40, &size.to_be_bytes());
    put(&mut footer, 48, &size.to_be_bytes());
    put(&mut footer, 60, &kind.to_be_bytes());
    footer.resize(512, 0);
    sum(&mut footer, 64);
    footer
}

fn sum(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0u32, |sum, byte| sum + u32::from(*byte));
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// A fixed VHD of `disk`.
pub(crate) fn vhd_fixed(disk: &[u8]) -> Vec<u8> {
    let mut image = disk.to_vec();
    image.extend(vhd_footer(2, disk.len() as u64));
    image
}

/// A dynamic VHD of `disk`.
pub(crate) fn vhd_dynamic(disk: &[u8]) -> Vec<u8> {
    let block = 2 << 20;
    let blocks = disk.len().div_ceil(block);
    let mut image = vhd_footer(3, disk.len() as u64);
    let mut header = Vec::new();
    put(&mut header, 0, b"cxsparse");
    put(&mut header, 8, &[0xff; 8]);
    put(&mut header, 16, &1536u64.to_be_bytes());
    put(&mut header, 28, &(blocks as u32).to_be_bytes());
    put(&mut header, 32, &(block as u32).to_be_bytes());
    header.resize(1024, 0);
    sum(&mut header, 36);
    put(&mut image, 512, &header);
    let end = (1536 + blocks * 4).next_multiple_of(512);
    image.resize(end, 0xff);
    for index in 0..blocks {
        let mut data = disk[index * block..disk.len().min((index + 1) * block)].to_vec();
        data.resize(block, 0);
        if data.iter().all(|b| *b == 0) {
            continue;
        }
        let at = image.len();
        put(
            &mut image,
            1536 + index * 4,
            &((at / 512) as u32).to_be_bytes(),
        );
        put(&mut image, at, &[0xff; 512]);
        put(&mut image, at + 512, &data);
    }
    image.extend(vhd_footer(3, disk.len() as u64));
    image
}
