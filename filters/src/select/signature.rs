//! The packed set of active features of every sample, which near-duplicates and diversity are computed from.

use sae_core::analysis::pass::{Block, Observer};

/// The sets of active features of all samples. Memory: about one byte per active feature of a sample (the differences of
/// ascending features in base 128), and 20 bytes per sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signatures {
    packed: Vec<u8>,
    /// The location of each sample's set in `packed`, and its number of features.
    places: Vec<(usize, usize, u32)>,
    d_sae: usize,
}

impl Signatures {
    /// The signatures of given sets, each in ascending order.
    pub fn from_sets(sets: &[Vec<u32>], d_sae: usize) -> Self {
        let mut all = Self { packed: Vec::new(), places: vec![(0, 0, 0); sets.len()], d_sae };
        sets.iter().enumerate().for_each(|(n, set)| all.put(n, set));
        all
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

/// Collects signatures during a pass. A sample's set is packed when the next sample begins, because the positions of a sample
/// are consecutive.
#[derive(Clone, Debug)]
pub struct Collect {
    done: Signatures,
    open: Option<usize>,
    /// The features of the current sample, each once.
    set: Vec<u32>,
    /// For each feature, the last sample that has it, plus one.
    seen: Vec<u32>,
    threshold: f32,
}

impl Collect {
    /// Empty sets for `samples` samples and `d_sae` features, which are active above `threshold`.
    pub fn new(samples: usize, d_sae: usize, threshold: f32) -> Self {
        let done = Signatures::from_sets(&vec![Vec::new(); samples], d_sae);
        Self { done, open: None, set: Vec::new(), seen: vec![0; d_sae], threshold }
    }

    /// The signatures of all samples.
    pub fn finish(mut self) -> Signatures {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if let Some(sample) = self.open.take() {
            self.set.sort_unstable();
            self.done.put(sample, &self.set);
            self.set.clear();
        }
    }
}

impl Observer for Collect {
    fn observe(&mut self, block: &Block) -> sae_core::Result<()> {
        for (r, row) in block.positions() {
            let sample = block.tokens.sample[row];
            if self.open != Some(sample as usize) {
                self.close();
                self.open = Some(sample as usize);
            }
            let (features, values) = block.active.row(r);
            for (feature, _) in features.iter().zip(values).filter(|(_, z)| **z > self.threshold) {
                let seen = &mut self.seen[*feature as usize];
                if std::mem::replace(seen, sample + 1) != sample + 1 {
                    self.set.push(*feature);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sae_core::autoencoder::sparse::Sparse;
    use sae_core::store::TokenColumns;
    use sae_core::store::sample::Modality;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn packed_sets_are_unpacked_unchanged(sets in prop::collection::vec(prop::collection::btree_set(any::<u32>(), 0..20), 1..8)) {
            let sets: Vec<Vec<u32>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            // The number of features is only used for counts over all features.
            let packed = Signatures::from_sets(&sets, 0);
            for (n, set) in sets.iter().enumerate() {
                prop_assert_eq!(&packed.features(n).collect::<Vec<_>>(), set);
                prop_assert_eq!(packed.count(n), set.len());
            }
            let (a, b): (BTreeSet<_>, BTreeSet<_>) = (sets[0].iter().collect(), sets[sets.len() - 1].iter().collect());
            let expected = match a.union(&b).count() {
                0 => 0.0,
                either => a.intersection(&b).count() as f64 / either as f64,
            };
            prop_assert_eq!(packed.similarity(0, sets.len() - 1), expected);
        }
    }

    #[test]
    fn a_sample_in_two_blocks_is_one_set() {
        let tokens = TokenColumns {
            sample: vec![0, 0, 2],
            position: vec![0, 1, 0],
            modality: vec![Modality::Text, Modality::Image, Modality::Text],
            role: vec![sae_core::store::sample::Role::User; 3],
            special: vec![false; 3],
        };
        let mut collect = Collect::new(3, 2, 1.0);
        for (rows, dense) in [(0..1, vec![2.0, 0.0]), (1..3, vec![3.0, 1.5, 1.0, 2.0])] {
            let active = Sparse::from_dense(&dense, 2);
            collect.observe(&Block { tokens: &tokens, rows, shard: 0, hidden: &[], active: &active }).unwrap();
        }
        let sets = collect.finish();
        let sets: Vec<Vec<u32>> = (0..3).map(|n| sets.features(n).collect()).collect();
        assert_eq!(sets, [vec![0, 1], vec![], vec![1]]);
    }
}
