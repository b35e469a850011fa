//! Numbers for people, as pages, messages and reports show them.

/// A count: 1234567 as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count of something: `1 sample`, `1,234 samples`.
pub fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A number with about four digits.
pub fn real(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A share in percent with about four digits: 0.123 as `12.30 %`.
pub fn share(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 || percent >= 0.01 { format!("{} %", real(percent)) } else { format!("{percent:.1e} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        assert_eq!((count(7), count(1_000), count(1_234_567)), ("7".into(), "1,000".into(), "1,234,567".into()));
        assert_eq!([0, 1, 2_000].map(|n| counted(n, "row")), ["0 rows", "1 row", "2,000 rows"]);
    }

    #[test]
    fn numbers_have_as_many_digits_as_people_read() {
        let shown = [0.0, 0.12345, -1.5, 12.345, 1234.56, 1e-5, 2e9].map(real);
        assert_eq!(shown, ["0", "0.123", "-1.500", "12.35", "1234.6", "1.00e-5", "2.00e9"]);
        assert_eq!([0.0, 0.5, 0.00123, 1e-6].map(share), ["0 %", "50.00 %", "0.123 %", "1.0e-4 %"]);
    }
}
