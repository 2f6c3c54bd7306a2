//! A whole import: any bytes, compressed or not, become a disk or an error.
#![no_main]

use std::sync::atomic::AtomicBool;

use imaging::{Job, Stage, Target};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = std::env::temp_dir().join(format!("imaging-fuzz-{}", std::process::id()));
    if std::fs::create_dir_all(&dir).is_err() {
        return;
    }
    let Ok(target) = Target::open(&dir.join("disk.img")) else {
        return;
    };
    let cancel = AtomicBool::new(false);
    let job = Job {
        size: Some(4 << 20),
        checksum: None,
        preallocate: false,
        threads: 1,
        progress: &|_| {},
        cancel: &cancel,
    };
    let stage = Stage::File(dir.join("stage"));
    let _ = imaging::import_stream(bytes, Some(bytes.len() as u64), &target, &stage, &job);
});
