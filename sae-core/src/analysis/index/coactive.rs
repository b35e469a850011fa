//! Which features fire together. Counted on all positions if memory holds their activations, otherwise on a sample of the
//! positions. Memory: twice [`MAX_ENTRIES`] numbers of 4 bytes, and one count per feature and thread.
//!
//! A position is drawn if the hash of its (sample, position) begins with enough zero bits; their number grows until memory
//! suffices. The draw therefore depends on the data alone, and on neither the order of the store nor the number of threads.

use super::examples::draw;
use super::lists::{Row, place, ranks};
use crate::analysis::part::{PartWriter, Section};
use crate::autoencoder::sparse::ByFeature;
use crate::table::{self, Column};
use crate::{Error, Result};
use arrow::array::{Float32Array, RecordBatch, UInt32Array, UInt64Array};
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;

/// Features kept for each feature: those that fire most often together with it.
pub const COACTIVE: usize = 10;
/// Activations held: a million positions of 32 active features.
pub const MAX_ENTRIES: u64 = 1 << 25;
/// Pairs counted, which decide the time that it takes.
pub const MAX_PAIRS: u64 = 1 << 31;

/// A feature that fires together with another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coactive {
    /// The other feature.
    pub feature: u32,
    /// Counted positions where both fire.
    pub together: u64,
    /// `together` over the counted positions where one of them fires.
    pub jaccard: f32,
}

/// The positions that are counted, each with its active features.
pub struct Positions {
    d_sae: usize,
    /// A position is drawn if at least this many leading bits of its hash are zero.
    zeros: u32,
    bounds: (u64, u64),
    draws: Vec<u64>,
    /// The features of position `n` are `features[ends[n - 1]..ends[n]]`.
    ends: Vec<usize>,
    features: Vec<u32>,
    pairs: u64,
}

impl Positions {
    /// No positions of `d_sae` features.
    pub fn new(d_sae: usize) -> Self {
        Self::bounded(d_sae, (MAX_ENTRIES, MAX_PAIRS))
    }

    fn bounded(d_sae: usize, bounds: (u64, u64)) -> Self {
        let (draws, ends, features) = (Vec::new(), Vec::new(), Vec::new());
        Self { d_sae, zeros: 0, bounds, draws, ends, features, pairs: 0 }
    }

    /// Considers a position with the features that are active there.
    pub fn offer(&mut self, (sample, position): (u32, u32), features: &[u32]) {
        self.offer_drawn(draw(sample, position), features);
    }

    /// [`Positions::offer`] for a position whose hash is known.
    fn offer_drawn(&mut self, draw: u64, features: &[u32]) {
        if draw.leading_zeros() < self.zeros || features.is_empty() {
            return;
        }
        self.draws.push(draw);
        self.features.extend_from_slice(features);
        self.ends.push(self.features.len());
        self.pairs += (features.len() as u64).pow(2);
        // A hash has 64 bits, so a single position stays even if it is over the bounds.
        while (self.features.len() as u64 > self.bounds.0 || self.pairs > self.bounds.1) && self.draws.len() > 1 {
            self.zeros += 1;
            self.thin();
        }
    }

    /// Writes the drawn positions into a part.
    pub(super) fn save(&self, out: &mut PartWriter) {
        out.put("coactive.zeros", 1, [self.zeros]);
        out.put("coactive.draw", 1, self.draws.iter().copied());
        out.put("coactive.count", 1, (0..self.draws.len()).map(|n| self.row(n).len() as u32));
        out.put("coactive.feature", 1, self.features.iter().copied());
    }

    /// Takes in the drawn positions of a part.
    pub(super) fn merge(&mut self, section: &Section) -> Result<()> {
        let zeros: Vec<u32> = section.get_rows("coactive.zeros", 1, 1)?;
        let (draws, counts): (Vec<u64>, Vec<u32>) =
            (section.get("coactive.draw", 1)?, section.get("coactive.count", 1)?);
        let features: Vec<u32> = section.get("coactive.feature", 1)?;
        let ranges = section.ranges(&counts, features.len())?;
        let ascending = |range: &Range<usize>| features[range.clone()].is_sorted_by(|a, b| a < b);
        let fits = features.iter().all(|feature| (*feature as usize) < self.d_sae);
        if draws.len() != counts.len() || !fits || !ranges.iter().all(ascending) {
            return Err(section.error("the features that fire together contradict each other"));
        }
        if zeros[0] > self.zeros {
            self.zeros = zeros[0];
            self.thin();
        }
        draws.iter().zip(ranges).for_each(|(draw, range)| self.offer_drawn(*draw, &features[range]));
        Ok(())
    }

    /// Drops the positions that are no longer drawn.
    fn thin(&mut self) {
        let (mut start, mut kept, mut to) = (0, 0, 0);
        self.pairs = 0;
        for n in 0..self.draws.len() {
            let range = start..self.ends[n];
            start = range.end;
            if self.draws[n].leading_zeros() < self.zeros {
                continue;
            }
            self.pairs += (range.len() as u64).pow(2);
            self.features.copy_within(range.clone(), to);
            to += range.len();
            (self.draws[kept], self.ends[kept]) = (self.draws[n], to);
            kept += 1;
        }
        self.draws.truncate(kept);
        self.ends.truncate(kept);
        self.features.truncate(to);
    }

    /// One position out of this many is counted.
    pub fn one_in(&self) -> u64 {
        1 << self.zeros.min(63)
    }

    /// Number of positions that are counted, without those that have no active feature.
    pub fn counted(&self) -> u64 {
        self.draws.len() as u64
    }

    fn row(&self, n: usize) -> &[u32] {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.features[start..self.ends[n]]
    }

    /// For every feature, the [`COACTIVE`] other features of the highest Jaccard similarity.
    pub fn most(&self) -> Vec<Vec<Coactive>> {
        let by_feature = ByFeature::from_rows((0..self.draws.len()).map(|n| self.row(n)), self.d_sae);
        let fires = |k: usize| by_feature.of(k).len() as u64;
        let order = |a: &Coactive, b: &Coactive| {
            let more = b.jaccard.total_cmp(&a.jaccard).then(b.together.cmp(&a.together));
            more.then(a.feature.cmp(&b.feature))
        };
        let count = |(counts, seen): &mut (Vec<u32>, Vec<u32>), k: usize| {
            for n in by_feature.of(k) {
                for other in self.row(*n as usize) {
                    let count = &mut counts[*other as usize];
                    if *count == 0 {
                        seen.push(*other);
                    }
                    *count += 1;
                }
            }
            let mut most = Vec::with_capacity(COACTIVE + 1);
            for other in seen.drain(..) {
                let together = u64::from(std::mem::take(&mut counts[other as usize]));
                if other as usize != k {
                    let either = fires(k) + fires(other as usize) - together;
                    let jaccard = together as f32 / either as f32;
                    place(&mut most, Coactive { feature: other, together, jaccard }, COACTIVE, order);
                }
            }
            most
        };
        let scratch = || (vec![0u32; self.d_sae], Vec::new());
        (0..self.d_sae).into_par_iter().map_init(scratch, count).collect()
    }
}

impl Row for Coactive {
    const FILE: &'static str = "coactive.parquet";

    fn columns(rows: &[(u32, Self)]) -> Vec<Column> {
        vec![
            table::column("rank", ranks(rows, |_, _| true)),
            table::column("other", UInt32Array::from_iter_values(rows.iter().map(|(_, c)| c.feature))),
            table::column("together", UInt64Array::from_iter_values(rows.iter().map(|(_, c)| c.together))),
            table::column("jaccard", Float32Array::from_iter_values(rows.iter().map(|(_, c)| c.jaccard))),
        ]
    }

    fn read(path: &Path, batch: &RecordBatch, d_sae: usize) -> Result<Vec<Self>> {
        let other = table::get::<UInt32Array>(path, batch, "other")?.values();
        let together = table::get::<UInt64Array>(path, batch, "together")?.values();
        let jaccard = table::get::<Float32Array>(path, batch, "jaccard")?.values();
        if let Some(wrong) = other.iter().find(|other| **other as usize >= d_sae) {
            return Err(Error::format(path)(format!("other is {wrong} of {d_sae} features")));
        }
        let row = |n: usize| Coactive { feature: other[n], together: together[n], jaccard: jaccard[n] };
        Ok((0..batch.num_rows()).map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const D_SAE: usize = 40;

    fn rows() -> impl Strategy<Value = Vec<Vec<u32>>> {
        let row = prop::collection::btree_set(0..D_SAE as u32, 0..8);
        prop::collection::vec(row.prop_map(|row: BTreeSet<u32>| row.into_iter().collect()), 0..80)
    }

    fn offered(rows: &[Vec<u32>], order: impl Iterator<Item = usize>, bounds: (u64, u64)) -> Positions {
        let mut positions = Positions::bounded(D_SAE, bounds);
        order.for_each(|n| positions.offer((n as u32, 3), &rows[n]));
        positions
    }

    proptest! {
        #[test]
        fn features_that_fire_together_are_counted_exactly(rows in rows()) {
            let most = offered(&rows, 0..rows.len(), (MAX_ENTRIES, MAX_PAIRS)).most();
            for (k, found) in most.iter().enumerate() {
                let has = |row: &[u32], k: usize| row.contains(&(k as u32));
                let others = (0..D_SAE).filter(|other| *other != k).map(|other| {
                    let count = |counts: &dyn Fn(bool, bool) -> bool| {
                        rows.iter().filter(|row| counts(has(row, k), has(row, other))).count() as u64
                    };
                    let (both, either) = (count(&|a, b| a && b), count(&|a, b| a || b));
                    Coactive { feature: other as u32, together: both, jaccard: both as f32 / either.max(1) as f32 }
                });
                let mut others: Vec<Coactive> = others.filter(|other| other.together > 0).collect();
                others.sort_by(|a, b| b.jaccard.total_cmp(&a.jaccard).then(b.together.cmp(&a.together)));
                others.truncate(COACTIVE);
                prop_assert_eq!(found, &others);
            }
        }

        #[test]
        fn a_draw_is_bounded_and_does_not_depend_on_the_order(rows in rows(), entries in 8u64..64, pairs in 64u64..400) {
            let forward = offered(&rows, 0..rows.len(), (entries, pairs));
            let backward = offered(&rows, (0..rows.len()).rev(), (entries, pairs));
            prop_assert!(forward.features.len() as u64 <= entries && forward.pairs <= pairs);
            prop_assert_eq!((forward.one_in(), forward.counted()), (backward.one_in(), backward.counted()));
            prop_assert_eq!(forward.most(), backward.most());
            let drawn = |n: &usize| draw(*n as u32, 3).leading_zeros() >= forward.zeros && !rows[*n].is_empty();
            prop_assert_eq!((0..rows.len()).filter(drawn).count() as u64, forward.counted());
        }
    }
}
