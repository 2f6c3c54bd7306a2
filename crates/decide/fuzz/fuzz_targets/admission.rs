//! Objects that nobody would write: what is admitted can be run and is not obeyed.
#![no_main]

#[path = "../../tests/hostile/bases.rs"]
mod bases;
// The tests ask for refusals too.
#[allow(dead_code)]
#[path = "../../tests/hostile/judges.rs"]
mod judges;
#[path = "../../tests/hostile/mutation.rs"]
mod mutation;
#[path = "../../tests/hostile/schema.rs"]
mod schema;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| judges::judge(bytes));
