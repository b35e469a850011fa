//! Finds the samples of two runs that correspond to each other. Reads nothing.

use sae_core::store::sample::Sample;
use std::collections::BTreeMap;

/// For each sample, the number of the corresponding one in `others`: the one with the same source row, or else with the same
/// key.
pub fn align_samples(samples: &[Sample], others: &[Sample]) -> Vec<Option<usize>> {
    let index = |of: fn(&Sample) -> &str| -> BTreeMap<&str, usize> {
        others.iter().enumerate().map(|(n, s)| (of(s), n)).collect()
    };
    let (by_source, by_key) = (index(|s| &s.source), index(|s| &s.key));
    let other = |s: &Sample| {
        let same_place = by_source.get(s.source.as_str()).filter(|n| others[**n].key == s.key);
        same_place.or_else(|| by_key.get(s.key.as_str())).copied()
    };
    samples.iter().map(other).collect()
}
