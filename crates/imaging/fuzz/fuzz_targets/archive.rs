//! An archive: nothing is written outside the directory.
#![no_main]

use std::sync::atomic::AtomicBool;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = std::env::temp_dir().join(format!("imaging-fuzz-tar-{}", std::process::id()));
    let into = dir.join("volume");
    if std::fs::create_dir_all(&into).is_err() {
        return;
    }
    let cancel = AtomicBool::new(false);
    let job = imaging::Job {
        size: Some(1 << 20),
        checksum: None,
        preallocate: false,
        threads: 1,
        progress: &|_| {},
        cancel: &cancel,
    };
    let _ = imaging::archive::extract(bytes, &into, &job);
    let outside = std::fs::read_dir(&dir).map_or(1, Iterator::count);
    assert_eq!(outside, 1);
    let _ = std::fs::remove_dir_all(&into);
});
