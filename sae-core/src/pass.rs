//! One pass over a store: encodes it block by block and hands the sparse activations to whoever wants to see them.
//!
//! Everything that is computed from activations - evaluation, index, weights, scores - is an [`Observer`] of this one
//! pass, so that the expensive product is done once. Memory: one block, whatever the size of the store.

use crate::sae::{Encoder, Weights};
use crate::store::{Store, TokenColumns};
use crate::{Error, Result};
use burn::tensor::Device;
use rayon::prelude::*;
use std::ops::Range;

/// Sparse rows: for every token the features with `z > 0`, ascending, and their activations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Row `r` owns entries `offsets[r]..offsets[r + 1]`.
    offsets: Vec<usize>,
    features: Vec<u32>,
    values: Vec<f32>,
}

impl Sparse {
    /// Keeps what is positive of dense rows of width `d_sae`.
    pub fn from_dense(dense: &[f32], d_sae: usize) -> Self {
        let rows: Vec<(Vec<u32>, Vec<f32>)> = dense
            .par_chunks(d_sae)
            .map(|row| row.iter().enumerate().filter(|(_, z)| **z > 0.0).map(|(k, z)| (k as u32, *z)).unzip())
            .collect();
        let mut sparse = Self { offsets: vec![0], ..Self::default() };
        for (features, values) in rows {
            sparse.features.extend(features);
            sparse.values.extend(values);
            sparse.offsets.push(sparse.features.len());
        }
        sparse
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Active features of a row, and their activations.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[row]..self.offsets[row + 1];
        (&self.features[range.clone()], &self.values[range])
    }
}

/// A block of consecutive token positions of one shard.
pub struct Block<'a> {
    /// Tokens of the whole shard.
    pub tokens: &'a TokenColumns,
    /// Which rows of the shard these are.
    pub rows: Range<usize>,
    /// Which shard.
    pub shard: usize,
    /// Hidden states, `[rows, d_in]`.
    pub hidden: &'a [f32],
    /// Activations of those rows.
    pub active: &'a Sparse,
}

impl Block<'_> {
    /// Rows of the block with their row in the shard: `(row in block, row in shard)`.
    pub fn positions(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        self.rows.clone().enumerate()
    }
}

/// Sees every block of a pass, in the order of the store.
pub trait Observer {
    /// Takes in a block.
    fn see(&mut self, block: &Block) -> Result<()>;
}

/// Runs a pass. `progress` is told the rows done so far.
///
/// # Errors
/// An autoencoder of another width than the store's, a file that cannot be trusted, values that are not finite.
pub fn run(
    store: &Store,
    weights: &Weights,
    device: &Device,
    observers: &mut [&mut dyn Observer],
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let d_in = store.manifest().d_in;
    if weights.d_in != d_in {
        let (hook, own) = (&store.manifest().hook, weights.d_in);
        return Err(Error::Config(format!("the autoencoder reads width {own}, the activations of {hook} have {d_in}")));
    }
    let encoder = Encoder::new(weights, device);
    // 64 MiB of dense activations a block, in rows that keep the product efficient.
    let height = ((1 << 24) / weights.d_sae).clamp(32, 4096);
    let mut done = 0;
    let mut hidden = Vec::new();
    for number in 0..store.shards() {
        let shard = store.shard(number)?;
        let tokens = store.tokens(number)?;
        for start in (0..shard.rows()).step_by(height) {
            let rows = start..(start + height).min(shard.rows());
            hidden.clear();
            shard.read(rows.clone(), &mut hidden);
            if hidden.iter().any(|v| !v.is_finite()) {
                return Err(shard.error(format!("rows {rows:?} hold values that are not finite")));
            }
            let dense = encoder.encode(&hidden, rows.len())?;
            let active = Sparse::from_dense(&dense, weights.d_sae);
            done += rows.len() as u64;
            let block = Block { tokens: &tokens, rows, shard: number, hidden: &hidden, active: &active };
            for observer in observers.iter_mut() {
                observer.see(&block)?;
            }
            progress(done);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sparse_rows_hold_what_is_positive(dense in prop::collection::vec(-1f32..1.0, 0..12).prop_map(|v| v.repeat(6))) {
            let d_sae = 6;
            let sparse = Sparse::from_dense(&dense, d_sae);
            prop_assert_eq!(sparse.rows(), dense.len() / d_sae);
            for (r, row) in dense.chunks(d_sae).enumerate() {
                let mut back = vec![0.0; d_sae];
                let (features, values) = sparse.row(r);
                features.iter().zip(values).for_each(|(k, z)| back[*k as usize] = *z);
                prop_assert_eq!(back, row.iter().map(|z| z.max(0.0)).collect::<Vec<_>>());
            }
        }
    }
}
