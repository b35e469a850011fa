//! How well a score tells two kinds of samples apart: the area under the ROC curve.

/// The probability that a random good sample scores above a random bad one, ties counting half (Mann and Whitney 1947).
/// Nothing if one of the kinds is missing.
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
    }
}
