//! The keys and values of positions that a model has read, as a stack: what follows them is computed without computing them
//! again, and the stack can be cut back to where another text begins. Exists on the CPU alone; runs nothing.

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
    /// The frequencies by which kept keys were rotated, of each of the decoder's rotary embeddings.
    frequencies: Vec<Vec<(f32, usize)>>,
}

/// The keys and values of one block.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// Number of positions.
    positions: usize,
    /// `[positions, kv_heads * head_dim]`.
    keys: Vec<f32>,
    /// `[positions, kv_heads * head_dim]`.
    values: Vec<f32>,
}

impl Kept {
    fn truncate(&mut self, positions: usize) {
        if positions < self.positions {
            let width = self.keys.len() / self.positions;
            self.keys.truncate(positions * width);
            self.values.truncate(positions * width);
            self.positions = positions;
        }
    }
}

impl KvCache {
    /// The tokens whose keys and values are kept.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Forgets all positions from number `positions` on. The memory stays for the next ones.
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

    /// The number of positions that all of these blocks have kept.
    pub(super) fn kept(&self, blocks: Range<usize>) -> usize {
        blocks.map(|block| self.blocks.get(block).map_or(0, |kept| kept.positions)).min().unwrap_or(0)
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
        Continued { keys: &mut kept.keys, values: &mut kept.values, rows }
    }
}
