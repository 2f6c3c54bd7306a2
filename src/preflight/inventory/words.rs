//! Words as a shell would split them: quotes, backslashes, comments.

/// Splits a line; `comments`: an unquoted `#` at a word's start ends it.
///
/// # Errors
/// A quote that is not closed.
pub(crate) fn split(line: &str, comments: bool) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' if comments && word.is_none() => break,
            '\'' | '"' => {
                let current = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(q) if q == c => break,
                        Some('\\') if c == '"' => match chars.next() {
                            Some(e @ ('"' | '\\')) => current.push(e),
                            Some(e) => {
                                current.push('\\');
                                current.push(e);
                            }
                            None => return Err(format!("the quote {c} is not closed")),
                        },
                        Some(other) => current.push(other),
                        None => return Err(format!("the quote {c} is not closed")),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (line, expected) in [
            ("a  b", vec!["a", "b"]),
            ("k='x y' # rest", vec!["k=x y"]),
            (r#"k="x \" y"z"#, vec![r#"k=x " yz"#]),
            ("a#b", vec!["a#b"]),
            ("'' x", vec!["", "x"]),
            (r"a\ b", vec!["a b"]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(split(line, true), Ok(expected), "{line}");
        }
        assert!(split("k='x", true).is_err());
    }
}
