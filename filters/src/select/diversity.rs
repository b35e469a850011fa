//! Diversity: selects the samples that together cover most features, within a budget.
//!
//! The value of a set `S` of samples is `f(S) = sum over features k of sqrt(sum of v(s) over the s in S that have k)`, where
//! `v(s)` is the rank of the sample's score, between 0 and 1. The first sample with a feature adds most, and each further one
//! adds less, so that a set of similar samples has a low value. `f` is monotone and submodular, as a sum of concave functions
//! of sums, so the greedy selection of `n` samples has at least `1 - 1/e` = 63 % of the value of the best `n` (Nemhauser,
//! Wolsey and Fisher 1978). With a quota for each group, it has at least half of the best value within the quotas (Fisher,
//! Nemhauser and Wolsey 1978). Gains can only decrease, so most of them need not be computed again (Minoux 1978). Square roots
//! are rounded in the same way on every machine, so the selection is the same, too.

use sae_core::analysis::feature_sets::FeatureSets;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A sample that may be selected.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The number of the sample.
    pub sample: u32,
    /// The group of the sample, as an index of the quotas.
    pub group: u32,
    /// The value `v` of the sample, between 0 and 1.
    pub value: f64,
}

/// The gain of a sample when `chosen` other samples were selected.
#[derive(PartialEq)]
struct Gain {
    gain: f64,
    candidate: Reverse<u32>,
    chosen: usize,
}

impl Eq for Gain {}

impl Ord for Gain {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.gain.total_cmp(&other.gain).then_with(|| self.candidate.cmp(&other.candidate))
    }
}

impl PartialOrd for Gain {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Selects up to `quotas` candidates of each group, and returns them in the order of their selection. Ties are broken by the
/// order of the candidates.
pub fn cover(feature_sets: &FeatureSets, candidates: &[Candidate], quotas: &[usize]) -> Vec<u32> {
    let mut covered = vec![0.0f64; feature_sets.d_sae()];
    let mut left = quotas.to_vec();
    let mut chosen = Vec::new();
    let gain = |covered: &[f64], candidate: &Candidate| -> f64 {
        let added = |feature: u32| {
            let before = covered[feature as usize];
            (before + candidate.value).sqrt() - before.sqrt()
        };
        0.0 + feature_sets.features(candidate.sample as usize).map(added).sum::<f64>()
    };
    let first = |(n, candidate): (usize, &Candidate)| Gain {
        gain: gain(&covered, candidate),
        candidate: Reverse(n as u32),
        chosen: 0,
    };
    let mut heap: BinaryHeap<Gain> = candidates.iter().enumerate().map(first).collect();
    while let Some(mut top) = heap.pop() {
        let candidate = &candidates[top.candidate.0 as usize];
        let left = &mut left[candidate.group as usize];
        if *left == 0 {
            continue;
        }
        if top.chosen < chosen.len() {
            top.gain = gain(&covered, candidate);
            top.chosen = chosen.len();
            if heap.peek().is_some_and(|next| top < *next) {
                heap.push(top);
                continue;
            }
        }
        *left -= 1;
        chosen.push(candidate.sample);
        let features = feature_sets.features(candidate.sample as usize);
        features.for_each(|feature| covered[feature as usize] += candidate.value);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn worth(sets: &[Vec<u32>], values: &[f64], chosen: &[u32]) -> f64 {
        let samples_with = |feature: u32| chosen.iter().filter(move |n| sets[**n as usize].contains(&feature));
        (0..8).map(|feature| samples_with(feature).map(|n| values[*n as usize]).sum::<f64>().sqrt()).sum()
    }

    proptest! {
        #[test]
        fn lazy_is_greedy_and_no_worse_than_its_guarantee(
            sets in prop::collection::vec(prop::collection::btree_set(0u32..8, 0..6), 1..11),
            values in prop::collection::vec(1u32..=10, 11),
            budget in 1usize..5,
        ) {
            let sets: Vec<Vec<u32>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            let values: Vec<f64> = values.into_iter().map(|v| v as f64 / 10.0).collect();
            let feature_sets = FeatureSets::from_sets(&sets, 8);
            let candidate = |n: usize| Candidate { sample: n as u32, group: 0, value: values[n] };
            let candidates: Vec<_> = (0..sets.len()).map(candidate).collect();
            let lazy = cover(&feature_sets, &candidates, &[budget]);
            prop_assert_eq!(lazy.len(), budget.min(sets.len()));

            let mut plain: Vec<u32> = Vec::new();
            for (step, chosen) in lazy.iter().enumerate() {
                let with = |n: u32| worth(&sets, &values, &[&plain[..], &[n]].concat());
                let best = (0..sets.len() as u32).filter(|n| !plain.contains(n)).map(with).fold(0.0, f64::max);
                prop_assert!((with(*chosen) - best).abs() < 1e-9, "step {}", step);
                plain.push(*chosen);
            }
            let subsets = (0u32..1 << sets.len()).filter(|bits| bits.count_ones() as usize == lazy.len());
            let best = subsets
                .map(|bits| worth(&sets, &values, &(0..32).filter(|n| bits >> n & 1 == 1).collect::<Vec<_>>()))
                .fold(0.0, f64::max);
            prop_assert!(worth(&sets, &values, &lazy) >= (1.0 - (-1f64).exp()) * best - 1e-9);
        }
    }

    #[test]
    fn similar_samples_are_not_selected_twice_and_quotas_hold() {
        let sets = [vec![0, 1, 2], vec![0, 1, 2], vec![3], vec![4]];
        let feature_sets = FeatureSets::from_sets(&sets, 5);
        let candidate = |(sample, (group, value)): (u32, (u32, f64))| Candidate { sample, group, value };
        let candidates: Vec<_> = (0..).zip([(0, 1.0), (0, 1.0), (0, 0.9), (1, 0.1)]).map(candidate).collect();
        // The second sample with a feature adds sqrt(2) - 1, which is 1.24 for three features. The third adds sqrt(0.9).
        assert_eq!(cover(&feature_sets, &candidates, &[2, 1]), [0, 1, 3]);
        assert_eq!(cover(&feature_sets, &candidates, &[1, 0]), [0]);
        let alike = [vec![0, 1], vec![0, 1], vec![2, 3]];
        let feature_sets = FeatureSets::from_sets(&alike, 4);
        assert_eq!(cover(&feature_sets, &candidates[..3], &[2]), [0, 2]);
    }
}
