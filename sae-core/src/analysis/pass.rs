//! One pass over a store: encodes it block by block and hands the sparse activations to whoever wants to see them.
//!
//! Everything that is computed from activations - evaluation, index, weights, scores - is an [`Observer`] of this one
//! pass, so that the expensive product is done once. Memory: one block, whatever the size of the store.

use crate::autoencoder::sparse::Sparse;
use crate::autoencoder::{Encoder, Weights};
use crate::store::{Store, TokenColumns};
use crate::{Error, Result};
use burn::tensor::Device;
use std::ops::Range;

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
    fn observe(&mut self, block: &Block) -> Result<()>;
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
    let order: Vec<usize> = (0..store.shards()).collect();
    run_over(store, &order, weights, device, observers, progress)
}

/// [`run`] over some of the shards, in the order given.
///
/// # Panics
/// If the store has no shard of a number.
pub fn run_over(
    store: &Store,
    shards: &[usize],
    weights: &Weights,
    device: &Device,
    observers: &mut [&mut dyn Observer],
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let d_in = store.manifest().d_in;
    if weights.d_in != d_in {
        let (hook, own) = (&store.manifest().hook, weights.d_in);
        return Err(Error::config(format!("the autoencoder reads width {own}, the activations of {hook} have {d_in}")));
    }
    let encoder = Encoder::new(weights, device);
    // Rows enough to keep every thread busy, 32 MiB of them at most.
    let height = ((1 << 23) / d_in).clamp(32, 4096);
    let mut done = 0;
    let mut hidden = Vec::new();
    for &number in shards {
        let shard = store.shard(number)?;
        let tokens = store.tokens(number)?;
        for start in (0..shard.rows()).step_by(height) {
            let rows = start..(start + height).min(shard.rows());
            hidden.clear();
            shard.read(rows.clone(), &mut hidden);
            if hidden.iter().any(|v| !v.is_finite()) {
                return Err(shard.error(format!("rows {rows:?} hold values that are not finite")));
            }
            let active = encoder.encode(&hidden)?;
            done += rows.len() as u64;
            let block = Block { tokens: &tokens, rows, shard: number, hidden: &hidden, active: &active };
            for observer in observers.iter_mut() {
                observer.observe(&block)?;
            }
            progress(done);
        }
    }
    Ok(())
}
