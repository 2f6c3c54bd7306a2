//! Every parser of bytes of firmware and disks: any bytes are read without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hardware::parse::any_bytes(bytes);
});
