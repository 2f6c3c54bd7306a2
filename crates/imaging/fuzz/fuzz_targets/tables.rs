//! Every format's header and tables: any bytes are read without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = imaging::any_image(bytes);
});
