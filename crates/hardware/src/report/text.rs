//! Strings from a node made safe to print.

/// `text` without what would drive a terminal: control characters become `�`, line
/// feeds and tabs stay, and the marks that turn the direction of writing go away.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| !turns_direction(*letter))
        .map(|letter| match letter {
            '\n' | '\t' => letter,
            other if other.is_control() => '\u{fffd}',
            other => other,
        })
        .collect()
}

/// Marks that make a text look different from what it says (Unicode UAX 9).
fn turns_direction(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// `text` for XML content and quoted attributes; what XML 1.0 does not allow becomes `�`.
pub(super) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in printable(text).chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // A line break within an attribute would be read as a blank.
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_or_xml_gets_through() {
        assert_eq!(printable("a\u{1b}[31mb\nc\u{202e}d"), "a\u{fffd}[31mb\ncd");
        assert_eq!(
            xml("<a b='\"'>&\u{0}\u{ffff}"),
            "&lt;a b=&#39;&quot;&#39;&gt;&amp;\u{fffd}\u{fffd}"
        );
    }
}
