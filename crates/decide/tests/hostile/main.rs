//! Objects that nobody would write, to every judge of objects. The same properties, with a
//! longer breath: `make fuzz`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bases;
mod judges;
mod mutation;
mod schema;
mod texts;

use proptest::prelude::*;

#[test]
fn the_objects_that_all_others_are_made_of_are_sound() {
    for base in bases::all() {
        assert_eq!(judges::refusals(&base), "", "{base}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_admitted_can_be_run_and_is_not_obeyed(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
        judges::judge(&bytes);
    }

    #[test]
    fn what_is_read_of_a_text_is_what_was_meant(
        text in "[-+0-9.eEkKmMgGiTtn*/,?@:a-f \\t]{0,24}",
        any in "\\PC{0,40}",
    ) {
        texts::judge(&text);
        texts::judge(&any);
    }
}
