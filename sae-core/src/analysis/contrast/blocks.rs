//! The active features of participants, feature by feature: blocks of participants, each with the list of those that have
//! a feature.
//!
//! Sums over the samples of a feature stay in registers while its list is read, and what is added (a row of values for each
//! participant) stays in the cache, since a block has few participants. Sets of samples are transposed into such lists
//! whenever they are needed: lists of everyone would take twice the memory of the packed sets.

use super::design::Design;
use crate::analysis::feature_sets::{FeatureSets, Measure};
use rayon::prelude::*;
use std::ops::Range;

/// Bounds of a block: its participants, whose rows of eight values take 256 KiB, and its active features, 8 MiB of numbers.
/// Blocks are small in tests, so that clusters lie in several of them.
const PARTICIPANTS: usize = if cfg!(test) { 16 } else { 4096 };
const ACTIVE: usize = 1 << 22;
/// Number of blocks that are transposed at the same time.
const BLOCKS: usize = 8;

/// Consecutive participants of a design.
pub(super) struct Block {
    /// The participants.
    pub range: Range<usize>,
    /// Where the list of each feature begins, and the end of the last one.
    first: Vec<u32>,
    /// The lists: numbers of participants, counted from the first of the block, in ascending order.
    numbers: Vec<u16>,
    /// What is measured of them, unless it is 1.
    strengths: Vec<f32>,
}

impl Block {
    /// Transposes the sets of some participants.
    fn new(design: &Design, sets: &FeatureSets, range: Range<usize>) -> Self {
        let samples = &design.samples[range.clone()];
        // The place behind each feature has its count, then the beginning of its list, and in the end that of the next list.
        let mut first = vec![0u32; sets.d_sae() + 1];
        for sample in samples {
            sets.features(*sample as usize).for_each(|feature| first[feature as usize + 1] += 1);
        }
        let mut active = 0;
        for count in &mut first[1..] {
            active += std::mem::replace(count, active);
        }
        let mut numbers = vec![0u16; active as usize];
        let mut strengths = Vec::new();
        if sets.measure() == Measure::Active {
            for (n, sample) in (0..).zip(samples) {
                for feature in sets.features(*sample as usize) {
                    let place = &mut first[feature as usize + 1];
                    numbers[*place as usize] = n;
                    *place += 1;
                }
            }
        } else {
            strengths = vec![0.0; active as usize];
            for (n, sample) in (0..).zip(samples) {
                for (feature, y) in sets.measured(*sample as usize) {
                    let place = &mut first[feature as usize + 1];
                    (numbers[*place as usize], strengths[*place as usize]) = (n, y as f32);
                    *place += 1;
                }
            }
        }
        Self { range, first, numbers, strengths }
    }

    /// The participants that have a feature.
    #[inline(always)]
    pub fn list(&self, feature: usize) -> List<'_> {
        let places = self.first[feature] as usize..self.first[feature + 1] as usize;
        List { strengths: self.strengths.get(places.clone()), numbers: &self.numbers[places] }
    }
}

/// The participants of a block that have a feature.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    /// Their numbers, counted from the first of the block.
    pub numbers: &'a [u16],
    strengths: Option<&'a [f32]>,
}

impl List<'_> {
    /// What is measured of participant `k` of the list.
    #[inline(always)]
    pub fn measured(&self, k: usize) -> f64 {
        self.strengths.map_or(1.0, |strengths| f64::from(strengths[k]))
    }
}

/// Calls a function with a few blocks at a time, in the order of the design.
pub(super) fn for_each_group(design: &Design, sets: &FeatureSets, mut visit: impl FnMut(&[Block])) {
    for ranges in divide(design, sets).chunks(BLOCKS) {
        let blocks: Vec<Block> = ranges.par_iter().map(|range| Block::new(design, sets, range.clone())).collect();
        visit(&blocks);
    }
}

/// Ranges of participants within the bounds of a block; one participant may have more active features.
fn divide(design: &Design, sets: &FeatureSets) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut active) = (0, 0);
    for (n, sample) in design.samples.iter().enumerate() {
        let own = sets.count(*sample as usize);
        if n > start && (n - start == PARTICIPANTS || active + own > ACTIVE) {
            ranges.push(start..n);
            (start, active) = (n, 0);
        }
        active += own;
    }
    if start < design.samples.len() {
        ranges.push(start..design.samples.len());
    }
    ranges
}
