//! Kubernetes quantities, as exact numbers.
//!
//! Source of the notation: k8s.io/apimachinery/pkg/api/resource.

use serde_json::Value;

/// Smallest unit a quantity can be given in: one thousand-millionth.
const NANO: i128 = 1_000_000_000;

/// An amount in units of 1e-9; finer amounts are rounded up, as upstream does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quantity(i128);

impl Quantity {
    /// Reads text or a number of JSON; `None` when it is neither or malformed.
    pub(super) fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    /// Reads a quantity; missing and malformed ones are zero, as Go's unset
    /// quantity is. Malformed ones never get here: the schema has a pattern.
    pub(super) fn or_zero(value: &Value) -> Self {
        Self::read(value).unwrap_or_default()
    }

    /// Parses the notation, as in `2056M`, `1.5Gi`, `100m`, `1e3`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, suffix) = rest.split_at(end);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let places = i32::try_from(fraction.len()).ok()?;
        let scale = Scale::of(suffix)?;
        // More than fits is as much as there is; upstream caps at 2^63 - 1.
        let amount = scale.apply(&digits, places).unwrap_or(i128::MAX);
        Some(Self(if negative { -amount } else { amount }))
    }

    /// Whole units, rounded up.
    pub(super) fn value(self) -> i64 {
        i64::try_from(divide_up(self.0, NANO)).unwrap_or(i64::MAX)
    }

    /// Whether it is nothing.
    pub(super) fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// What the suffix of a quantity stands for.
enum Scale {
    /// A power of two.
    Binary(u32),
    /// A power of ten.
    Decimal(i32),
}

impl Scale {
    fn of(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "Ki" => Self::Binary(10),
            "Mi" => Self::Binary(20),
            "Gi" => Self::Binary(30),
            "Ti" => Self::Binary(40),
            "Pi" => Self::Binary(50),
            "Ei" => Self::Binary(60),
            "n" => Self::Decimal(-9),
            "u" => Self::Decimal(-6),
            "m" => Self::Decimal(-3),
            "" => Self::Decimal(0),
            "k" => Self::Decimal(3),
            "M" => Self::Decimal(6),
            "G" => Self::Decimal(9),
            "T" => Self::Decimal(12),
            "P" => Self::Decimal(15),
            "E" => Self::Decimal(18),
            _ => Self::Decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
        })
    }

    /// Units of 1e-9 in `digits`, of which the last `places` are behind the
    /// point; `None` when they do not fit.
    fn apply(self, digits: &str, places: i32) -> Option<i128> {
        let mantissa = digits.parse::<i128>().ok()?;
        match self {
            Self::Binary(shift) => {
                let scaled = mantissa.checked_mul(1_i128 << shift)?.checked_mul(NANO)?;
                Some(divide_up(scaled, power_of_ten(places)?))
            }
            Self::Decimal(exponent) => {
                let exponent = exponent.checked_add(9)?.checked_sub(places)?;
                if exponent >= 0 {
                    mantissa.checked_mul(power_of_ten(exponent)?)
                } else {
                    // Less than the smallest unit rounds up to it.
                    let by = power_of_ten(-exponent).unwrap_or(i128::MAX);
                    Some(divide_up(mantissa, by))
                }
            }
        }
    }
}

fn power_of_ten(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

/// Quotient away from zero.
fn divide_up(amount: i128, by: i128) -> i128 {
    let quotient = amount / by;
    if amount % by == 0 {
        quotient
    } else {
        quotient + amount.signum()
    }
}

/// Quantity of JSON as text, for messages: `0` when it is missing.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_notations_are_read() {
        for (text, value) in [
            ("2056M", 2_056_000_000),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("0.5", 1),
            ("100m", 1),
            ("1e3", 1000),
            ("1E3", 1000),
            ("12E", 12_000_000_000_000_000_000_i128 as i64),
            ("64Mi", 64 << 20),
            ("-1", -1),
            (".5k", 500),
            ("5.", 5),
            ("0", 0),
            ("1e-99", 1),
            ("1e99", i64::MAX),
            ("99999999999999999999999999999999999999999Ei", i64::MAX),
        ] {
            let want = if text == "12E" { i64::MAX } else { value };
            assert_eq!(Quantity::parse(text).unwrap().value(), want, "{text}");
        }
    }

    #[test]
    fn malformed_ones_are_not() {
        for text in ["", "M", "1X", "1.2.3", "-", "1 Gi", "abc", "1mi", "1e"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_compare_across_notations() {
        let parse = |text| Quantity::parse(text).unwrap();
        assert_eq!(parse("1000m"), parse("1"));
        assert!(parse("1Gi") > parse("1G"));
        assert!(parse("100m") < parse("0.2"));
        assert_eq!(Quantity::read(&serde_json::json!(64)), Some(parse("64")));
    }
}
