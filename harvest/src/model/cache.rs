//! The keys and values of positions that a model has read, as a stack: what follows them is computed without computing them
//! again, and the stack can be cut back to where another text begins. They stay where the model computes. Runs nothing.

use super::matrix::Matrix;
use super::ops::Continued;
use std::ops::Range;

/// Keys and values of the first positions of one sample, for [`Model::hidden_after`](super::Model::hidden_after) and
/// [`Model::next_after`](super::Model::next_after).
///
/// A new cache is empty. A pass over a sample adds the positions that the cache lacks.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    /// The tokens of the sample that went through the model last.
    ids: Vec<u32>,
    /// What is kept of each block. A pass that ends early leaves later blocks with fewer positions.
    blocks: Vec<Kept>,
    /// The length of the sample's prefix, whose positions depend on each other.
    prefix: usize,
    /// The frequencies by which kept keys were rotated, of each of the decoder's rotary embeddings.
    frequencies: Vec<Vec<(f32, usize)>>,
}

/// The keys and values of one block.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// Number of positions.
    positions: usize,
    /// Keys and values, `[positions, kv_heads * head_dim]` each. `None` before the first position.
    keys_and_values: Option<[Matrix; 2]>,
}

impl Kept {
    fn truncate(&mut self, positions: usize) {
        if positions < self.positions {
            match &mut self.keys_and_values {
                Some(kept) if positions > 0 => kept.iter_mut().for_each(|kept| kept.truncate(positions)),
                kept => *kept = None,
            }
            self.positions = positions;
        }
    }
}

impl KvCache {
    /// The tokens whose keys and values are kept.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Forgets all positions from number `positions` on.
    pub fn truncate(&mut self, positions: usize) {
        self.ids.truncate(positions);
        self.blocks.iter_mut().for_each(|kept| kept.truncate(positions));
    }

    /// Forgets everything unless keys are rotated by these frequencies. Frequencies of some models depend on the length of
    /// the sample.
    pub(super) fn rotate_by(&mut self, frequencies: Vec<Vec<(f32, usize)>>) {
        if self.frequencies != frequencies {
            self.truncate(0);
            self.frequencies = frequencies;
        }
    }

    /// Forgets everything unless the sample had a prefix of this length.
    pub(super) fn begin_with(&mut self, prefix: usize) {
        if self.prefix != prefix {
            self.truncate(0);
            self.prefix = prefix;
        }
    }

    /// The number of positions that all of these blocks have kept. A part of a prefix is of no use.
    pub(super) fn kept(&self, blocks: Range<usize>) -> usize {
        let kept = blocks.map(|block| self.blocks.get(block).map_or(0, |kept| kept.positions)).min().unwrap_or(0);
        if kept < self.prefix { 0 } else { kept }
    }

    /// Says which tokens the passes to come compute.
    pub(super) fn read(&mut self, ids: &[u32]) {
        self.ids.clear();
        self.ids.extend_from_slice(ids);
    }

    /// What a block has kept of the first `start` positions, to which the next `rows` are added.
    pub(super) fn continued(&mut self, block: usize, start: usize, rows: usize) -> Continued<'_> {
        if self.blocks.len() <= block {
            self.blocks.resize_with(block + 1, Kept::default);
        }
        let kept = &mut self.blocks[block];
        kept.truncate(start);
        kept.positions = start + rows;
        Continued { keys_and_values: &mut kept.keys_and_values, rows }
    }
}
