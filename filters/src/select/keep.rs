//! How much to keep, parsed from text. Decides nothing about any sample.

use std::str::FromStr;

/// How much to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// The best samples, as a share of all samples between 0 and 1.
    Share(f64),
    /// The best samples, as a number.
    Count(usize),
    /// All samples with at least this score.
    AtLeast(f64),
    /// As many as the scores suggest ([`crate::keep`]).
    Auto,
    /// As many as the quotas of the groups allow.
    Quotas,
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "invalid amount {text:?}: expected 50% (a share), 1000 (a number of samples), '>=0.3' (a threshold) or auto"
            )
        };
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
            return if percent > 0.0 && percent <= 100.0 {
                Ok(Self::Share(percent / 100.0))
            } else {
                Err(format!("invalid share {text:?}: expected a value above 0% and up to 100%, such as 50%"))
            };
        }
        if let Some(threshold) = text.strip_prefix(">=") {
            let threshold: f64 = threshold.trim().parse().map_err(|_| bad())?;
            return if threshold.is_finite() { Ok(Self::AtLeast(threshold)) } else { Err(bad()) };
        }
        match text.trim().parse() {
            Ok(0) | Err(_) => Err(bad()),
            Ok(count) => Ok(Self::Count(count)),
        }
    }
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{}%", share * 100.0),
            Self::Count(count) => write!(f, "{count}"),
            Self::AtLeast(threshold) => write!(f, ">={threshold}"),
            Self::Auto => f.write_str("auto"),
            Self::Quotas => f.write_str("quotas"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_parsed_and_invalid_ones_are_rejected() {
        assert_eq!("50%".parse(), Ok(Keep::Share(0.5)));
        assert_eq!("120".parse(), Ok(Keep::Count(120)));
        assert_eq!(">=0.25".parse(), Ok(Keep::AtLeast(0.25)));
        assert_eq!("auto".parse(), Ok(Keep::Auto));
        for bad in ["0%", "150%", "-3", "0", "most", ">=NaN", "%", ""] {
            assert!(bad.parse::<Keep>().is_err(), "{bad}");
        }
        for text in ["50%", "120", ">=0.25", "auto"] {
            assert_eq!(text.parse::<Keep>().map(|keep| keep.to_string()).as_deref(), Ok(text));
        }
    }
}
