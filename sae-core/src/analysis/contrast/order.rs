//! Features along an order: how the prevalence of a feature changes from bin to bin, and where it turns.
//!
//! # Formulas
//! In bin `b`, the prevalence of feature `j` in stratum `s` is `m_bsj`. The standardized prevalence is `sum_s w_s m_bsj`, where
//! `w_s` is the share of all samples that are in stratum `s`, over the strata that the bin has: what the bin would show if its
//! samples had the lengths of all. Its variance is `sum_c (sum_{i in b and c} w_s (y_ij - m_bsj) / n_bs)^2`.
//!
//! The turning point is the bin `b` after which the cumulative sum of `y_ij - m_sj` over all bins up to `b` is farthest from
//! zero (Page 1954). Its p-value compares this maximum with those when the bins of clusters are permuted; there is none if
//! samples of a cluster lie in several bins.

use super::design::Design;
use super::significance::student_bound;
use super::study::Estimate;
use crate::analysis::feature_sets::{FeatureSets, Measure};
use crate::random;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Number of permutations of the test of a turning point.
const PERMUTATIONS: usize = 999;
/// Distinguishes these random numbers from those of other purposes.
const PURPOSE: u64 = 0x7475_726e;

/// Bins of participants by their rank in an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Bins {
    /// The bin of each participant.
    pub of: Vec<u32>,
    /// The smallest and the largest value of each bin.
    pub ranges: Vec<[f64; 2]>,
}

impl Bins {
    /// Divides values into at most `count` bins of about equally many participants. Equal values are in the same bin.
    pub fn new(values: &[f64], count: usize) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let place = |value: f64| sorted.partition_point(|other| *other < value) * count.max(1) / sorted.len();
        let mut ranges: BTreeMap<usize, [f64; 2]> = BTreeMap::new();
        for value in &sorted {
            ranges.entry(place(*value)).or_insert([*value, *value])[1] = *value;
        }
        let numbers: BTreeMap<usize, u32> = ranges.keys().copied().zip(0..).collect();
        Self {
            of: values.iter().map(|value| numbers[&place(*value)]).collect(),
            ranges: ranges.into_values().collect(),
        }
    }
}

/// How a feature changes along an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// The feature.
    pub feature: u32,
    /// Share of the samples of each bin in which it is active.
    pub prevalence: Vec<f64>,
    /// The standardized prevalence in each bin; the standardized mean strength, if that is measured.
    pub adjusted: Vec<Estimate>,
    /// The last bin before the turning point.
    pub turn: usize,
    /// Its p-value, if clusters do not extend over several bins.
    pub turn_p: Option<f64>,
}

/// The trajectories of some features.
pub fn trajectories(design: &Design, sets: &FeatureSets, bins: &Bins, features: &[u32], seed: u64) -> Vec<Trajectory> {
    let mut active: BTreeMap<u32, Vec<(u32, f64)>> = features.iter().map(|feature| (*feature, Vec::new())).collect();
    for (n, sample) in design.samples.iter().enumerate() {
        for (feature, y) in sets.measured(*sample as usize) {
            if let Some(active) = active.get_mut(&feature) {
                active.push((n as u32, y));
            }
        }
    }
    let cells = Cells::new(design, bins);
    let orders = cells.permutations(seed);
    let most = if sets.measure() == Measure::Active { 1.0 } else { f64::INFINITY };
    features.par_iter().map(|feature| cells.trajectory(*feature, &active[feature], most, orders.as_deref())).collect()
}

/// Participants by bin, stratum and cluster.
struct Cells<'a> {
    design: &'a Design,
    bins: &'a Bins,
    strata: usize,
    /// Number of participants by bin and stratum.
    sizes: Vec<f64>,
    /// Number of participants by bin.
    bin_sizes: Vec<f64>,
    /// The weights of the strata in each bin.
    weights: Vec<f64>,
}

impl<'a> Cells<'a> {
    fn new(design: &'a Design, bins: &'a Bins) -> Self {
        let (strata, count) = (design.strata(), bins.ranges.len());
        let mut sizes = vec![0.0; count * strata];
        for (bin, stratum) in bins.of.iter().zip(&design.strata) {
            sizes[*bin as usize * strata + *stratum as usize] += 1.0;
        }
        let bin_sizes: Vec<f64> = sizes.chunks(strata).map(|sizes| sizes.iter().sum()).collect();
        let mut weights = vec![0.0; count * strata];
        for bin in 0..count {
            let row = bin * strata..(bin + 1) * strata;
            let has = |s: usize| if sizes[bin * strata + s] > 0.0 { f64::from(design.sizes[s]) } else { 0.0 };
            let total: f64 = (0..strata).map(has).sum();
            weights[row].iter_mut().enumerate().for_each(|(s, weight)| *weight = has(s) / total);
        }
        Self { design, bins, strata, sizes, bin_sizes, weights }
    }

    /// The bin of each cluster in each permutation; `None` if a cluster has several bins.
    fn permutations(&self, seed: u64) -> Option<Vec<Vec<u32>>> {
        let bins_of = |range: &std::ops::Range<usize>| &self.bins.of[range.clone()];
        if !self.design.clusters.iter().all(|range| bins_of(range).iter().all(|bin| *bin == bins_of(range)[0])) {
            return None;
        }
        let mut rng = random::chacha(seed, PURPOSE);
        let mut own: Vec<u32> = self.design.clusters.iter().map(|range| bins_of(range)[0]).collect();
        let permutations = (0..PERMUTATIONS).map(|_| {
            own.shuffle(&mut rng);
            own.clone()
        });
        Some(permutations.collect())
    }

    /// The trajectory of a feature, from the participants in which it is active with what is measured there, at most `most`.
    fn trajectory(&self, feature: u32, active: &[(u32, f64)], most: f64, orders: Option<&[Vec<u32>]>) -> Trajectory {
        let (design, strata, count) = (self.design, self.strata, self.bins.ranges.len());
        let mut counts = vec![0.0; count * strata];
        let mut present = vec![0.0; count];
        let mut y = vec![0.0; design.samples.len()];
        let cell = |n: usize| self.bins.of[n] as usize * strata + design.strata[n] as usize;
        for (n, measured) in active {
            let n = *n as usize;
            counts[cell(n)] += measured;
            present[self.bins.of[n] as usize] += 1.0;
            y[n] = *measured;
        }
        let share = |cell: usize| if self.sizes[cell] > 0.0 { counts[cell] / self.sizes[cell] } else { 0.0 };
        let in_bin = |bin: usize| bin * strata..(bin + 1) * strata;
        let adjusted: Vec<f64> =
            (0..count).map(|bin| in_bin(bin).map(|cell| self.weights[cell] * share(cell)).sum()).collect();

        // The sums of each cluster, by bin; and those of the deviations from the prevalence in all bins, for the turn.
        let stratum_shares: Vec<f64> = (0..strata)
            .map(|s| (0..count).map(|bin| counts[bin * strata + s]).sum::<f64>() / f64::from(design.sizes[s]))
            .collect();
        let (mut variances, mut clusters_in) = (vec![0.0; count], vec![0u32; count]);
        let mut excess = vec![0.0; design.clusters.len()];
        let mut deviations = vec![0.0; count];
        for (c, range) in design.clusters.iter().enumerate() {
            let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
            for n in range.clone() {
                let (bin, cell) = (self.bins.of[n] as usize, cell(n));
                *sums.entry(bin).or_default() += self.weights[cell] * (y[n] - share(cell)) / self.sizes[cell];
                let deviation = y[n] - stratum_shares[design.strata[n] as usize];
                deviations[bin] += deviation;
                excess[c] += deviation;
            }
            for (bin, sum) in sums {
                variances[bin] += sum * sum;
                clusters_in[bin] += 1;
            }
        }
        let estimate = |bin: usize| {
            let (clusters, effect) = (f64::from(clusters_in[bin]), adjusted[bin]);
            // With one cluster in the bin, the interval says nothing.
            let half = if clusters < 2.0 {
                f64::INFINITY
            } else {
                student_bound(clusters - 1.0) * (variances[bin] * clusters / (clusters - 1.0)).sqrt()
            };
            Estimate { effect, lo: (effect - half).max(0.0), hi: (effect + half).min(most) }
        };
        let (turn, height) = farthest(&deviations);
        let turn_p = orders.map(|orders| {
            let height_of = |bins: &Vec<u32>| {
                let mut sums = vec![0.0; count];
                bins.iter().zip(&excess).for_each(|(bin, excess)| sums[*bin as usize] += excess);
                farthest(&sums).1
            };
            let extreme = orders.iter().filter(|bins| height_of(bins) >= height * (1.0 - 1e-9)).count();
            (1 + extreme) as f64 / (1 + PERMUTATIONS) as f64
        });
        Trajectory {
            feature,
            prevalence: present.iter().zip(&self.bin_sizes).map(|(active, all)| active / all).collect(),
            adjusted: (0..count).map(estimate).collect(),
            turn,
            turn_p,
        }
    }
}

/// The index after which the cumulative sum is farthest from zero, and its distance.
fn farthest(values: &[f64]) -> (usize, f64) {
    let mut sum = 0.0;
    let mut best = (0, 0.0f64);
    for (n, value) in values.iter().enumerate() {
        sum += value;
        if sum.abs() > best.1 {
            best = (n, sum.abs());
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::{Column, Participant, Study, StudyOptions, TestedFeature, study};
    use super::*;
    use crate::random::SplitMix64;

    /// 200 clusters of 10 samples in 8 bins: feature 0 jumps from 0.2 to 0.5 after bin 4, feature 1 stays at 0.3, and feature 2
    /// depends on the stratum alone, which grows along the order.
    fn series() -> (Design, FeatureSets, Bins) {
        let mut random = SplitMix64::new(5);
        let (mut participants, mut sets, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for cluster in 0..200u32 {
            let bin = cluster / 25;
            for _ in 0..10 {
                let sample = participants.len() as u32;
                let stratum = u32::from(random.next_f64() < 0.2 + 0.08 * f64::from(bin));
                let rates = [if bin > 4 { 0.5 } else { 0.2 }, 0.3, 0.2 + 0.5 * f64::from(stratum)];
                sets.push((0..3).filter(|j| random.next_f64() < rates[*j as usize]).collect::<Vec<u32>>());
                let (cluster, identity) = (format!("{cluster:03}"), format!("{sample:05}"));
                participants.push(Participant { cluster, identity, sample, stratum, pair: None });
                values.push(f64::from(bin));
            }
        }
        (Design::new(participants), FeatureSets::from_sets(&sets, 3), Bins::new(&values, 8))
    }

    #[test]
    fn a_jump_is_found_where_it_was_planted_and_a_change_of_length_is_not() {
        let (design, sets, bins) = series();
        assert_eq!(
            bins.ranges.iter().map(|range| range[0]).collect::<Vec<_>>(),
            (0..8).map(f64::from).collect::<Vec<_>>()
        );
        let found = trajectories(&design, &sets, &bins, &[0, 1, 2], 0);
        assert_eq!((found[0].turn, found[0].turn_p), (4, Some(0.001)));
        assert!(found[1].turn_p.unwrap() > 0.05 && found[2].turn_p.unwrap() > 0.05);
        // Without adjustment, feature 2 grows from 0.3 to 0.58.
        assert!(found[2].prevalence[7] - found[2].prevalence[0] > 0.15);
        assert!((found[2].adjusted[7].effect - found[2].adjusted[0].effect).abs() < 0.1);
        let truth = |bin: usize| if bin > 4 { 0.5 } else { 0.2 };
        let covered = (0..8).filter(|bin| {
            let estimate = found[0].adjusted[*bin];
            (estimate.lo..=estimate.hi).contains(&truth(*bin))
        });
        assert!(covered.count() >= 7);
    }

    /// 20 features each that drift, jump after a known bin, stay, and depend on the length alone, in 300 clusters of 10 bins.
    #[test]
    fn drifts_jumps_constants_and_lengths_are_told_apart() {
        let mut random = SplitMix64::new(17);
        let (mut participants, mut sets, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let jump = |feature: u32| 2 + feature % 6;
        for cluster in 0..300u32 {
            let bin = cluster / 30;
            for _ in 0..10 {
                let sample = participants.len() as u32;
                let stratum = (random.next_f64() * 3.0 + f64::from(bin) / 10.0) as u32;
                let rate = |feature: u32| match feature {
                    0..20 => 0.15 + 0.04 * f64::from(bin),
                    20..40 => 0.15 + if bin > jump(feature) { 0.3 } else { 0.0 },
                    40..60 => 0.3,
                    _ => 0.1 + 0.2 * f64::from(stratum),
                };
                sets.push((0..80).filter(|feature| random.next_f64() < rate(*feature)).collect::<Vec<u32>>());
                let (cluster, identity) = (format!("{cluster:03}"), format!("{sample:05}"));
                participants.push(Participant { cluster, identity, sample, stratum, pair: None });
                values.push(f64::from(bin));
            }
        }
        let (design, sets, bins) =
            (Design::new(participants), FeatureSets::from_sets(&sets, 80), Bins::new(&values, 10));
        let column = Column { name: "bin".into(), values };
        let options = StudyOptions { shuffles: 0, confirm: Some(0.0), ..StudyOptions::default() };
        let found = study(Study { design: &design, sets: &sets }, &[column], &options).unwrap();
        let differs: Vec<bool> = found.tested.iter().map(TestedFeature::differs).collect();
        let paths = trajectories(&design, &sets, &bins, &(0..80).collect::<Vec<u32>>(), 0);
        // What a line, and a step at the turning point, leave of the adjusted prevalences.
        let rest = |path: &Trajectory, shape: &dyn Fn(usize) -> f64| {
            let (xs, ys): (Vec<f64>, Vec<f64>) = (0..10).map(|b| (shape(b), path.adjusted[b].effect)).unzip();
            let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / 10.0;
            let (mx, my) = (mean(&xs), mean(&ys));
            let product =
                |a: &[f64], ma: f64, b: &[f64], mb: f64| a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum::<f64>();
            product(&ys, my, &ys, my) - product(&xs, mx, &ys, my).powi(2) / product(&xs, mx, &xs, mx)
        };
        let right = paths.iter().zip(&differs).filter(|(path, differs)| {
            let line = rest(path, &|bin| bin as f64);
            let step = rest(path, &|bin| f64::from(bin > path.turn));
            match path.feature {
                0..20 => **differs && line < step,
                20..40 => **differs && step < line && path.turn.abs_diff(jump(path.feature) as usize) <= 1,
                _ => !**differs,
            }
        });
        let right = right.count();
        assert!(right >= 72, "{right} of 80");
    }

    #[test]
    fn clusters_in_several_bins_have_no_p_value_and_single_clusters_no_interval() {
        let (design, sets, bins) = series();
        let spread = Bins { of: (0..bins.of.len()).map(|n| (n % 8) as u32).collect(), ..bins.clone() };
        assert_eq!(trajectories(&design, &sets, &spread, &[1], 0)[0].turn_p, None);
        let (few, members) = design.subset(|cluster| cluster % 25 == 0);
        let bins = Bins { of: members.iter().map(|n| bins.of[*n]).collect(), ..bins };
        let lonely = trajectories(&few, &sets, &bins, &[1], 0);
        assert!(lonely[0].adjusted.iter().all(|estimate| (estimate.lo, estimate.hi) == (0.0, 1.0)));
    }

    #[test]
    fn equal_values_share_a_bin() {
        let bins = Bins::new(&[1.0, 1.0, 1.0, 1.0, 2.0, 3.0], 3);
        assert_eq!((bins.of, bins.ranges), (vec![0, 0, 0, 0, 1, 1], vec![[1.0, 1.0], [2.0, 3.0]]));
    }
}
