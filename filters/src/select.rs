//! Which samples stay: a share, a number or a threshold of one score. Reads and writes nothing.

use std::str::FromStr;

/// How much to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// The best share of all samples, 0 to 1.
    Share(f64),
    /// The best so many.
    Count(usize),
    /// All that score at least this.
    AtLeast(f64),
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} says no amount: 50% (a share), 1000 (a number) or '>=0.3' (a threshold)");
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
            return match percent > 0.0 && percent <= 100.0 {
                true => Ok(Self::Share(percent / 100.0)),
                false => Err(format!("a share of {text} keeps nothing or more than there is: above 0 %, up to 100 %")),
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
        }
    }
}

/// For every sample, whether it stays. High scores stay; equal scores by id; samples without a score never do.
///
/// A share is one of *all* samples, rounded to nearest.
pub fn select(scores: &[(String, Option<f64>)], keep: Keep) -> Vec<bool> {
    let mut ranked: Vec<usize> = (0..scores.len()).filter(|n| scores[*n].1.is_some_and(|s| !s.is_nan())).collect();
    let value = |n: usize| scores[n].1.unwrap_or(f64::NEG_INFINITY);
    ranked.sort_by(|a, b| value(*b).total_cmp(&value(*a)).then_with(|| scores[*a].0.cmp(&scores[*b].0)).then(a.cmp(b)));
    let count = match keep {
        Keep::Share(share) => (share * scores.len() as f64).round() as usize,
        Keep::Count(count) => count,
        Keep::AtLeast(threshold) => ranked.partition_point(|n| value(*n) >= threshold),
    };
    let mut kept = vec![false; scores.len()];
    ranked.iter().take(count).for_each(|n| kept[*n] = true);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_and_nonsense_is_refused() {
        assert_eq!("50%".parse(), Ok(Keep::Share(0.5)));
        assert_eq!("120".parse(), Ok(Keep::Count(120)));
        assert_eq!(">=0.25".parse(), Ok(Keep::AtLeast(0.25)));
        for bad in ["0%", "150%", "-3", "0", "most", ">=NaN", "%"] {
            assert!(bad.parse::<Keep>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_stays_scores_no_lower_than_what_goes(
            scores in prop::collection::vec(prop::option::of(0u8..10), 1..60), count in 1usize..80
        ) {
            let scores: Vec<_> = scores.iter().enumerate().map(|(n, s)| (format!("{n}"), s.map(f64::from))).collect();
            let kept = select(&scores, Keep::Count(count));
            let there = scores.iter().filter(|s| s.1.is_some()).count();
            prop_assert_eq!(kept.iter().filter(|k| **k).count(), count.min(there));
            let of = |stays: bool| scores.iter().zip(&kept).filter(move |(_, k)| **k == stays).filter_map(|((_, s), _)| *s);
            let (low, high) = (of(true).fold(f64::INFINITY, f64::min), of(false).fold(f64::NEG_INFINITY, f64::max));
            prop_assert!(low >= high);
            let by_threshold = select(&scores, Keep::AtLeast(5.0));
            prop_assert!(scores.iter().zip(by_threshold).all(|((_, s), k)| k == s.is_some_and(|s| s >= 5.0)));
        }
    }
}
