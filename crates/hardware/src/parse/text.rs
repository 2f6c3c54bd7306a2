//! The small forms that recur in /proc and /sys.

/// A whole file that holds one number, in decimal or, after `0x`, hexadecimal.
///
/// Trailing white space is fine; anything else is `None`.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// As [`number`], for files that may hold a negative number (`numa_node` is -1
/// where the firmware names none; `speed` is -1 without a link).
#[must_use]
pub fn signed(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// A flag of a module's parameter or of sysfs: `Y`, `N`, `1` or `0`.
#[must_use]
pub fn flag(text: &str) -> Option<bool> {
    match text.trim() {
        "Y" | "y" | "1" => Some(true),
        "N" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// The chosen word of a list such as `[none] integrity confidentiality`.
#[must_use]
pub fn chosen(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// How many numbers a list such as `0-3,8` names (the format of cpulist files).
///
/// Parts that are no range are not counted.
#[must_use]
pub fn count_of_list(text: &str) -> u64 {
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            last.checked_sub(first)?.checked_add(1)
        })
        .fold(0, u64::saturating_add)
}

/// The value of the first `key: value` line; the space before the colon, as
/// /proc/cpuinfo has it, does not matter.
#[must_use]
pub fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// The value of the last `KEY=value` line, as shells and os-release(5) read it:
/// comments are left out, quotes around the value are taken off.
#[must_use]
pub fn assignment(text: &str, key: &str) -> Option<String> {
    assignments(text)
        .filter(|(name, _)| *name == key)
        .last()
        .map(|(_, value)| value)
}

/// Every `KEY=value` line, in order; see [`assignment`].
pub fn assignments(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if line.starts_with('#') {
            return None;
        }
        let (name, value) = line.split_once('=')?;
        Some((name.trim(), unquoted(value.trim())))
    })
}

fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            // Only within double quotes does a backslash mean anything.
            return match quote {
                '"' => unescaped(inner),
                _ => inner.to_owned(),
            };
        }
    }
    value.to_owned()
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.extend(letters.next()),
            other => out.push(other),
        }
    }
    out
}

/// The part of a fixed-width field before its first zero byte, without the
/// spaces around it; bytes that are no UTF-8 are replaced.
#[must_use]
pub fn padded(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default())
        .trim()
        .to_owned()
}

/// Bytes `at..at + N`, when they are there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A little-endian 16-bit number.
pub(crate) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

/// A little-endian 32-bit number.
pub(crate) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

/// A little-endian 64-bit number.
pub(crate) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal_and_garbage_is_none() {
        for (text, expected) in [
            ("7\n", Some(7)),
            ("0x8086\n", Some(0x8086)),
            ("", None),
            ("-1\n", None),
            ("7 8", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
        assert_eq!(signed("-1\n"), Some(-1));
    }

    #[test]
    fn the_bracketed_word_is_the_chosen_one() {
        assert_eq!(
            chosen("none [integrity] confidentiality\n"),
            Some("integrity")
        );
        assert_eq!(chosen("none integrity"), None);
    }

    #[test]
    fn ranges_of_a_list_are_counted() {
        for (text, count) in [("0-3,8\n", 5), ("0\n", 1), ("\n", 0), ("5-2,x", 0)] {
            assert_eq!(count_of_list(text), count, "{text:?}");
        }
    }

    #[test]
    fn assignments_are_read_as_a_shell_would() {
        let text = "# ID=no\nID=\"deb\\\"ian\"\nexport A='x y'\nID=last\nB=\n";
        assert_eq!(assignment(text, "ID").as_deref(), Some("last"));
        assert_eq!(assignment(text, "A").as_deref(), Some("x y"));
        assert_eq!(assignment(text, "B").as_deref(), Some(""));
        assert_eq!(unquoted("\"deb\\\"ian\""), "deb\"ian");
    }
}
