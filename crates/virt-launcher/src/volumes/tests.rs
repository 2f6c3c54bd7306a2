//! Claims as their last user may have left them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsString;
use std::os::unix::fs::symlink;

use api::launcher::Sync;
use serde_json::{Value, json};

use super::*;

/// A launcher's directories, and its disk `v` of a volume from `source`.
struct Place {
    dir: tempfile::TempDir,
    args: Args,
    disk: Disk,
}

fn place(source: Value, size: Option<u64>) -> Place {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("vmi-disks/v")).unwrap();
    std::fs::create_dir_all(dir.path().join("dev")).unwrap();
    let mut words = vec![
        OsString::from("--private-dir"),
        dir.path().into(),
        "--dev-dir".into(),
        dir.path().join("dev").into(),
    ];
    if let Some(size) = size {
        words.extend(["--image-size".into(), format!("v={size}").into()]);
    }
    let mut volume = source;
    volume["name"] = json!("v");
    let sync = Sync {
        vmi: serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "c"},
            "spec": {
                "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [
                    {"name": "v", "disk": {"bus": "virtio"}}]}},
                "volumes": [volume]
            }
        }))
        .unwrap(),
        use_emulation: true,
        ..Sync::default()
    };
    Place {
        dir,
        args: Args::parse(words).unwrap(),
        disk: machine::Machine::try_from(&sync).unwrap().disks.remove(0),
    }
}

fn claim() -> Value {
    json!({"persistentVolumeClaim": {"claimName": "c"}})
}

impl Place {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("vmi-disks/v").join(name)
    }

    fn size(&self) -> Result<u64, String> {
        match open(&self.args, &self.disk) {
            Ok(Found::Image { size, .. } | Found::Device { size, .. }) => Ok(size),
            Err(error) => Err(format!("{error:#}")),
        }
    }
}

#[test]
fn an_image_that_is_there_is_opened_and_one_that_is_not_is_made() {
    let there = place(claim(), Some(1 << 20));
    std::fs::write(there.file("disk.img"), [1; 4096]).unwrap();
    assert_eq!(there.size(), Ok(4096));

    let missing = place(claim(), Some(3 << 20));
    assert_eq!(missing.size(), Ok(3 << 20));
    let made = std::fs::metadata(missing.file("disk.img")).unwrap();
    assert_eq!(made.len(), 3 << 20);
    assert_eq!(missing.size(), Ok(3 << 20), "the second start finds it");

    // virt-handler made it where we may not, and left its size to us.
    let empty = place(claim(), Some(1 << 20));
    std::fs::write(empty.file("disk.img"), []).unwrap();
    assert_eq!(empty.size(), Ok(1 << 20));
}

#[test]
fn nothing_but_a_regular_file_in_its_place_is_opened() {
    let secret = place(claim(), Some(4096));
    let outside = secret.dir.path().join("outside");
    std::fs::write(&outside, "secret").unwrap();
    symlink(&outside, secret.file("disk.img")).unwrap();
    let why = secret.size().unwrap_err();
    assert!(why.contains("symbolic link"), "{why}");

    let directory = place(claim(), Some(4096));
    std::fs::create_dir(directory.file("disk.img")).unwrap();
    assert!(directory.size().is_err());

    let pipe = place(claim(), Some(4096));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        pipe.file("disk.img"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let why = pipe.size().unwrap_err();
    assert!(why.contains("regular file"), "{why}");

    // The mounted directory itself cannot be swapped for a link either.
    let swapped = place(claim(), Some(4096));
    std::fs::remove_dir(swapped.dir.path().join("vmi-disks/v")).unwrap();
    symlink("/", swapped.dir.path().join("vmi-disks/v")).unwrap();
    assert!(swapped.size().is_err());
}

#[test]
fn what_is_only_read_is_never_made() {
    let sources = [
        json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}),
        json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}}),
        json!({"hostDisk": {"path": "/d/disk.img", "type": "Disk"}}),
    ];
    for source in sources {
        let told = source.to_string();
        let place = place(source, Some(4096));
        let why = place.size().unwrap_err();
        assert!(why.contains("found none"), "{told}: {why}");
        assert!(!place.file("disk.img").exists());
        std::fs::write(place.file("disk.img"), [0; 512]).unwrap();
        assert_eq!(place.size(), Ok(512), "{told}");
    }
}

#[test]
fn a_disk_of_the_node_is_made_with_its_capacity() {
    let host =
        |kind: &str| json!({"hostDisk": {"path": "/d/a.img", "type": kind, "capacity": "1Mi"}});
    let place = place(host("DiskOrCreate"), None);
    assert_eq!(place.size(), Ok(1 << 20));
    assert!(place.file("a.img").exists());
}

#[test]
fn a_volume_that_is_neither_mounted_nor_a_device_is_told() {
    let place = place(claim(), None);
    std::fs::remove_dir(place.dir.path().join("vmi-disks/v")).unwrap();
    assert!(place.size().unwrap_err().contains("found neither"));
    std::fs::write(place.dir.path().join("dev/v"), "no device").unwrap();
    assert!(
        place
            .size()
            .unwrap_err()
            .contains("expected a block device")
    );
}

#[test]
fn an_image_gives_way_by_a_tenth_and_no_more() {
    const GIB: u64 = 1 << 30;
    assert_eq!(fit(GIB, 2 * GIB).unwrap(), GIB);
    let less = fit(GIB, GIB / 100 * 95).unwrap();
    assert!(less < GIB && less.is_multiple_of(MIB), "{less}");
    assert!(fit(GIB, GIB / 100 * 89).is_err());
    assert_eq!(fit(1000, GIB).unwrap(), 1024);
}

#[test]
fn files_come_without_the_kubelets_own() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("..2026/sub");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(dir.path().join("..2026/key"), "value").unwrap();
    std::fs::write(data.join("deep"), "er").unwrap();
    symlink("..2026", dir.path().join("..data")).unwrap();
    symlink("..data/key", dir.path().join("key")).unwrap();
    symlink("..data/sub", dir.path().join("sub")).unwrap();
    let found = files(dir.path()).unwrap();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["key", "sub/deep"]);
}
