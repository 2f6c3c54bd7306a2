//! Kubernetes quantities (`2056M`, `1Gi`, `1.5e9`, `500m`) as whole bytes.
//!
//! Source of the grammar: k8s.io/apimachinery, pkg/api/resource/quantity.go.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Why a text is no number of bytes, said as what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The part before the suffix is no decimal number.
    #[error("a decimal number such as 1.5, with an optional suffix")]
    Number,
    /// The suffix is none of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent.
    #[error("one of the suffixes k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent")]
    Suffix,
    /// Less than nothing.
    #[error("a quantity that is not negative")]
    Negative,
    /// More than 2^63 - 1.
    #[error("a quantity below 8Ei")]
    TooLarge,
}

/// Whole bytes of a quantity, rounded up as Kubernetes' `Value()` does.
///
/// # Errors
/// When the text is malformed, negative or above 2^63 - 1.
pub fn bytes(quantity: &Quantity) -> Result<u64, QuantityError> {
    parse(&quantity.0)
}

/// Like [`bytes`], from text.
///
/// # Errors
/// When the text is malformed, negative or above 2^63 - 1.
pub fn parse(text: &str) -> Result<u64, QuantityError> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(QuantityError::Number);
    }
    let fraction = fraction.trim_end_matches('0');
    let (multiplier, divisor) = scale(suffix)?;
    // digits * multiplier / (divisor * 10^places), rounded up.
    let mut digits: u128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        digits = digits
            .checked_mul(10)
            .and_then(|d| d.checked_add(u128::from(digit - b'0')))
            .ok_or(QuantityError::TooLarge)?;
    }
    let places = u32::try_from(fraction.len()).map_err(|_| QuantityError::TooLarge)?;
    let divisor = 10u128
        .checked_pow(places)
        .and_then(|p| p.checked_mul(divisor))
        .ok_or(QuantityError::TooLarge)?;
    let value = digits
        .checked_mul(multiplier)
        .ok_or(QuantityError::TooLarge)?
        .div_ceil(divisor);
    if negative && value > 0 {
        return Err(QuantityError::Negative);
    }
    if value > i64::MAX as u128 {
        return Err(QuantityError::TooLarge);
    }
    u64::try_from(value).map_err(|_| QuantityError::TooLarge)
}

/// Multiplier and divisor of a suffix.
fn scale(suffix: &str) -> Result<(u128, u128), QuantityError> {
    Ok(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent = suffix
                .strip_prefix(['e', 'E'])
                .ok_or(QuantityError::Suffix)?;
            let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            let power = 10u128
                .checked_pow(exponent.unsigned_abs())
                .ok_or(QuantityError::TooLarge)?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_bytes_rounded_up() {
        for (text, expected) in [
            ("0", 0),
            ("64", 64),
            ("2056M", 2_056_000_000),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("0.5Ki", 512),
            (".5k", 500),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1500m", 2),
            ("1n", 1),
            ("-0", 0),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn malformed_quantities_are_refused() {
        for (text, expected) in [
            ("", QuantityError::Number),
            ("Gi", QuantityError::Number),
            ("1.2.3", QuantityError::Number),
            ("1GB", QuantityError::Suffix),
            ("1 Gi", QuantityError::Suffix),
            ("-1Gi", QuantityError::Negative),
            ("99999999999E", QuantityError::TooLarge),
            ("12E", QuantityError::TooLarge),
            ("1e99", QuantityError::TooLarge),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }
}
