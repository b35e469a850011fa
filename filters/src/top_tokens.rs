//! Collects, during a pass, the token positions that represent each feature: those with its strongest activations, selected
//! as each [`Definition`] requires. Also measures how similar random text and image positions are. Computes no weights. The
//! result depends neither on the order of the shards nor on the number of threads.
//!
//! Memory: at most [`TOP`] + [`TOP`] + [`RELEASE_TOP`] + 2 [`CORRECTED_TOP`] positions of 24 bytes per feature, and two
//! vectors of `d_in` per shard.

use crate::definition::{Definition, IMAGE, Sides, TEXT};
use rayon::prelude::*;
use sae_core::analysis::part::{Mergeable, PartWriter, Section};
use sae_core::analysis::pass::{Block, Observer};
use sae_core::store::Paths;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Number of tokens of each modality that represent a feature in the paper and in the release.
pub const TOP: usize = 5;
/// Number of tokens of both modalities among which the release selects [`TOP`] of each.
pub const RELEASE_TOP: usize = 30;
/// Number of features of a token that the release keeps.
pub const RELEASE_FEATURES: usize = 50;
/// Number of tokens of each modality in the corrected definition, with at most one per sample.
pub const CORRECTED_TOP: usize = 16;
/// Number of rows of a shard whose unit vectors one thread sums.
const CHUNK: usize = 256;

/// A token position with the activation of a feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenPosition {
    /// The activation.
    pub z: f32,
    /// The number of the sample.
    pub sample: u32,
    /// The position in the sample.
    pub position: u32,
    /// The shard of the store.
    pub shard: u32,
    /// The row of the shard.
    pub row: u32,
    /// [`TEXT`] or [`IMAGE`].
    pub side: u32,
}

impl TokenPosition {
    /// Orders stronger activations first. Ties are broken by position in the data, so that the order of shards does not
    /// matter.
    pub fn rank(&self, other: &Self) -> Ordering {
        let place = |p: &Self| (p.sample, p.position);
        other.z.total_cmp(&self.z).then_with(|| place(self).cmp(&place(other)))
    }

    /// Inserts the position into a sorted list of at most `room` positions.
    fn enter(self, list: &mut Vec<Self>, room: usize) {
        if list.len() == room && list.last().is_some_and(|last| last.rank(&self).is_lt()) {
            return;
        }
        list.insert(list.partition_point(|p| p.rank(&self).is_lt()), self);
        list.truncate(room);
    }

    /// The same for a list that contains only the strongest position of each sample; of pieces, of each row.
    fn enter_alone(self, list: &mut Vec<Self>, room: usize, paths: &Paths) {
        if list.len() == room && list.last().is_some_and(|last| last.rank(&self).is_lt()) {
            return;
        }
        if let Some(own) = list.iter().position(|p| paths.root(p.sample) == paths.root(self.sample)) {
            if list[own].rank(&self).is_lt() {
                return;
            }
            list.remove(own);
        }
        self.enter(list, room);
    }
}

/// The token positions that represent one feature.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tops {
    /// `[text, image]`: the [`TOP`] strongest above the threshold.
    pub paper: [Vec<TokenPosition>; 2],
    /// The [`RELEASE_TOP`] strongest of both modalities, among the positions at which the feature is one of the
    /// [`RELEASE_FEATURES`] strongest.
    pub release: Vec<TokenPosition>,
    /// `[text, image]`: the [`CORRECTED_TOP`] strongest above the threshold with content, one per sample.
    pub corrected: [Vec<TokenPosition>; 2],
}

/// The sums of the normalized hidden states of positions with content.
#[derive(Clone, Debug, PartialEq)]
struct Units {
    sums: [Vec<f64>; 2],
    counts: [u64; 2],
}

/// Collects token positions during a pass.
#[derive(Clone, Debug)]
pub struct TopTokens {
    tops: Vec<Tops>,
    /// By shard, so that they are added in a fixed order, in whatever order the shards are visited.
    units: BTreeMap<usize, Units>,
    threshold: f32,
    /// What text and image stand for.
    sides: Sides,
    paths: Paths,
}

impl TopTokens {
    /// A collection without positions, for `d_sae` features. In the paper's and the corrected definition, activations count
    /// above `threshold`.
    pub fn new(d_sae: usize, threshold: f32) -> Self {
        let (tops, units) = (vec![Tops::default(); d_sae], BTreeMap::new());
        Self { tops, units, threshold, sides: Sides::default(), paths: Paths::default() }
    }

    /// The same for samples that may be pieces: all pieces of a row count as one sample, but for critiques, which do not count.
    #[must_use]
    pub fn along(self, paths: Paths) -> Self {
        Self { paths, ..self }
    }

    /// Compares other modalities than text and image.
    #[must_use]
    pub fn comparing(self, sides: &Sides) -> Self {
        Self { sides: sides.clone(), ..self }
    }

    /// The positions that represent each feature.
    pub fn features(&self) -> &[Tops] {
        &self.tops
    }

    /// `(sample, position)` of the strongest text and image tokens of a feature according to the paper, strongest first.
    pub fn places(&self, feature: usize) -> [Vec<(u32, u32)>; 2] {
        self.tops[feature].paper.each_ref().map(|top| top.iter().map(|p| (p.sample, p.position)).collect())
    }

    /// The mean cosine similarity of a random text position and a random image position with content. It is the product of
    /// the mean unit vectors, which is the mean over *all* such pairs. Nothing if the store lacks one of the modalities.
    pub fn baseline(&self) -> Option<f64> {
        let width = self.units.values().map(|u| u.sums[TEXT].len()).max()?;
        let mut total = Units { sums: [vec![0.0; width], vec![0.0; width]], counts: [0; 2] };
        for units in self.units.values() {
            total.add(units);
        }
        let [texts, images] = total.counts.map(|n| n as f64);
        let dot: f64 = total.sums[TEXT].iter().zip(&total.sums[IMAGE]).map(|(a, b)| a * b).sum();
        (texts > 0.0 && images > 0.0).then(|| dot / (texts * images))
    }
}

impl Units {
    fn add(&mut self, other: &Self) {
        for s in [TEXT, IMAGE] {
            self.sums[s].iter_mut().zip(&other.sums[s]).for_each(|(sum, value)| *sum += value);
            self.counts[s] += other.counts[s];
        }
    }

    fn from_block(block: &Block, sides: &Sides, paths: &Paths) -> Option<Self> {
        let width = block.hidden.len() / block.rows.len().max(1);
        if width == 0 {
            return None;
        }
        let counts = |(_, row): &(usize, usize)| !paths.is_critique(block.tokens.sample[*row]);
        let rows: Vec<(usize, usize)> = block.positions().filter(counts).collect();
        let parts: Vec<Self> = rows
            .par_chunks(CHUNK)
            .map(|rows| {
                let mut units = Self { sums: [vec![0.0; width], vec![0.0; width]], counts: [0; 2] };
                for (r, row) in rows {
                    let seen = sides
                        .side(block.tokens.modality[*row])
                        .filter(|_| Definition::Corrected.sees(block.tokens, *row));
                    let Some(s) = seen else { continue };
                    let state = &block.hidden[r * width..(r + 1) * width];
                    let norm = state.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
                    let scale = 1.0 / norm.max(f64::MIN_POSITIVE);
                    units.sums[s].iter_mut().zip(state).for_each(|(sum, v)| *sum += f64::from(*v) * scale);
                    units.counts[s] += 1;
                }
                units
            })
            .collect();
        parts.into_iter().reduce(|mut sum, part| {
            sum.add(&part);
            sum
        })
    }
}

/// The positions of consecutive features.
struct SomeTops<'a> {
    /// The first of these features.
    first: usize,
    tops: &'a mut [Tops],
    threshold: f32,
    sides: &'a Sides,
    paths: &'a Paths,
}

/// Orders stronger features first, and then those with lower numbers.
fn by_strength(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The weakest of the [`RELEASE_FEATURES`] strongest features of row `r`; nothing if it does not have more.
fn weakest_of_release(block: &Block, r: usize, strongest: &mut Vec<(f32, u32)>) -> Option<(f32, u32)> {
    let (features, values) = block.active.row(r);
    if values.len() <= RELEASE_FEATURES {
        return None;
    }
    strongest.clear();
    strongest.extend(values.iter().copied().zip(features.iter().copied()));
    Some(*strongest.select_nth_unstable_by(RELEASE_FEATURES - 1, by_strength).1)
}

impl SomeTops<'_> {
    /// Enters the active features of row `r` of a block, which is `row` of its shard, as far as they are among these.
    fn observe(&mut self, block: &Block, r: usize, row: usize, weakest: Option<(f32, u32)>) {
        let tokens = block.tokens;
        let Some(s) = self.sides.side(tokens.modality[row]) else { return };
        let (features, values) = block.active.row(r);
        let place = |z: f32| TokenPosition {
            z,
            sample: tokens.sample[row],
            position: tokens.position[row],
            shard: block.shard as u32,
            row: row as u32,
            side: s as u32,
        };
        // Active features are in ascending order.
        let before = |end: usize| features.partition_point(|feature| (*feature as usize) < end);
        let own = before(self.first)..before(self.first + self.tops.len());
        let entries = features[own.clone()].iter().zip(&values[own]);
        let corrected = Definition::Corrected.sees(tokens, row);
        for (feature, z) in entries.clone().filter(|(_, z)| **z > self.threshold) {
            let tops = &mut self.tops[*feature as usize - self.first];
            place(*z).enter(&mut tops.paper[s], TOP);
            if corrected {
                place(*z).enter_alone(&mut tops.corrected[s], CORRECTED_TOP, self.paths);
            }
        }
        if !Definition::Release.sees(tokens, row) {
            return;
        }
        let is_strong = |k: u32, z: f32| weakest.is_none_or(|weakest| by_strength(&(z, k), &weakest).is_le());
        for (feature, z) in entries.filter(|(k, z)| is_strong(**k, **z)) {
            place(*z).enter(&mut self.tops[*feature as usize - self.first].release, RELEASE_TOP);
        }
    }
}

impl Observer for TopTokens {
    fn observe(&mut self, block: &Block) -> sae_core::Result<()> {
        if let Some(units) = Units::from_block(block, &self.sides, &self.paths) {
            match self.units.get_mut(&block.shard) {
                Some(sum) => sum.add(&units),
                None => drop(self.units.insert(block.shard, units)),
            }
        }
        let (threshold, sides, paths) = (self.threshold, &self.sides, &self.paths);
        let counts = |(_, row): &(usize, usize)| !paths.is_critique(block.tokens.sample[*row]);
        let rows: Vec<(usize, usize)> = block.positions().filter(counts).collect();
        let weakest = |strongest: &mut Vec<(f32, u32)>, (r, row): &(usize, usize)| {
            let is_seen =
                sides.side(block.tokens.modality[*row]).is_some() && Definition::Release.sees(block.tokens, *row);
            is_seen.then(|| weakest_of_release(block, *r, strongest)).flatten()
        };
        let weakest: Vec<Option<(f32, u32)>> = rows.par_iter().map_init(Vec::new, weakest).collect();
        // Each thread has features of its own, and sees all positions in their order.
        let size = self.tops.len().div_ceil(rayon::current_num_threads()).max(1);
        self.tops.par_chunks_mut(size).enumerate().for_each(|(n, tops)| {
            let mut some = SomeTops { first: n * size, tops, threshold, sides, paths };
            rows.iter().zip(&weakest).for_each(|((r, row), weakest)| some.observe(block, *r, *row, *weakest));
        });
        Ok(())
    }
}

/// The lists of a feature in a part, in the order of their codes.
const LISTS: u8 = 5;

impl Tops {
    fn lists(&self) -> [&Vec<TokenPosition>; LISTS as usize] {
        let ([paper_text, paper_image], [text, image]) = (&self.paper, &self.corrected);
        [paper_text, paper_image, &self.release, text, image]
    }

    /// Considers a position that was in the list of this code in a part.
    fn enter_list(&mut self, list: u8, position: TokenPosition, paths: &Paths) {
        match list {
            0 | 1 => position.enter(&mut self.paper[usize::from(list)], TOP),
            2 => position.enter(&mut self.release, RELEASE_TOP),
            _ => position.enter_alone(&mut self.corrected[usize::from(list) - 3], CORRECTED_TOP, paths),
        }
    }
}

/// Positions are taken in by the lists that they were in; sums of unit vectors stay those of their shards.
impl Mergeable for TopTokens {
    fn save(&mut self, out: &mut PartWriter) -> sae_core::Result<()> {
        let lists = || self.tops.iter().flat_map(|tops| (0..).zip(tops.lists()));
        let positions = || lists().flat_map(|(code, list): (u8, _)| list.iter().map(move |position| (code, position)));
        let count = |tops: &Tops| tops.lists().iter().map(|list| list.len() as u32).sum::<u32>();
        out.put("tops.count", 1, self.tops.iter().map(count));
        out.put("tops.list", 2, positions().flat_map(|(code, position)| [code, position.side as u8]));
        out.put("tops.activation", 1, positions().map(|(_, position)| position.z));
        out.put("tops.place", 4, positions().flat_map(|(_, p)| [p.sample, p.position, p.shard, p.row]));
        let width = self.units.values().map(|units| units.sums[TEXT].len()).max().unwrap_or_default();
        out.put("units.shard", 1, self.units.keys().map(|shard| *shard as u32));
        out.put("units.count", 2, self.units.values().flat_map(|units| units.counts));
        out.put("units.sum", 2 * width, self.units.values().flat_map(|units| units.sums.iter().flatten().copied()));
        Ok(())
    }

    fn merge(&mut self, section: &Section) -> sae_core::Result<()> {
        let counts: Vec<u32> = section.get_rows("tops.count", self.tops.len(), 1)?;
        let activations: Vec<f32> = section.get("tops.activation", 1)?;
        let lists: Vec<u8> = section.get_rows("tops.list", activations.len(), 2)?;
        let places: Vec<u32> = section.get_rows("tops.place", activations.len(), 4)?;
        let position = |n: usize| {
            let (z, list, side) = (activations[n], lists[2 * n], lists[2 * n + 1]);
            let (sample, position, shard, row) =
                (places[4 * n], places[4 * n + 1], places[4 * n + 2], places[4 * n + 3]);
            let is_known = z.is_finite() && list < LISTS && side < 2;
            if !(is_known && section.has_sample(sample) && section.has_row(shard, row)) {
                return Err(section.error(format!("a strongest token in row {row} of shard {shard}, sample {sample}")));
            }
            Ok((list, TokenPosition { z, sample, position, shard, row, side: u32::from(side) }))
        };
        let positions = (0..activations.len()).map(position).collect::<sae_core::Result<Vec<(u8, TokenPosition)>>>()?;
        let (ranges, paths) = (section.ranges(&counts, positions.len())?, &self.paths);
        (&mut self.tops[..], ranges).into_par_iter().for_each(|(tops, range)| {
            positions[range].iter().for_each(|(list, position)| tops.enter_list(*list, *position, paths));
        });
        let shards: Vec<u32> = section.get("units.shard", 1)?;
        let counts: Vec<u64> = section.get_rows("units.count", shards.len(), 2)?;
        let width = section.width();
        let sums: Vec<f64> =
            section.get_rows("units.sum", shards.len(), if shards.is_empty() { 0 } else { 2 * width })?;
        for (n, shard) in shards.iter().map(|shard| *shard as usize).enumerate() {
            if !section.shards().contains(&shard) || self.units.contains_key(&shard) {
                return Err(section.error(format!("sums of shard {shard}: expected {:?}", section.shards())));
            }
            let sums = [TEXT, IMAGE].map(|side| sums[(2 * n + side) * width..][..width].to_vec());
            self.units.insert(shard, Units { sums, counts: [counts[2 * n], counts[2 * n + 1]] });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sample_stands_once_by_its_strongest_position(
            mut list in prop::collection::vec((0u32..6, 0u32..5, 1u8..9), 1..40)
        ) {
            list.sort_unstable();
            list.dedup_by_key(|(sample, position, _)| (*sample, *position));
            let place = |(sample, position, z): &(u32, u32, u8)| {
                TokenPosition { z: f32::from(*z), sample: *sample, position: *position, shard: 0, row: 0, side: 0 }
            };
            let (mut forward, mut backward) = (Vec::new(), Vec::new());
            list.iter().for_each(|p| place(p).enter_alone(&mut forward, 3, &Paths::default()));
            list.iter().rev().for_each(|p| place(p).enter_alone(&mut backward, 3, &Paths::default()));
            prop_assert_eq!(&forward, &backward);
            let mut best: BTreeMap<u32, TokenPosition> = BTreeMap::new();
            for place in list.iter().map(place) {
                let slot = best.entry(place.sample).or_insert(place);
                if place.rank(slot).is_lt() { *slot = place; }
            }
            let mut best: Vec<_> = best.into_values().collect();
            best.sort_by(TokenPosition::rank);
            best.truncate(3);
            prop_assert_eq!(forward, best);
        }
    }
}
