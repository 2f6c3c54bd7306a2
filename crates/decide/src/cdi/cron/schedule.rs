//! When a cron is due: exactly those expressions pass that a CronJob takes, so that
//! nothing is accepted here which the API server refuses later.
//!
//! Source of the grammar: cron(5) and the validation of batch/v1 CronJob.

use std::ops::RangeInclusive;

/// The five fields: name, range, and names for its numbers from the first on.
const FIELDS: [(&str, RangeInclusive<u32>, &[&str]); 5] = [
    ("minute", 0..=59, &[]),
    ("hour", 0..=23, &[]),
    ("day of the month", 1..=31, &[]),
    (
        "month",
        1..=12,
        &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    ),
    (
        "day of the week",
        0..=6,
        &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    ),
];
/// Words for common expressions.
const WORDS: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// Checks an expression.
///
/// # Errors
/// What was expected and what was found, for people.
pub fn check(text: &str) -> Result<(), String> {
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        return Err(format!(
            "expected no time zone in the expression, found {text:?}; times are the cluster's (UTC)"
        ));
    }
    if text.starts_with('@') {
        if WORDS.contains(&text) {
            return Ok(());
        }
        return Err(format!(
            "expected one of {} or five fields, found {text:?}",
            WORDS.join(", ")
        ));
    }
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!(
            "expected five fields (minute, hour, day of the month, month, day of the week), found {} in {text:?}",
            parts.len()
        ));
    }
    for (part, (name, range, names)) in parts.into_iter().zip(&FIELDS) {
        for one in part.split(',') {
            term(one, range, names).map_err(|why| format!("{name}: {why}, found {one:?}"))?;
        }
    }
    Ok(())
}

/// `*`, a number or a range, each with a step.
fn term(text: &str, range: &RangeInclusive<u32>, names: &[&str]) -> Result<(), String> {
    let (what, step) = match text.split_once('/') {
        Some((what, step)) => (what, Some(step)),
        None => (text, None),
    };
    if let Some(step) = step
        && number(step).is_none_or(|step| step == 0)
    {
        return Err("expected a step of one or more after the slash".to_owned());
    }
    if matches!(what, "*" | "?") {
        return Ok(());
    }
    let value = |text: &str| {
        let named = names
            .iter()
            .zip(range.clone())
            .find(|(name, _)| text.eq_ignore_ascii_case(name));
        named
            .map(|(_, value)| value)
            .or_else(|| number(text))
            .filter(|value| range.contains(value))
            .ok_or_else(|| {
                format!(
                    "expected *, or a number from {} to {}",
                    range.start(),
                    range.end()
                )
            })
    };
    match what.split_once('-') {
        None => value(what).map(|_| ()),
        Some((low, high)) if value(low)? <= value(high)? => Ok(()),
        Some(_) => Err("expected a range whose end is not before its beginning".to_owned()),
    }
}

/// Digits alone: no sign, no more than any field has.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cron_job_takes_is_taken() {
        for text in [
            "* * * * *",
            "30 1 * * 1",
            "0/15 0-6,22-23 1,15 jan-MAR sun",
            "*/5 ? * * ?",
            "1-10/3 * 31 12 6",
            "0 0 30 2 *",
            "@daily",
            "@hourly",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_a_cron_job_refuses_is_refused_with_the_field() {
        for (text, word) in [
            ("", "five fields"),
            ("* * * *", "found 4"),
            ("* * * * * *", "found 6"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of the month"),
            ("* * * 13 *", "month"),
            ("* * * * 7", "day of the week"),
            ("*/0 * * * *", "step"),
            ("*/ * * * *", "step"),
            ("5-1 * * * *", "range"),
            ("1, * * * *", "minute"),
            ("-1 * * * *", "minute"),
            ("+1 * * * *", "minute"),
            ("1-2-3 * * * *", "minute"),
            ("x * * * *", "minute"),
            ("jan * * * *", "minute"),
            ("TZ=UTC * * * * *", "time zone"),
            ("CRON_TZ=UTC * * * * *", "time zone"),
            ("@often", "@daily"),
            ("@every 1h", "@hourly"),
        ] {
            let said = check(text).err().unwrap_or_default();
            assert!(said.contains(word), "{text}: {said}");
        }
    }
}
