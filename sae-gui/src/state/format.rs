//! How numbers are written for people. Every quantity has one notation, wherever it is shown.

pub use sae_core::numbers::count;

/// A count of things: `1 edit`, `1,234 edits`.
pub fn counted(number: usize, noun: &str) -> String {
    sae_core::numbers::counted(number as u64, noun)
}

/// A real number with about three significant digits.
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

/// [`real`], or a dash if there is no value.
pub fn maybe(number: Option<f64>) -> String {
    number.filter(|number| !number.is_nan()).map_or_else(|| "-".into(), real)
}

/// A share in percent, with two significant digits: `14%`, `3.3%`, `0.0026%`.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent.abs() {
        0.0 => "0%".into(),
        size if size >= 9.95 => format!("{percent:.0}%"),
        size => {
            // 0.95 rounds to 1.0: the exponent is that of the rounded number.
            let exponent = format!("{size:.1e}").split_once('e').and_then(|(_, e)| e.parse::<i32>().ok()).unwrap_or(0);
            let decimals = usize::try_from(1 - exponent).unwrap_or(0);
            if decimals > 8 { "<0.0000001%".into() } else { format!("{percent:.decimals$}%") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!([0, 7, 705, 65_536, 1_234_567].map(count), ["0", "7", "705", "65,536", "1,234,567"]);
        assert_eq!([0, 1, 2_000].map(|n| counted(n, "edit")), ["0 edits", "1 edit", "2,000 edits"]);
        assert_eq!(
            [0.0, 1e-4, 0.25, -0.5, 3.21, 250.0, 3e7].map(real),
            ["0", "1.0e-4", "0.250", "-0.500", "3.21", "250", "3.00e7"]
        );
        assert_eq!(maybe(None), "-");
    }

    #[test]
    fn shares_have_two_significant_digits_and_no_exponent() {
        let shares = [0.0, 1e-4, 0.000_026, 0.025, 0.033, 0.099_6, 0.009_96, 0.5, 1.0, 1e-12];
        let expected = ["0%", "0.010%", "0.0026%", "2.5%", "3.3%", "10%", "1.0%", "50%", "100%", "<0.0000001%"];
        assert_eq!(shares.map(percent), expected);
    }
}
