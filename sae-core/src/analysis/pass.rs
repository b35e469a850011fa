//! One pass over a store: encodes it block by block and shows the sparse activations to observers.
//!
//! Everything that is computed from activations - evaluation, index, weights, scores - is an [`Observer`] of this one
//! pass, so that the expensive product is done once. Memory: one block, whatever the size of the store.

use crate::autoencoder::sparse::Sparse;
use crate::autoencoder::{Encoder, Weights};
use crate::store::{Shard, Store, TokenColumns};
use crate::{Error, Result};
use burn::tensor::Device;
use std::ops::Range;
use std::sync::OnceLock;

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
    target: Target<'a>,
}

/// The states that are to be reconstructed, which are read when somebody asks for them.
enum Target<'a> {
    /// These.
    Given(&'a [f32]),
    /// Those of another hook.
    Stored { shard: &'a Shard, rows: OnceLock<Vec<f32>> },
}

impl<'a> Block<'a> {
    /// A block of states that are to be reconstructed from themselves.
    pub fn new(
        tokens: &'a TokenColumns,
        rows: Range<usize>,
        shard: usize,
        hidden: &'a [f32],
        active: &'a Sparse,
    ) -> Self {
        Self { tokens, rows, shard, hidden, active, target: Target::Given(hidden) }
    }

    /// The same block with what is to be reconstructed, `[rows, d_out]`, where that is not what was encoded.
    #[must_use]
    pub fn with_target(self, target: &'a [f32]) -> Self {
        Self { target: Target::Given(target), ..self }
    }

    /// What is to be reconstructed, `[rows, d_out]`: the hidden states, or those of the store's target if it has one.
    ///
    /// # Errors
    /// Values of the target that are not finite.
    pub fn target(&self) -> Result<&[f32]> {
        let (shard, rows) = match &self.target {
            Target::Given(target) => return Ok(target),
            Target::Stored { shard, rows } => (shard, rows),
        };
        let rows = rows.get_or_init(|| {
            let mut target = Vec::new();
            shard.read_target(self.rows.clone(), &mut target);
            target
        });
        if rows.iter().any(|v| !v.is_finite()) {
            return Err(shard.error(format!("rows {:?} of the target hold values that are not finite", self.rows)));
        }
        Ok(rows)
    }

    /// Rows of the block with their row in the shard: `(row in block, row in shard)`.
    pub fn positions(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        self.rows.clone().enumerate()
    }
}

/// Sees every block of a pass, in the order of the store.
///
/// ```
#[doc = include_str!("../example_store.md")]
/// use sae_core::Run;
/// use sae_core::analysis::pass::{self, Block, Observer};
/// use sae_core::autoencoder::Weights;
/// use sae_core::device::DeviceChoice;
/// use sae_core::store::Store;
///
/// /// The strongest activation of each feature.
/// struct Strongest(Vec<f32>);
///
/// impl Observer for Strongest {
///     fn observe(&mut self, block: &Block) -> sae_core::Result<()> {
///         for (feature, activation) in block.active.features().iter().zip(block.active.values()) {
///             let strongest = &mut self.0[*feature as usize];
///             *strongest = strongest.max(*activation);
///         }
///         Ok(())
///     }
/// }
///
/// # let folder = example_store()?;
/// # let path = folder.path();
/// # let directions: Vec<f32> = (0..32).map(|n| if n % 9 == 0 { 1.0 } else { 0.0 }).collect();
/// # let weights = Weights {
/// #     d_in: 8, d_sae: 4, w_enc: directions.clone(), b_enc: vec![0.0; 4], w_dec: directions, b_dec: vec![0.0; 8],
/// #     ..Weights::default()
/// # };
/// let store = Store::open(&Run::open(path)?, "layers.2")?;
/// let mut strongest = Strongest(vec![0.0; weights.d_sae]);
/// let mut rows = 0;
/// pass::run(&store, &weights, &DeviceChoice::Auto.open()?, &mut [&mut strongest], &mut |done| rows = done)?;
/// assert_eq!(rows, store.manifest().rows);
/// assert!(strongest.0.iter().all(|activation| *activation > 0.9));
/// # Ok::<(), sae_core::Error>(())
/// ```
pub trait Observer {
    /// Takes in a block.
    ///
    /// # Errors
    /// Whatever the observer finds wrong: it ends the pass.
    fn observe(&mut self, block: &Block) -> Result<()>;

    /// Takes note that a shard is over. What depends on the order of additions, such as a sum of floats, is summed up for each
    /// shard by itself, and shards are added in their order: the result is then the same whether one machine sees all shards or
    /// several machines see some each.
    ///
    /// # Errors
    /// Whatever the observer finds wrong: it ends the pass.
    fn end_shard(&mut self, shard: usize) -> Result<()> {
        let _ = shard;
        Ok(())
    }
}

/// Runs a pass over the whole store. `progress` is called with the number of rows done so far.
///
/// # Errors
/// An autoencoder of another width than the store's, a file that cannot be trusted, values that are not finite, or whatever an
/// observer returns.
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
        let (hook, expected) = (&store.manifest().hook, weights.d_in);
        let text = format!("the autoencoder reads width {expected}, the activations of {hook} have {d_in}");
        return Err(Error::config(text));
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
            let mut block = Block::new(&tokens, rows, number, &hidden, &active);
            if shard.has_target() {
                block.target = Target::Stored { shard: &shard, rows: OnceLock::new() };
            }
            for observer in observers.iter_mut() {
                observer.observe(&block)?;
            }
            progress(done);
        }
        for observer in observers.iter_mut() {
            observer.end_shard(number)?;
        }
    }
    Ok(())
}
