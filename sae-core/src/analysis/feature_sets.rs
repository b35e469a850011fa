//! The set of features that are active in each sample, or in one part of it, packed into about a byte per feature.
//! Near-duplicates, diversity and contrasts are computed from these sets.

use crate::Result;
pub use crate::analysis::between::Part;
use crate::analysis::summary::{SampleSummary, SummaryObserver};
use serde::{Deserialize, Serialize};

/// What is measured of a feature in a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Whether it is active: 1 or 0.
    #[default]
    Active,
    /// How strongly: `ln(1 + max)` of its largest activation, and 0 where it is not active.
    Strength,
}

impl std::str::FromStr for Measure {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "active" => Ok(Self::Active),
            "strength" => Ok(Self::Strength),
            _ => Err(format!("unknown measure {name:?}: expected active or strength")),
        }
    }
}

/// The sets of active features of all samples. Memory: about one byte per active feature of a sample (the differences of
/// ascending features in base 128), and 20 bytes per sample; with strengths, 4 bytes more per active feature and 8 per sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureSets {
    packed: Vec<u8>,
    /// The location of each sample's set in `packed`, and its number of features.
    places: Vec<(usize, usize, u32)>,
    d_sae: usize,
    /// How strongly features are active, if that is measured.
    strengths: Option<Strengths>,
}

/// Strengths of features, set by set.
#[derive(Clone, Debug, Default, PartialEq)]
struct Strengths {
    values: Vec<f32>,
    /// Where those of each sample begin.
    first: Vec<usize>,
}

impl FeatureSets {
    /// The feature_sets of given sets, each in ascending order.
    pub fn from_sets(sets: &[Vec<u32>], d_sae: usize) -> Self {
        let mut all = Self::empty(sets.len(), d_sae, Measure::Active);
        sets.iter().enumerate().for_each(|(n, set)| all.put(n, set));
        all
    }

    /// Sets of features in ascending order with the strength of each.
    pub fn from_strengths(sets: &[Vec<(u32, f32)>], d_sae: usize) -> Self {
        let mut all = Self::empty(sets.len(), d_sae, Measure::Strength);
        for (n, set) in sets.iter().enumerate() {
            all.put_strengths(n, set.iter().map(|(_, strength)| *strength));
            all.put(n, &set.iter().map(|(feature, _)| *feature).collect::<Vec<_>>());
        }
        all
    }

    fn empty(samples: usize, d_sae: usize, measure: Measure) -> Self {
        let strengths = || Strengths { values: Vec::new(), first: vec![0; samples] };
        let strengths = (measure == Measure::Strength).then(strengths);
        Self { packed: Vec::new(), places: vec![(0, 0, 0); samples], d_sae, strengths }
    }

    fn put_strengths(&mut self, sample: usize, values: impl Iterator<Item = f32>) {
        if let Some(strengths) = &mut self.strengths {
            strengths.first[sample] = strengths.values.len();
            strengths.values.extend(values);
        }
    }

    /// Adds a sample with the given features, in ascending order.
    pub fn push(&mut self, set: &[u32]) {
        self.places.push((0, 0, 0));
        self.put(self.places.len() - 1, set);
    }

    fn put(&mut self, sample: usize, set: &[u32]) {
        let (start, mut last) = (self.packed.len(), 0);
        for feature in set {
            let mut gap = feature - last;
            last = *feature;
            while gap >= 0x80 {
                self.packed.push(gap as u8 | 0x80);
                gap >>= 7;
            }
            self.packed.push(gap as u8);
        }
        self.places[sample] = (start, self.packed.len(), set.len() as u32);
    }

    /// The sets of some of the samples, in this order.
    ///
    /// # Panics
    /// If there is no sample of a number.
    #[must_use]
    pub fn of_samples(self, samples: &[u32]) -> Self {
        let places = samples.iter().map(|n| self.places[*n as usize]).collect();
        let strengths = self.strengths.map(|all| Strengths {
            first: samples.iter().map(|n| all.first[*n as usize]).collect(),
            values: all.values,
        });
        Self { packed: self.packed, places, d_sae: self.d_sae, strengths }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The size of the sets in bytes.
    pub fn bytes(&self) -> usize {
        self.packed.len()
    }

    /// The number of features of the autoencoder.
    pub fn d_sae(&self) -> usize {
        self.d_sae
    }

    /// The number of features of a sample.
    pub fn count(&self, sample: usize) -> usize {
        self.places[sample].2 as usize
    }

    /// The features of a sample, in ascending order.
    pub fn features(&self, sample: usize) -> Features<'_> {
        let (start, end, _) = self.places[sample];
        Features { packed: self.packed[start..end].iter(), last: 0 }
    }

    /// What is measured of features.
    pub fn measure(&self) -> Measure {
        if self.strengths.is_some() { Measure::Strength } else { Measure::Active }
    }

    /// The features of a sample, in ascending order, with what is measured of them: their strengths, or 1.
    pub fn measured(&self, sample: usize) -> impl Iterator<Item = (u32, f64)> + '_ {
        let mut strengths = self.strengths.as_ref().map(|all| all.values[all.first[sample]..].iter());
        let next = move |feature| {
            let strength = strengths.as_mut().and_then(Iterator::next);
            (feature, strength.map_or(1.0, |strength| f64::from(*strength)))
        };
        self.features(sample).map(next)
    }

    /// The number of samples in which each feature is active.
    pub fn frequencies(&self) -> Vec<u32> {
        let mut counts = vec![0; self.d_sae];
        (0..self.len()).flat_map(|n| self.features(n)).for_each(|feature| counts[feature as usize] += 1);
        counts
    }

    /// The Jaccard similarity of two samples: the number of features that both have, divided by the number of features that at
    /// least one has. It is 0 if neither has any.
    pub fn similarity(&self, a: usize, b: usize) -> f64 {
        self.alike(a, b, 0.0).unwrap_or(0.0)
    }

    /// Maximum number of features that only one of two samples may have if their similarity is at least `least`.
    pub fn differing(&self, a: usize, b: usize, least: f64) -> usize {
        let both = (self.count(a) + self.count(b)) as f64;
        ((1.0 - least) / (1.0 + least) * both + 1e-6) as usize
    }

    /// The similarity of two samples, if it is at least `least`.
    pub fn alike(&self, a: usize, b: usize, least: f64) -> Option<f64> {
        let (mut left, mut right) = (self.features(a), self.features(b));
        let (mut l, mut r) = (left.next(), right.next());
        let (mut shared, mut left_over) = (0usize, self.differing(a, b, least));
        while let (Some(own), Some(other)) = (l, r) {
            if own == other {
                shared += 1;
                (l, r) = (left.next(), right.next());
                continue;
            }
            left_over = left_over.checked_sub(1)?;
            if own < other {
                l = left.next();
            } else {
                r = right.next();
            }
        }
        let similarity = match self.count(a) + self.count(b) - shared {
            0 => 0.0,
            either => shared as f64 / either as f64,
        };
        (similarity >= least).then_some(similarity)
    }
}

/// An iterator over the features of a sample.
#[derive(Clone, Debug)]
pub struct Features<'a> {
    packed: std::slice::Iter<'a, u8>,
    last: u32,
}

impl Iterator for Features<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (mut gap, mut shift) = (0, 0);
        loop {
            let byte = *self.packed.next()?;
            gap |= ((byte & 0x7f) as u32) << shift;
            if byte < 0x80 {
                self.last += gap;
                return Some(self.last);
            }
            shift += 7;
        }
    }
}

/// Collects feature sets from summaries of samples.
#[derive(Clone, Debug)]
pub struct FeatureSetCollector {
    sets: FeatureSets,
    threshold: f32,
}

impl FeatureSetCollector {
    /// Empty sets for `samples` samples and `d_sae` features, which are active above `threshold`, at least 0.
    pub fn new(samples: usize, d_sae: usize, threshold: f32, measure: Measure) -> Self {
        Self { sets: FeatureSets::empty(samples, d_sae, measure), threshold }
    }

    /// The feature sets of all samples.
    pub fn finish(self) -> FeatureSets {
        self.sets
    }
}

impl SummaryObserver for FeatureSetCollector {
    fn observe_sample(&mut self, summary: &SampleSummary) -> Result<()> {
        let active = || summary.peaks.iter().filter(|peak| peak.activation > self.threshold);
        let (set, strengths): (Vec<u32>, Vec<f32>) =
            active().map(|peak| (peak.feature, peak.activation.ln_1p())).unzip();
        self.sets.put_strengths(summary.sample as usize, strengths.into_iter());
        self.sets.put(summary.sample as usize, &set);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::summary::Peak;
    use crate::store::sample::Modality;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn packed_sets_are_unpacked_unchanged(sets in prop::collection::vec(prop::collection::btree_set(any::<u32>(), 0..20), 1..8)) {
            let sets: Vec<Vec<u32>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            // The number of features is only used for counts over all features.
            let packed = FeatureSets::from_sets(&sets, 0);
            for (n, set) in sets.iter().enumerate() {
                prop_assert_eq!(&packed.features(n).collect::<Vec<_>>(), set);
                prop_assert_eq!(packed.count(n), set.len());
            }
            let last = sets.len() - 1;
            let some = packed.clone().of_samples(&[last as u32, 0]);
            prop_assert_eq!(some.features(0).collect::<Vec<_>>(), &sets[last][..]);
            prop_assert_eq!((some.len(), some.features(1).collect::<Vec<_>>()), (2, sets[0].clone()));
            let (a, b): (BTreeSet<_>, BTreeSet<_>) = (sets[0].iter().collect(), sets[sets.len() - 1].iter().collect());
            let expected = match a.union(&b).count() {
                0 => 0.0,
                either => a.intersection(&b).count() as f64 / either as f64,
            };
            prop_assert_eq!(packed.similarity(0, sets.len() - 1), expected);
        }
    }

    #[test]
    fn features_above_the_threshold_are_in_the_set_of_a_sample() {
        let peak = |feature, activation| Peak { feature, activation, position: 0, modality: Modality::Text };
        let collect = |measure| {
            let mut collector = FeatureSetCollector::new(3, 2, 1.0, measure);
            for (sample, peaks) in [(0, [peak(0, 3.0), peak(1, 1.5)]), (2, [peak(0, 1.0), peak(1, 2.0)])] {
                collector.observe_sample(&SampleSummary { sample, peaks: &peaks, mean: &[] }).unwrap();
            }
            let sets = collector.finish();
            (0..3).map(|n| sets.measured(n).collect()).collect::<Vec<Vec<(u32, f64)>>>()
        };
        let strength = |z: f32| f64::from(z.ln_1p());
        let strong = [vec![(0, strength(3.0)), (1, strength(1.5))], vec![], vec![(1, strength(2.0))]];
        assert_eq!(collect(Measure::Strength), strong);
        assert_eq!(collect(Measure::Active), [vec![(0, 1.0), (1, 1.0)], vec![], vec![(1, 1.0)]]);
    }
}
