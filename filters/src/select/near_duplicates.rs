//! Near-duplicates: whether the features of a sample are similar to those of a kept sample of the same group. The result is
//! exact, because an index only rules out samples that cannot be similar enough.
//!
//! Two sets with similarity `t` share at least a share `t` of the features of each. If the features are sorted by a common
//! order, the first `n - ceil(t n) + 1` features of a set of `n` therefore contain one that is also among the corresponding
//! first features of the other set (prefix filtering: Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007). The
//! rarest features come first, so that few sets share one. Of the sets that do, sketches rule out most: every feature flips
//! one of 512 bits, so two sets differ in at least as many features as their sketches differ in bits.

use sae_core::analysis::feature_sets::FeatureSets;

/// Size of a sketch in words of 64 bits.
const WORDS: usize = 8;

/// The samples that were kept so far, with an index that finds those that are similar to another one.
pub struct Kept<'a> {
    feature_sets: &'a FeatureSets,
    groups: &'a [u32],
    similarity: f64,
    /// GroupSource of each feature in the order from the rarest to the commonest.
    order: Vec<u32>,
    /// For each feature, the kept samples (by their index here) that have it among their first features.
    index: Vec<Vec<u32>>,
    /// The kept samples with their sketches.
    samples: Vec<(u32, [u64; WORDS])>,
    /// For each kept sample, the number of queries when it was last found.
    asked: Vec<u32>,
    asking: u32,
    /// Scratch buffers: the first features of the current sample, and the kept samples that may be similar to it.
    prefix: Vec<u32>,
    found: Vec<u32>,
}

impl<'a> Kept<'a> {
    /// No kept samples. Samples of a group are near-duplicates from a similarity of `similarity` on, above 0 and up to 1.
    pub fn new(feature_sets: &'a FeatureSets, groups: &'a [u32], similarity: f64) -> Self {
        let frequencies = feature_sets.frequencies();
        let mut features: Vec<u32> = (0..feature_sets.d_sae() as u32).collect();
        features.sort_by_key(|feature| (frequencies[*feature as usize], *feature));
        let mut order = vec![0; features.len()];
        features.iter().zip(0..).for_each(|(feature, place)| order[*feature as usize] = place);
        let index = vec![Vec::new(); features.len()];
        let [prefix, found, asked] = [vec![], vec![], vec![]];
        Self { feature_sets, groups, similarity, order, index, samples: vec![], asked, asking: 0, prefix, found }
    }

    /// Keeps the sample, unless it is similar to a kept one. In this case, returns the first such sample and the similarity.
    pub fn admit(&mut self, sample: u32) -> Option<(u32, f64)> {
        let n = sample as usize;
        let count = self.feature_sets.count(n);
        let mut sketch = [0u64; WORDS];
        self.prefix.clear();
        for feature in self.feature_sets.features(n) {
            let bit = feature.wrapping_mul(0x9e37_79b1) as usize >> 23;
            sketch[bit / 64] ^= 1 << (bit % 64);
            self.prefix.push(self.order[feature as usize]);
        }
        // Rounding errors may only add features that are compared.
        let first = count - ((self.similarity * count as f64 - 1e-6).ceil().max(0.0) as usize) + 1;
        if first < count {
            self.prefix.select_nth_unstable(first);
            self.prefix.truncate(first);
        }
        self.asking += 1;
        self.found.clear();
        for kept in self.prefix.iter().flat_map(|place| &self.index[*place as usize]) {
            if std::mem::replace(&mut self.asked[*kept as usize], self.asking) == self.asking {
                continue;
            }
            let (other, other_sketch) = &self.samples[*kept as usize];
            let differ: u32 = sketch.iter().zip(other_sketch).map(|(a, b)| (a ^ b).count_ones()).sum();
            let may = differ as usize <= self.feature_sets.differing(n, *other as usize, self.similarity);
            if may && self.groups[n] == self.groups[*other as usize] {
                self.found.push(*kept);
            }
        }
        self.found.sort_unstable();
        for kept in &self.found {
            let other = self.samples[*kept as usize].0;
            if let Some(similarity) = self.feature_sets.alike(n, other as usize, self.similarity) {
                return Some((other, similarity));
            }
        }
        let number = self.samples.len() as u32;
        self.prefix.iter().for_each(|place| self.index[*place as usize].push(number));
        self.samples.push((sample, sketch));
        self.asked.push(0);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_index_finds_every_near_duplicate(
            sets in prop::collection::vec(prop::collection::btree_set(0u32..12, 0..9), 1..40), tenths in 1u32..=10
        ) {
            let sets: Vec<Vec<u32>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            let feature_sets = FeatureSets::from_sets(&sets, 12);
            let similarity = tenths as f64 / 10.0;
            let groups: Vec<u32> = (0..sets.len() as u32).map(|n| n / 20).collect();
            let mut kept = Kept::new(&feature_sets, &groups, similarity);
            let mut plain: Vec<u32> = Vec::new();
            for n in 0..sets.len() as u32 {
                let like = |other: &u32| {
                    n / 20 == other / 20 && feature_sets.similarity(n as usize, *other as usize) >= similarity
                };
                let expected = plain.iter().copied().find(like);
                prop_assert_eq!(kept.admit(n).map(|found| found.0), expected);
                if expected.is_none() {
                    plain.push(n);
                }
            }
        }
    }
}
