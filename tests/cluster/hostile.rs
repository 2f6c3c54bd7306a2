//! Images that lie: each is a failed DataVolume that says why, and nothing outside of its claim was read or written.

use std::io::Write;

use serde_json::json;
use testkit::Namespace;

use crate::datavolumes::{
    condition, create, delete, directory, fails, holds, http, no_workers, random, succeeds,
};
use crate::fixtures::path;
use crate::web::Files;

const CLUSTER: usize = 64 << 10;

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A qcow2 of a disk that one L2 table has room for: header, L1 table, L2 table, data.
pub(crate) fn qcow2(disk: &[u8]) -> Vec<u8> {
    let clusters = disk.len().div_ceil(CLUSTER);
    assert!(clusters <= CLUSTER / 8);
    let mut image = vec![0; (3 + clusters) * CLUSTER];
    put(&mut image, 0, b"QFI\xfb\0\0\0\x03");
    put(&mut image, 20, &16_u32.to_be_bytes());
    put(&mut image, 24, &(disk.len() as u64).to_be_bytes());
    put(&mut image, 36, &1_u32.to_be_bytes());
    put(&mut image, 40, &(CLUSTER as u64).to_be_bytes());
    put(&mut image, 96, &4_u32.to_be_bytes());
    put(&mut image, 100, &104_u32.to_be_bytes());
    let used = 1 << 63;
    put(
        &mut image,
        CLUSTER,
        &((2 * CLUSTER as u64) | used).to_be_bytes(),
    );
    for index in 0..clusters {
        let entry = ((3 + index) as u64 * CLUSTER as u64) | used;
        put(&mut image, 2 * CLUSTER + index * 8, &entry.to_be_bytes());
    }
    put(&mut image, 3 * CLUSTER, disk);
    image
}

fn with(mut image: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    put(&mut image, at, bytes);
    image
}

/// 400 MiB of zeros in 400 KiB, twice packed in less.
fn bomb() -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..400 {
        gzip.write_all(&zeros).unwrap();
    }
    gzip.finish().unwrap()
}

/// A tar with one file.
fn tar(name: &str, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    put(&mut header, 0, name.as_bytes());
    put(&mut header, 100, b"0000644\0");
    put(&mut header, 108, b"0000153\0");
    put(&mut header, 116, b"0000153\0");
    put(
        &mut header,
        124,
        format!("{:011o}\0", body.len()).as_bytes(),
    );
    put(&mut header, 136, b"00000000000\0");
    put(&mut header, 148, b"        ");
    put(&mut header, 156, b"0");
    put(&mut header, 257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
    header.extend_from_slice(body);
    header.resize(header.len().next_multiple_of(512) + 1024, 0);
    header
}

/// Whether any file of the directory has these bytes.
fn has(directory: &std::path::Path, secret: &[u8]) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(secret.len()).any(|part| part == secret)
    })
}

#[test]
fn each_image_that_lies_fails_with_its_reason_and_reaches_nothing() {
    let ns = Namespace::new("hostile");
    let disk = random(1 << 20);
    let good = || qcow2(&disk);
    // A file that any process of a container may read.
    let secret = "/etc/passwd";
    let backing = with(
        with(good(), 512, secret.as_bytes()),
        8,
        &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11],
    );
    let huge = with(
        with(good(), 24, &(1_u64 << 50).to_be_bytes()),
        36,
        &u32::MAX.to_be_bytes(),
    );
    let second = 2 * CLUSTER + 8;
    let first = good()[2 * CLUSTER..2 * CLUSTER + 8].to_vec();
    let descriptor = format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\nRW 2048 FLAT \"{secret}\" 0\n"
    );
    let images = [
        ("backing-file", backing, "backing file"),
        (
            "data-file",
            with(good(), 72, &4_u64.to_be_bytes()),
            "external data file",
        ),
        ("huge", huge, "A larger PVC is required"),
        (
            "cyclic",
            with(good(), CLUSTER, &(CLUSTER as u64).to_be_bytes()),
            "cyclic",
        ),
        ("overlapping", with(good(), second, &first), "overlapping"),
        ("truncated", good()[..4 * CLUSTER].to_vec(), "truncated"),
        ("extent-path", descriptor.into_bytes(), "never opened"),
        ("bomb", bomb(), "A larger PVC is required"),
        ("too-large", random(20 << 20), "A larger PVC is required"),
        ("climbing", tar("../../climbed", b"out"), "climbed"),
    ];
    let mut files = Files::default();
    for (name, image, _) in &images {
        files = files.file(name, image.clone());
    }
    let web = files.serve();
    for (name, ..) in &images {
        let mut dv = http(name, &web.url(name), "16Mi");
        if *name == "climbing" {
            dv["spec"]["contentType"] = json!("archive");
        }
        create(&ns, &dv);
    }
    for (name, _, reason) in &images {
        fails(&ns, name, reason);
    }
    no_workers(&ns);
    for (name, ..) in &images {
        let volume = directory(&ns, name);
        assert!(!has(&volume, b"root:x:"), "{name}: a file of the node");
        for outside in [volume.parent(), volume.parent().and_then(|up| up.parent())] {
            let climbed = outside.unwrap().join("climbed");
            assert!(!climbed.exists(), "{}", climbed.display());
        }
    }
}

#[test]
fn an_upload_that_lies_fails_with_its_reason_and_a_new_volume_takes_a_good_one() {
    let ns = Namespace::new("lies");
    let dir = tempfile::tempdir().unwrap();
    let disk = random(1 << 20);
    let (bad, good) = (dir.path().join("bad"), dir.path().join("good"));
    std::fs::write(&bad, with(qcow2(&disk), 72, &4_u64.to_be_bytes())).unwrap();
    std::fs::write(&good, qcow2(&disk)).unwrap();
    let upload = |file: &std::path::Path| {
        ns.virtctl(&[
            "image-upload",
            "dv",
            "disk",
            "--size=16Mi",
            "--insecure",
            &format!("--image-path={}", path(file)),
        ])
    };
    let said = upload(&bad).expect_err("a data file outside");
    assert!(said.contains("external data file"), "{said}");
    ns.wait_for("dv", "disk", "/status/phase", "Failed");
    let dv = ns.get("dv", "disk");
    let ready = condition(&dv, "Ready")["message"].to_string();
    assert!(ready.contains("external data file"), "{dv}");
    // Nobody is left waiting for a server that will not come back.
    let said = upload(&good).expect_err("into a failed one");
    assert!(said.contains("external data file"), "{said}");
    delete(&ns, "disk");
    let _ = upload(&good).expect_ok("a good one");
    succeeds(&ns, "disk");
    holds(&ns, "disk", &disk);
    no_workers(&ns);
}
