//! Texts that people and workers write, to everything that reads them.

use decide::cdi::cron::schedule;
use decide::cdi::{size, state};

/// What is read is what was meant: read again it is the same.
pub(crate) fn judge(text: &str) {
    if schedule::check(text).is_ok() {
        let words = text.split_ascii_whitespace().count();
        assert!(words == 5 || text.starts_with('@'), "{text:?}");
        let known = |c: char| c.is_ascii_alphanumeric() || " \t\r\n\x0c*/,-?@".contains(c);
        assert!(text.chars().all(known), "{text:?}");
    }
    let read = machine::quantity::parse(text).ok();
    if let Some(bytes) = read {
        assert!(i64::try_from(bytes).is_ok(), "{text:?}: {bytes}");
        assert_eq!(
            machine::quantity::parse(&bytes.to_string()),
            Ok(bytes),
            "{text:?}"
        );
    }
    assert!(
        size::bytes(text).is_none_or(|bytes| read == Some(bytes)),
        "{text:?}"
    );
    if let Some(mac) = machine::spec::parse_mac(text) {
        let written = mac.map(|byte| format!("{byte:02x}")).join(":");
        assert_eq!(machine::spec::parse_mac(&written), Some(mac), "{text:?}");
    }
    // A worker that says nothing sensible has said something all the same.
    let word = state::LastWord::read(text);
    let silent = word.message.is_none() && word.error.is_none() && word.digest.is_none();
    assert!(
        !silent || text.trim().is_empty() || text.trim_start().starts_with('{'),
        "{text:?}"
    );
}
