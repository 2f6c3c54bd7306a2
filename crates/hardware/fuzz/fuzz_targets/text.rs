//! Every parser of text of the kernel: any text is read without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hardware::parse::any_text(&String::from_utf8_lossy(bytes));
});
