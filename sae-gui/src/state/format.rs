//! How numbers are written for people. ASCII only: the bundled fonts lack most signs beyond it.

/// A count with commas: `65,536`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A real number with about three digits that count.
pub fn real(number: f64) -> String {
    match number.abs() {
        0.0 => "0".into(),
        size if size < 1e-2 => format!("{number:.1e}"),
        size if size < 1.0 => format!("{number:.3}"),
        size if size < 100.0 => format!("{number:.2}"),
        size if size < 1e6 => format!("{number:.0}"),
        _ => format!("{number:.2e}"),
    }
}

/// [`real`], or a dash where there is no value.
pub fn maybe(number: Option<f64>) -> String {
    number.filter(|number| !number.is_nan()).map_or_else(|| "-".into(), real)
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0%".into(),
        share if share < 0.1 => format!("{share:.1e}%"),
        share if share < 10.0 => format!("{share:.1}%"),
        share => format!("{share:.0}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!([0, 7, 705, 65_536, 1_234_567].map(count), ["0", "7", "705", "65,536", "1,234,567"]);
        assert_eq!(
            [0.0, 1e-4, 0.25, -0.5, 3.21, 250.0, 3e7].map(real),
            ["0", "1.0e-4", "0.250", "-0.500", "3.21", "250", "3.00e7"]
        );
        assert_eq!([0.0, 1e-4, 0.025, 0.5].map(percent), ["0%", "1.0e-2%", "2.5%", "50%"]);
        assert_eq!(maybe(None), "-");
    }
}
