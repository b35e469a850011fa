//! How well a score separates two kinds of samples: the area under the ROC curve.

use sae_core::random::SplitMix64;

/// The probability that a random good sample has a higher score than a random bad one, where ties count half (Mann and
/// Whitney 1947). Nothing if there are no samples of one kind.
pub fn auc(good: &[f64], bad: &[f64]) -> Option<f64> {
    let mut all: Vec<(f64, bool)> = good.iter().map(|s| (*s, true)).chain(bad.iter().map(|s| (*s, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for ties in all.chunk_by(|a, b| a.0 == b.0) {
        let good = ties.iter().filter(|(_, good)| *good).count() as f64;
        let bad = ties.len() as f64 - good;
        wins += good * (below + bad / 2.0);
        below += bad;
    }
    let pairs = good.len() as f64 * bad.len() as f64;
    (pairs > 0.0).then_some(wins / pairs)
}

/// A 95 % confidence interval of the AUC: the quantiles over `draws` bootstrap samples of each kind (Efron 1979). The same
/// seed gives the same interval.
pub fn interval(good: &[f64], bad: &[f64], draws: usize, seed: u64) -> Option<(f64, f64)> {
    let mut random = SplitMix64::new(seed);
    let mut resample =
        |values: &[f64]| -> Vec<f64> { values.iter().map(|_| values[random.below(values.len())]).collect() };
    let mut all: Vec<f64> = (0..draws).filter_map(|_| auc(&resample(good), &resample(bad))).collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all.get(((all.len().max(1) - 1) as f64 * share).round() as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn auc_counts_pairs(good in prop::collection::vec(0u8..8, 1..20), bad in prop::collection::vec(0u8..8, 1..20)) {
            let (good, bad): (Vec<f64>, Vec<f64>) = (good.into_iter().map(f64::from).collect(), bad.into_iter().map(f64::from).collect());
            let win = |g: f64, b: f64| if g > b { 1.0 } else if g == b { 0.5 } else { 0.0 };
            let plain = good.iter().flat_map(|g| bad.iter().map(move |b| win(*g, *b))).sum::<f64>();
            let plain = plain / (good.len() * bad.len()) as f64;
            prop_assert!((auc(&good, &bad).unwrap() - plain).abs() < 1e-12);
        }
    }

    #[test]
    fn one_kind_alone_has_no_auc() {
        assert_eq!(auc(&[1.0], &[]), None);
        assert_eq!(auc(&[2.0, 3.0], &[1.0]), Some(1.0));
        assert_eq!(interval(&[], &[1.0], 10, 0), None);
    }

    #[test]
    fn the_interval_is_about_as_wide_as_theory_says() {
        let of =
            |salt: u64, up: f64| (0..200).map(|n| crate::scores::random(&n.to_string(), salt) + up).collect::<Vec<_>>();
        let (good, bad) = (of(1, 0.2), of(2, 0.0));
        let (low, high) = interval(&good, &bad, 500, 7).unwrap();
        let value = auc(&good, &bad).unwrap();
        // The standard error is 0.025 here according to Hanley and McNeil (1982).
        assert!(low < value && value < high && (0.06..0.14).contains(&(high - low)), "{low} {value} {high}");
    }
}
