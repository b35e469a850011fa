//! Which samples of two runs belong together. Reads nothing.

use sae_core::store::sample::Sample;
use std::collections::BTreeMap;

/// The number among others that belongs to each sample: that of the same place in the data, or else of the same key.
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
