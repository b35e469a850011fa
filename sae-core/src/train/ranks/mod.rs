//! Training one autoencoder with several processes: its features are divided among them.
//!
//! Each process, a *rank*, holds the rows of consecutive features in the encoder, the decoder, and the moments of both, and reads all
//! activations. A step exchanges the strongest pre-activations of every token, from which each rank sees which of its own are active;
//! the sum of the reconstructions; the numbers of the features that were active; and sums of single numbers. What all ranks need (the
//! bias of the decoder, the schedule, which features are dead) they compute from the same numbers. So a checkpoint has the
//! layout of any other, and may be continued with another number of ranks.
//!
//! With several ranks sums have other orders: results agree with those of one process within rounding. On processors of one kind
//! they are the same bytes each time for the same number of ranks.

mod meeting;
mod star;
#[cfg(test)]
mod tests;

pub use meeting::Meeting;
pub use star::Star;

use crate::Result;

/// What processes that train one autoencoder say to each other. Each method is called by all ranks, in the same order, and
/// returns the same bytes on all of them.
pub trait Ranks: Send + Sync {
    /// Which of the ranks this is, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn count(&self) -> usize;

    /// Replaces the values by their sums over all ranks, added in the order of the ranks.
    ///
    /// # Errors
    /// A rank that is lost.
    fn sum(&self, values: &mut [f32]) -> Result<()>;

    /// What every rank has, in their order.
    ///
    /// # Errors
    /// A rank that is lost.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;
}

/// A process that has all features.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn sum(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![own.to_vec()])
    }
}
