//! Greedy selections: adds the sample that adds most, again and again. Knows no formula of what a set is worth
//! ([`super::objective`]) and no scores.
//!
//! The exact greedy selection of `n` samples has at least `1 - 1/e` = 63 % of the value of the best `n` (Nemhauser, Wolsey and
//! Fisher 1978). With a quota for each group, it has at least half of the best value within the quotas (Fisher, Nemhauser and
//! Wolsey 1978). Gains can only decrease, so most of them need not be computed again (Minoux 1978).
//!
//! Above [`EXACT`] candidates, each step considers a random part of them: `(n / k) ln(1 / epsilon)` of `n` candidates where `k` are
//! to be chosen. This is stochastic greedy ("Lazier than lazy greedy", Mirzasoleiman et al. 2015). Its expected value, without
//! quotas, is at least `1 - 1/e - epsilon` of the best one, and its cost is `n ln(1 / epsilon)` gains whatever is chosen. Gains
//! computed in earlier steps are upper bounds here, too, and spare most of these.
//!
//! A selection runs on one thread, so it does not depend on their number. [`objective::Objective::Match`] computes logarithms,
//! whose last bit may differ between platforms; the other objectives give the same selection on every machine.

use super::objective::{self, Chosen, Objective};
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::random::SplitMix64;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The largest number of candidates among which the greedy selection is exact.
pub const EXACT: usize = 100_000;
/// The part of the best value that a stochastic selection gives up in expectation, at most.
const EPSILON: f64 = 1e-4;

/// A sample that may be selected.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The number of the sample.
    pub sample: u32,
    /// The group of the sample, as an index of the quotas.
    pub group: u32,
    /// The value of the sample, between 0 and 1.
    pub value: f64,
}

/// Selects up to `quotas` candidates of each group, and returns them in the order of their selection: exactly for up to [`EXACT`]
/// candidates, otherwise [`stochastic`]. [`Objective::NewFeatures`] is always exact, as published.
pub fn select(
    feature_sets: &FeatureSets,
    objective: Objective,
    candidates: &[Candidate],
    quotas: &[usize],
    seed: u64,
) -> Vec<u32> {
    if candidates.len() > EXACT && !matches!(objective, Objective::NewFeatures) {
        return stochastic(feature_sets, objective, candidates, quotas, seed);
    }
    exact(feature_sets, objective, candidates, quotas)
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

/// The exact greedy selection. Ties are broken by the order of the candidates.
///
/// With [`Objective::NewFeatures`], the features count as new again as soon as no candidate has a new one. The description of
/// GreedSelect leaves open what happens then.
pub fn exact(feature_sets: &FeatureSets, objective: Objective, candidates: &[Candidate], quotas: &[usize]) -> Vec<u32> {
    let mut set = Chosen::new(objective, feature_sets);
    let mut left = quotas.to_vec();
    let mut chosen = Vec::new();
    let gain = |set: &Chosen, n: u32, chosen: usize| {
        let candidate = &candidates[n as usize];
        Gain { gain: set.gain(candidate.sample, candidate.value), candidate: Reverse(n), chosen }
    };
    let all = 0..candidates.len() as u32;
    let mut heap: BinaryHeap<Gain> = all.map(|n| gain(&set, n, 0)).collect();
    // The number of selected samples when the features last counted as new.
    let mut cleared = 0;
    while let Some(mut top) = heap.pop() {
        let n = top.candidate.0;
        let candidate = &candidates[n as usize];
        if left[candidate.group as usize] == 0 {
            continue;
        }
        if top.chosen < chosen.len() {
            top = gain(&set, n, chosen.len());
            if heap.peek().is_some_and(|next| top < *next) {
                heap.push(top);
                continue;
            }
        }
        if matches!(objective, Objective::NewFeatures) && top.gain == 0.0 && cleared < chosen.len() {
            cleared = chosen.len();
            set.clear();
            heap.push(top);
            heap = heap.into_iter().map(|top| gain(&set, top.candidate.0, cleared)).collect();
            continue;
        }
        left[candidate.group as usize] -= 1;
        chosen.push(candidate.sample);
        set.add(candidate.sample, candidate.value);
    }
    chosen
}

/// The stochastic greedy selection. It depends on the seed and on nothing else.
pub fn stochastic(
    feature_sets: &FeatureSets,
    objective: Objective,
    candidates: &[Candidate],
    quotas: &[usize],
    seed: u64,
) -> Vec<u32> {
    let mut set = Chosen::new(objective, feature_sets);
    let mut left = quotas.to_vec();
    let mut members = vec![0usize; quotas.len()];
    candidates.iter().for_each(|candidate| members[candidate.group as usize] += 1);
    let wanted: usize = quotas.iter().zip(&members).map(|(quota, members)| quota.min(members)).sum();
    let draws = candidates.len() as f64 / wanted.max(1) as f64 * (1.0 / EPSILON).ln();
    let draws = (draws.ceil() as usize).max(1);

    let mut random = SplitMix64::new(seed);
    // Upper bounds of the gains, and the candidates that are still to be had.
    let bound = |candidate: &Candidate| set.bound(candidate.sample, candidate.value);
    let mut bounds: Vec<f64> = candidates.iter().map(bound).collect();
    let mut open: Vec<u32> = (0..candidates.len() as u32).collect();
    let mut chosen = Vec::with_capacity(wanted);
    while chosen.len() < wanted {
        // The first `drawn` open candidates are a random part of them.
        let mut drawn = 0;
        while drawn < draws && drawn < open.len() {
            let place = drawn + random.below(open.len() - drawn);
            if left[candidates[open[place] as usize].group as usize] == 0 {
                open.swap_remove(place);
                continue;
            }
            open.swap(drawn, place);
            drawn += 1;
        }
        if drawn == 0 {
            break;
        }
        open[..drawn].sort_unstable_by(|a, b| bounds[*b as usize].total_cmp(&bounds[*a as usize]).then(a.cmp(b)));
        let mut best = Gain { gain: f64::NEG_INFINITY, candidate: Reverse(u32::MAX), chosen: 0 };
        for (place, n) in open[..drawn].iter().enumerate() {
            if bounds[*n as usize] < best.gain {
                break;
            }
            let candidate = &candidates[*n as usize];
            let gain = set.gain(candidate.sample, candidate.value);
            bounds[*n as usize] = gain;
            best = best.max(Gain { gain, candidate: Reverse(*n), chosen: place });
        }
        let n = open.swap_remove(best.chosen);
        let candidate = &candidates[n as usize];
        left[candidate.group as usize] -= 1;
        chosen.push(candidate.sample);
        set.add(candidate.sample, candidate.value);
    }
    chosen
}

/// The value of some candidates together.
pub fn value(feature_sets: &FeatureSets, objective: Objective, chosen: impl IntoIterator<Item = Candidate>) -> f64 {
    let mut set = objective::Chosen::new(objective, feature_sets);
    chosen.into_iter().for_each(|candidate| set.add(candidate.sample, candidate.value));
    set.value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::objective::TargetDistribution;
    use proptest::prelude::*;
    use rayon::ThreadPoolBuilder;

    fn candidates(values: &[f64]) -> Vec<Candidate> {
        let candidate = |(sample, value): (u32, &f64)| Candidate { sample, group: 0, value: *value };
        (0..).zip(values).map(candidate).collect()
    }

    /// Sets of features and values of their samples.
    fn problem() -> impl Strategy<Value = (FeatureSets, Vec<Candidate>)> {
        let sets = prop::collection::vec(prop::collection::btree_set(0u32..8, 0..6), 1..11);
        (sets, prop::collection::vec(1u32..=10, 11)).prop_map(|(sets, values)| {
            let sets: Vec<Vec<u32>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            let values: Vec<f64> = values.into_iter().take(sets.len()).map(|v| f64::from(v) / 10.0).collect();
            (FeatureSets::from_sets(&sets, 8), candidates(&values))
        })
    }

    fn target() -> TargetDistribution {
        TargetDistribution::new(&FeatureSets::from_sets(&[vec![0, 1, 2], vec![0, 3], vec![5]], 8)).unwrap()
    }

    proptest! {
        #[test]
        fn lazy_is_greedy_and_no_worse_than_its_guarantee((sets, candidates) in problem(), budget in 1usize..5) {
            let target = target();
            for objective in [Objective::Diverse, Objective::Match(&target)] {
                let worth = |chosen: &[u32]| value(&sets, objective, chosen.iter().map(|n| candidates[*n as usize]));
                let lazy = exact(&sets, objective, &candidates, &[budget]);
                prop_assert_eq!(lazy.len(), budget.min(candidates.len()));
                let mut plain: Vec<u32> = Vec::new();
                for (step, chosen) in lazy.iter().enumerate() {
                    let with = |n: u32| worth(&[&plain[..], &[n]].concat());
                    let others = (0..candidates.len() as u32).filter(|n| !plain.contains(n));
                    let best = others.map(with).fold(0.0, f64::max);
                    prop_assert!((with(*chosen) - best).abs() < 1e-9, "step {}", step);
                    plain.push(*chosen);
                }
                let subsets = (0u32..1 << candidates.len()).filter(|bits| bits.count_ones() as usize == lazy.len());
                let best = subsets
                    .map(|bits| worth(&(0..32).filter(|n| bits >> n & 1 == 1).collect::<Vec<_>>()))
                    .fold(0.0, f64::max);
                prop_assert!(worth(&lazy) >= (1.0 - (-1f64).exp()) * best - 1e-9);
            }
        }

        #[test]
        fn a_part_that_is_everything_is_the_exact_selection((sets, candidates) in problem()) {
            // With one sample to choose, every candidate is drawn.
            let target = target();
            for objective in [Objective::Diverse, Objective::NewFeatures, Objective::Match(&target)] {
                let one = |chosen: Vec<u32>| value(&sets, objective, chosen.iter().map(|n| candidates[*n as usize]));
                let (a, b) = (exact(&sets, objective, &candidates, &[1]), stochastic(&sets, objective, &candidates, &[1], 3));
                prop_assert!((one(a) - one(b)).abs() < 1e-12);
            }
        }

        #[test]
        fn quotas_hold_and_are_used((sets, mut candidates) in problem(), quotas in prop::collection::vec(0usize..4, 3), seed: u64) {
            candidates.iter_mut().for_each(|candidate| candidate.group = candidate.sample % 3);
            for chosen in [
                exact(&sets, Objective::NewFeatures, &candidates, &quotas),
                stochastic(&sets, Objective::Diverse, &candidates, &quotas, seed),
            ] {
                for group in 0..3u32 {
                    let members = candidates.iter().filter(|candidate| candidate.group == group).count();
                    let found = chosen.iter().filter(|sample| **sample % 3 == group).count();
                    prop_assert_eq!(found, quotas[group as usize].min(members));
                }
                let distinct: std::collections::BTreeSet<_> = chosen.iter().collect();
                prop_assert_eq!(distinct.len(), chosen.len());
            }
        }
    }

    /// Sets whose features are inversely proportional to their numbers in frequency.
    fn skewed(samples: usize, features: usize, d_sae: usize) -> FeatureSets {
        let mut random = SplitMix64::new(5);
        let mut sets = FeatureSets::from_sets(&[], d_sae);
        for _ in 0..samples {
            let mut set: Vec<u32> = (0..features).map(|_| (d_sae as f64).powf(random.next_f64()) as u32 - 1).collect();
            set.sort_unstable();
            set.dedup();
            sets.push(&set);
        }
        sets
    }

    #[test]
    fn a_stochastic_selection_is_nearly_as_good_and_the_same_on_any_number_of_threads() {
        let sets = skewed(3000, 60, 4096);
        let values: Vec<f64> = (0..3000).map(|n| 1.0 - n as f64 / 3000.0).collect();
        let candidates = candidates(&values);
        let target = TargetDistribution::new(&skewed(300, 40, 4096)).unwrap();
        for objective in [Objective::Diverse, Objective::Match(&target)] {
            let worth = |chosen: &[u32]| value(&sets, objective, chosen.iter().map(|n| candidates[*n as usize]));
            let best = worth(&exact(&sets, objective, &candidates, &[300]));
            let with_threads = |threads: usize, seed: u64| {
                let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| stochastic(&sets, objective, &candidates, &[300], seed))
            };
            let chosen = with_threads(1, 7);
            assert!(worth(&chosen) >= 0.97 * best, "{objective:?}: {} of {best}", worth(&chosen));
            // Any 300 samples come close here. Of what the exact selection adds to that, most is found, too.
            let any = worth(&(0..300).map(|n| n * 10).collect::<Vec<_>>());
            assert!(worth(&chosen) - any >= 0.8 * (best - any), "{objective:?}: {} of {any} to {best}", worth(&chosen));
            assert_eq!(chosen, with_threads(3, 7));
            assert_ne!(chosen, with_threads(1, 8), "another seed draws other candidates");
        }
    }

    #[test]
    fn similar_samples_are_not_selected_twice_and_quotas_hold() {
        let sets = [vec![0, 1, 2], vec![0, 1, 2], vec![3], vec![4]];
        let feature_sets = FeatureSets::from_sets(&sets, 5);
        let candidate = |(sample, (group, value)): (u32, (u32, f64))| Candidate { sample, group, value };
        let candidates: Vec<_> = (0..).zip([(0, 1.0), (0, 1.0), (0, 0.9), (1, 0.1)]).map(candidate).collect();
        let diverse = |sets: &FeatureSets, candidates: &[Candidate], quotas: &[usize]| {
            select(sets, Objective::Diverse, candidates, quotas, 0)
        };
        // The second sample with a feature adds sqrt(2) - 1, which is 1.24 for three features. The third adds sqrt(0.9).
        assert_eq!(diverse(&feature_sets, &candidates, &[2, 1]), [0, 1, 3]);
        assert_eq!(diverse(&feature_sets, &candidates, &[1, 0]), [0]);
        let alike = [vec![0, 1], vec![0, 1], vec![2, 3]];
        let feature_sets = FeatureSets::from_sets(&alike, 4);
        assert_eq!(diverse(&feature_sets, &candidates[..3], &[2]), [0, 2]);
    }

    #[test]
    fn features_count_as_new_again_when_all_were_seen() {
        let sets = FeatureSets::from_sets(&[vec![0], vec![0, 1, 2], vec![3], vec![0, 3], vec![]], 4);
        let candidates = candidates(&[1.0; 5]);
        // Sample 1 has three new features, samples 2 and 3 one each. After these two, nothing is new, and sample 3 has two of the
        // features that count again. The last two add nothing even then, once the others were chosen.
        assert_eq!(exact(&sets, Objective::NewFeatures, &candidates, &[5]), [1, 2, 3, 0, 4]);
    }
}
