//! What a set of samples is worth by the features that they show together: a sum of concave functions, one for each feature,
//! of the mass that the set gives to the feature. Chooses nothing.
//!
//! All of these functions are monotone and submodular, as sums of concave functions of sums: what a sample adds can only
//! decrease while a set grows. [`super::greedy`] relies on that.

use crate::{Error, Result};
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::error::{Cause, Hint, Setting};

/// What is maximized.
#[derive(Clone, Copy, Debug)]
pub enum Objective<'a> {
    /// `f(S) = sum over features k of sqrt(sum of v(s) over the s in S that have k)`, where `v(s)` is the value of a sample. The
    /// first sample with a feature adds most, and each further one adds less, so that a set of similar samples has a low value.
    Diverse,
    /// `f(S)` is the number of features that at least one sample of `S` has, whatever the values of the samples. This is what
    /// GreedSelect maximizes (Yang et al. 2025).
    NewFeatures,
    /// The distribution of features in `S` is to be that of a target set; see [`TargetDistribution`].
    Match(&'a TargetDistribution),
}

impl Objective<'_> {
    /// The mass that a sample gives to each of its features.
    fn mass(&self, features: usize, value: f64) -> f64 {
        match self {
            Self::Diverse => value,
            Self::NewFeatures => 1.0,
            Self::Match(_) => value / features.max(1) as f64,
        }
    }
}

/// A set of samples that grows, with the mass of each feature.
#[derive(Clone, Debug)]
pub struct Chosen<'a> {
    objective: Objective<'a>,
    feature_sets: &'a FeatureSets,
    /// The mass of each feature; for [`Objective::Match`] in addition to that of the target.
    mass: Vec<f64>,
    /// A function of the mass that gains are computed from: its square root, or its logarithm.
    level: Vec<f64>,
}

impl<'a> Chosen<'a> {
    /// The empty set.
    pub fn new(objective: Objective<'a>, feature_sets: &'a FeatureSets) -> Self {
        let mass = match objective {
            Objective::Match(target) => target.shares.clone(),
            _ => vec![0.0; feature_sets.d_sae()],
        };
        let level = match objective {
            Objective::Match(_) => mass.iter().map(|mass| mass.ln()).collect(),
            _ => mass.clone(),
        };
        Self { objective, feature_sets, mass, level }
    }

    /// How much the value of the set would grow with a sample.
    pub fn gain(&self, sample: u32, value: f64) -> f64 {
        let sample = sample as usize;
        let features = self.feature_sets.features(sample).map(|feature| feature as usize);
        let added = self.objective.mass(self.feature_sets.count(sample), value);
        // An empty sum is negative zero, which sorts below zero.
        0.0 + match self.objective {
            Objective::Diverse => features.map(|k| (self.mass[k] + added).sqrt() - self.level[k]).sum::<f64>(),
            Objective::NewFeatures => features.filter(|k| self.mass[*k] == 0.0).count() as f64,
            Objective::Match(target) => {
                let gain = |k: usize| match target.shares[k] {
                    0.0 => 0.0,
                    share => share * ((self.mass[k] + added).ln() - self.level[k]),
                };
                features.map(gain).sum()
            }
        }
    }

    /// A number that no gain of a sample exceeds, without looking at its features.
    pub fn bound(&self, sample: u32, value: f64) -> f64 {
        let count = self.feature_sets.count(sample as usize);
        match self.objective {
            Objective::Diverse => count as f64 * value.sqrt(),
            Objective::NewFeatures => count as f64,
            Objective::Match(_) => f64::INFINITY,
        }
    }

    /// Adds a sample.
    pub fn add(&mut self, sample: u32, value: f64) {
        let added = self.objective.mass(self.feature_sets.count(sample as usize), value);
        for feature in self.feature_sets.features(sample as usize) {
            let feature = feature as usize;
            self.mass[feature] += added;
            self.level[feature] = match self.objective {
                Objective::Match(_) => self.mass[feature].ln(),
                _ => self.mass[feature].sqrt(),
            };
        }
    }

    /// The value of the set.
    pub fn value(&self) -> f64 {
        match self.objective {
            Objective::Diverse => self.level.iter().sum(),
            Objective::NewFeatures => self.mass.iter().filter(|mass| **mass > 0.0).count() as f64,
            Objective::Match(target) => {
                let shares = target.shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
                shares.map(|(k, share)| share * (self.level[k] - share.ln())).sum()
            }
        }
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        *self = Self::new(self.objective, self.feature_sets);
    }
}

/// How features are distributed over the samples of a target set, for sets that are to be like it.
///
/// Each sample is a distribution that is uniform over its features, and a set is the mean of its samples. With the
/// distribution `q` of the target, and the mass `m_k(S) = sum of v(s) / |s| over the s in S that have k`, the value of a set is
/// `f(S) = sum_k q_k ln(1 + m_k(S) / q_k)`. This is `ln(1 + M) - KL(q || P)`, where `M` is the sum of the values in `S`, and
/// `P = (q + m(S)) / (1 + M)` is the distribution of `S` with the target as one more sample, which keeps the divergence finite.
/// Where all values are 1, the set of a given size with the largest `f` is the one with the smallest divergence.
///
/// That a KL divergence to a target distribution can be minimized as a submodular function is due to Shinohara (2014); `f` is a
/// feature-based function of Wei, Iyer and Bilmes (2014). Submodular Distribution Matching (SDM: "Matched Data, Better Models",
/// ICLR 2026) selects data by matching the distribution of sparse features in this sense. Of its exact objective only the
/// abstract was at hand, so this is not claimed to be the same function.
///
/// ```
/// use filters::select::objective::TargetDistribution;
/// use sae_core::analysis::feature_sets::FeatureSets;
///
/// let target = TargetDistribution::new(&FeatureSets::from_sets(&[vec![0, 1], vec![0]], 3))?;
/// let samples = FeatureSets::from_sets(&[vec![0, 1], vec![0], vec![2]], 3);
/// assert!(target.divergence(&samples, [0, 1]) < 1e-12);
/// assert!(target.divergence(&samples, [0, 1, 2]) > 0.1);
/// # Ok::<(), filters::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TargetDistribution {
    /// The share of each feature, `q`.
    shares: Vec<f64>,
}

impl TargetDistribution {
    /// The distribution of the features of some samples. Samples without features do not count.
    ///
    /// # Errors
    /// No sample has a feature.
    pub fn new(target: &FeatureSets) -> Result<Self> {
        let (shares, samples) = distribution(target, 0..target.len() as u32);
        if samples == 0.0 {
            let text = format!("no feature is active in any of the {} samples of the target run", target.len());
            return Err(Error::request(Cause::with_hint(text, Hint::Change(Setting::MatchRun))));
        }
        Ok(Self { shares: shares.into_iter().map(|mass| mass / samples).collect() })
    }

    /// The Kullback-Leibler divergence, in nats, from the target to the distribution of some samples with the target as one
    /// more sample.
    pub fn divergence(&self, feature_sets: &FeatureSets, samples: impl IntoIterator<Item = u32>) -> f64 {
        let (masses, samples) = distribution(feature_sets, samples);
        let both = self.shares.iter().zip(&masses).filter(|(share, _)| **share > 0.0);
        both.map(|(share, mass)| share * (share * (1.0 + samples) / (share + mass)).ln()).sum()
    }
}

/// The mass of each feature in some samples, and the number of those that have features.
fn distribution(feature_sets: &FeatureSets, samples: impl IntoIterator<Item = u32>) -> (Vec<f64>, f64) {
    let (mut masses, mut total) = (vec![0.0; feature_sets.d_sae()], 0.0);
    for sample in samples {
        let count = feature_sets.count(sample as usize);
        total += f64::from(u8::from(count > 0));
        let mass = 1.0 / count.max(1) as f64;
        feature_sets.features(sample as usize).for_each(|feature| masses[feature as usize] += mass);
    }
    (masses, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn sets() -> impl Strategy<Value = Vec<BTreeSet<u32>>> {
        prop::collection::vec(prop::collection::btree_set(0u32..8, 0..6), 2..9)
    }

    fn packed(sets: &[BTreeSet<u32>]) -> FeatureSets {
        FeatureSets::from_sets(&sets.iter().map(|set| set.iter().copied().collect()).collect::<Vec<_>>(), 8)
    }

    proptest! {
        #[test]
        fn gains_are_differences_of_values_and_never_grow(
            samples in sets(), target in sets(), values in prop::collection::vec(1u32..=10, 9)
        ) {
            let (samples, target) = (packed(&samples), TargetDistribution::new(&packed(&target)));
            let mut objectives = vec![Objective::Diverse, Objective::NewFeatures];
            objectives.extend(target.as_ref().ok().map(Objective::Match));
            for objective in objectives {
                let mut chosen = Chosen::new(objective, &samples);
                prop_assert!(chosen.value().abs() < 1e-12);
                let value = |n: u32| f64::from(values[n as usize]) / 10.0;
                let last = samples.len() as u32 - 1;
                let mut gain_of_last = chosen.gain(last, value(last));
                for n in 0..last {
                    let (before, gain) = (chosen.value(), chosen.gain(n, value(n)));
                    prop_assert!((-1e-12..=chosen.bound(n, value(n)) + 1e-12).contains(&gain));
                    chosen.add(n, value(n));
                    prop_assert!((chosen.value() - before - gain).abs() < 1e-9, "{:?}", objective);
                    let later = chosen.gain(last, value(last));
                    prop_assert!(later <= gain_of_last + 1e-12, "{:?}", objective);
                    gain_of_last = later;
                }
                chosen.clear();
                prop_assert!(chosen.value().abs() < 1e-12);
            }
        }

        #[test]
        fn the_value_of_a_match_is_its_size_less_its_divergence(samples in sets(), target in sets()) {
            let samples: Vec<_> = samples.into_iter().filter(|set| !set.is_empty()).collect();
            if let Ok(target) = TargetDistribution::new(&packed(&target)) {
                let samples = packed(&samples);
                let mut chosen = Chosen::new(Objective::Match(&target), &samples);
                (0..samples.len() as u32).for_each(|n| chosen.add(n, 1.0));
                let divergence = target.divergence(&samples, 0..samples.len() as u32);
                prop_assert!((chosen.value() - ((1.0 + samples.len() as f64).ln() - divergence)).abs() < 1e-9);
                prop_assert!(divergence > -1e-12);
            }
        }
    }

    #[test]
    fn a_target_without_features_is_rejected() {
        let error = TargetDistribution::new(&FeatureSets::from_sets(&[vec![], vec![]], 4)).unwrap_err();
        assert!(error.to_string().contains("2 samples of the target run") && error.hint().is_some(), "{error}");
    }
}
