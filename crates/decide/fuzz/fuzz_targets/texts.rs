//! Texts that people write into fields: schedules, quantities, the last words of workers.
#![no_main]

#[path = "../../tests/hostile/texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| texts::judge(&String::from_utf8_lossy(bytes)));
