//! Near-duplicates: whether a sample's features are nearly those of a sample of its group that was kept before. Exact: an
//! index only rules out what cannot be similar enough.
//!
//! Two sets of similarity `t` share at least `t` of the features of either. So, with features in one order, the
//! first `n - ceil(t n) + 1` of a set of `n` share one with the first so many of the other (prefix filtering: Chaudhuri,
//! Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007). The rarest features come first, so that few sets share one. Of
//! those that do, most are told apart by their sketches: every feature flips one of 512 bits, so that two sets differ in at
//! least as many features as their sketches in bits.

use super::signature::Signatures;

/// Bits of a sketch, in words of 64.
const WORDS: usize = 8;

/// The samples that were kept so far, and what finds those that are like another.
pub struct Kept<'a> {
    signatures: &'a Signatures,
    groups: &'a [u32],
    similarity: f64,
    /// GroupSource of each feature in the order from the rarest to the commonest.
    order: Vec<u32>,
    /// For each feature the kept samples, by their number here, that have it among their first ones.
    index: Vec<Vec<u32>>,
    /// The kept samples with their sketches.
    samples: Vec<(u32, [u64; WORDS])>,
    /// How many samples had been asked about, when each kept one was last found.
    asked: Vec<u32>,
    asking: u32,
    /// The first features of the sample at hand, and the kept samples that may be like it.
    prefix: Vec<u32>,
    found: Vec<u32>,
}

impl<'a> Kept<'a> {
    /// None yet; samples of one group are alike from `similarity` on, above 0 and up to 1.
    pub fn new(signatures: &'a Signatures, groups: &'a [u32], similarity: f64) -> Self {
        let frequencies = signatures.frequencies();
        let mut features: Vec<u32> = (0..signatures.d_sae() as u32).collect();
        features.sort_by_key(|feature| (frequencies[*feature as usize], *feature));
        let mut order = vec![0; features.len()];
        features.iter().zip(0..).for_each(|(feature, place)| order[*feature as usize] = place);
        let index = vec![Vec::new(); features.len()];
        let [prefix, found, asked] = [vec![], vec![], vec![]];
        Self { signatures, groups, similarity, order, index, samples: vec![], asked, asking: 0, prefix, found }
    }

    /// Takes the sample in, unless it is like one that is in: then that one, the first of several, and how similar.
    pub fn admit(&mut self, sample: u32) -> Option<(u32, f64)> {
        let n = sample as usize;
        let count = self.signatures.count(n);
        let mut sketch = [0u64; WORDS];
        self.prefix.clear();
        for feature in self.signatures.features(n) {
            let bit = feature.wrapping_mul(0x9e37_79b1) as usize >> 23;
            sketch[bit / 64] ^= 1 << (bit % 64);
            self.prefix.push(self.order[feature as usize]);
        }
        // Rounding may only lengthen what is looked at.
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
            let may = differ as usize <= self.signatures.differing(n, *other as usize, self.similarity);
            if may && self.groups[n] == self.groups[*other as usize] {
                self.found.push(*kept);
            }
        }
        self.found.sort_unstable();
        for kept in &self.found {
            let other = self.samples[*kept as usize].0;
            if let Some(similarity) = self.signatures.alike(n, other as usize, self.similarity) {
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
        fn the_index_misses_nothing(
            sets in prop::collection::vec(prop::collection::btree_set(0u32..12, 0..9), 1..40), tenths in 1u32..=10
        ) {
            let sets: Vec<Vec<u32>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            let signatures = Signatures::of_sets(&sets, 12);
            let similarity = tenths as f64 / 10.0;
            let groups: Vec<u32> = (0..sets.len() as u32).map(|n| n / 20).collect();
            let mut kept = Kept::new(&signatures, &groups, similarity);
            let mut plain: Vec<u32> = Vec::new();
            for n in 0..sets.len() as u32 {
                let like = |other: &u32| {
                    n / 20 == other / 20 && signatures.similarity(n as usize, *other as usize) >= similarity
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
