//! Ranges of hosts: `node[01:10]`, `node[1:9:2].lab`, `rack[a:c]-[1:2]`.

/// Most hosts one pattern may mean; more is a typing error.
const MOST: usize = 65_536;

/// The names a pattern means.
///
/// # Errors
/// A range that cannot be read, ends before it begins, or is enormous.
pub(crate) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some(open) = pattern.find('[') else {
        return Ok(vec![pattern.to_owned()]);
    };
    let head = &pattern[..open];
    let rest = &pattern[open + 1..];
    let close = rest
        .find(']')
        .ok_or_else(|| format!("{pattern:?}: expected ] after ["))?;
    let range = &rest[..close];
    // An IPv6 address is no range.
    let is_address = head.is_empty() && range.matches(':').count() > 1 && range.contains("::");
    let middles = if is_address {
        vec![format!("[{range}]")]
    } else {
        steps(range)?
    };
    let tails = expand(&rest[close + 1..])?;
    if middles.len().saturating_mul(tails.len()) > MOST {
        return Err(format!("{pattern:?}: more than {MOST} hosts"));
    }
    let mut names = Vec::new();
    for middle in &middles {
        for tail in &tails {
            names.push(format!("{head}{middle}{tail}"));
        }
    }
    Ok(names)
}

fn steps(range: &str) -> Result<Vec<String>, String> {
    let expected =
        || format!("[{range}]: expected [first:last] or [first:last:step], digits or letters");
    let mut parts = range.split(':');
    let (Some(first), Some(last)) = (parts.next(), parts.next()) else {
        return Err(expected());
    };
    let step: usize = match parts.next() {
        Some(step) => step.parse().ok().filter(|s| *s > 0).ok_or_else(expected)?,
        None => 1,
    };
    if parts.next().is_some() || last.is_empty() {
        return Err(expected());
    }
    let first = if first.is_empty() { "0" } else { first };
    if let (Ok(from), Ok(to)) = (first.parse::<u64>(), last.parse::<u64>()) {
        let padded = first.starts_with('0') && first.len() > 1;
        if padded && first.len() != last.len() {
            return Err(format!(
                "[{range}]: expected as many digits in {last} as in {first}"
            ));
        }
        let width = if padded { first.len() } else { 0 };
        if to < from || to - from >= MOST as u64 {
            return Err(format!("[{range}]: expected at most {MOST} steps upwards"));
        }
        return Ok((from..=to)
            .step_by(step)
            .map(|n| format!("{n:0width$}"))
            .collect());
    }
    let mut letters = (first.chars(), last.chars());
    match (
        letters.0.next(),
        letters.1.next(),
        letters.0.next(),
        letters.1.next(),
    ) {
        (Some(from), Some(to), None, None)
            if from.is_ascii_alphabetic() && to.is_ascii_alphabetic() && from <= to =>
        {
            Ok((from..=to).step_by(step).map(String::from).collect())
        }
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_mean_what_they_mean_to_ansible() {
        for (pattern, expected) in [
            ("edge1", vec!["edge1"]),
            ("n[08:10]", vec!["n08", "n09", "n10"]),
            ("n[1:5:2].lab", vec!["n1.lab", "n3.lab", "n5.lab"]),
            ("r[a:b]-[1:2]", vec!["ra-1", "ra-2", "rb-1", "rb-2"]),
            ("[2001:db8::1]", vec!["[2001:db8::1]"]),
        ] {
            assert_eq!(expand(pattern).unwrap(), expected, "{pattern}");
        }
    }

    #[test]
    fn ranges_that_mean_nothing_are_refused() {
        for bad in [
            "n[1:",
            "n[1]",
            "n[5:1]",
            "n[a:9]",
            "n[01:100]",
            "n[0:99999999]",
            "n[1:2:0]",
        ] {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }
}
