//! Budgets, parsed from text. Decides nothing about any sample.

use std::fmt;
use std::str::FromStr;

/// A limit on the mean of a number over what is kept: `probe_harm<=0.10`, `helpful>=0.5`, or relative to the mean over all,
/// `probe_harm<=20%`.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetRule {
    /// The number that is limited: a field of the rows, a score or a token count.
    pub column: String,
    /// Whether the mean has to be at most, or at least, the limit.
    pub side: Side,
    /// The limit.
    pub limit: Limit,
}

/// On which side of the limit the mean has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// At most the limit.
    AtMost,
    /// At least the limit.
    AtLeast,
}

/// The limit of a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// A mean.
    Mean(f64),
    /// A share of the mean over all that could be kept; 1 is that mean.
    Share(f64),
}

impl FromStr for BudgetRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: &str| {
            format!(
                "invalid budget {text:?}: {what} (expected COLUMN<=NUMBER, COLUMN>=NUMBER or COLUMN<=SHARE%, such as \
                 'probe_harm<=0.10' or 'probe_harm<=20%')"
            )
        };
        let split = |sign: &str, side: Side| text.split_once(sign).map(|(column, limit)| (column, side, limit));
        let parts = split("<=", Side::AtMost).or_else(|| split(">=", Side::AtLeast));
        let (column, side, limit) = parts.ok_or_else(|| bad("it does not say <= or >="))?;
        let column = column.trim();
        if column.is_empty() {
            return Err(bad("the column is missing"));
        }
        let number = |text: &str| match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(bad("the limit is not a number")),
        };
        let limit = match limit.trim().strip_suffix('%') {
            Some(percent) => Limit::Share(number(percent)? / 100.0),
            None => Limit::Mean(number(limit)?),
        };
        if limit == Limit::Share(0.0) || matches!(limit, Limit::Share(share) if share < 0.0) {
            return Err(bad("a share of the mean has to be above 0%"));
        }
        Ok(Self { column: column.to_owned(), side, limit })
    }
}

impl fmt::Display for BudgetRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = match self.limit {
            Limit::Mean(limit) => limit.to_string(),
            Limit::Share(share) => format!("{}%", share * 100.0),
        };
        write!(f, "{}{}{limit}", self.column, self.side.sign())
    }
}

impl Side {
    /// `<=` or `>=`.
    pub fn sign(self) -> &'static str {
        match self {
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_parsed_and_invalid_ones_are_rejected() {
        let harm = BudgetRule { column: "probe_harm".into(), side: Side::AtMost, limit: Limit::Mean(0.1) };
        assert_eq!("probe_harm<=0.10".parse(), Ok(harm));
        let help = BudgetRule { column: "meta.help".into(), side: Side::AtLeast, limit: Limit::Share(1.25) };
        assert_eq!("meta.help >= 125%".parse(), Ok(help));
        for text in ["probe_harm<=0.1", "help>=125%", "a<=-2"] {
            assert_eq!(text.parse::<BudgetRule>().map(|rule| rule.to_string()).as_deref(), Ok(text));
        }
        for bad in ["probe_harm", "probe_harm=0.1", "probe_harm<0.1", "<=0.1", "a<=b", "a<=NaN", "a<=0%", "a<=-5%", ""]
        {
            assert!(bad.parse::<BudgetRule>().unwrap_err().contains("invalid budget"), "{bad}");
        }
    }
}
