//! The median norm of token positions, from a histogram of fixed size whose bins are at most 0.03 % wide. Its memory does not
//! depend on the size of the store.

use crate::Result;
use crate::store::Store;
use crate::vector::norm_sq;
use rayon::prelude::*;

/// The bits of positive `f32` numbers are in the order of the numbers. Numbers that differ only in this many of the lowest bits
/// share a bin.
const FINE: u32 = 12;

/// Counts of norms.
#[derive(Clone)]
pub struct Norms {
    counts: Vec<u64>,
}

impl Default for Norms {
    fn default() -> Self {
        Self { counts: vec![0; 1 << (31 - FINE)] }
    }
}

impl Norms {
    /// Counts all rows of a store, separately for the block of each of its models.
    ///
    /// # Errors
    /// A shard cannot be read.
    pub fn from_store(store: &Store) -> Result<Vec<Self>> {
        let (d, mut norms) = (store.manifest().d_in, vec![Self::default(); store.models()]);
        let width = d / store.models();
        let height = ((1 << 22) / d).max(1);
        let mut hidden = Vec::new();
        for number in 0..store.shards() {
            let shard = store.shard(number)?;
            for start in (0..shard.rows()).step_by(height) {
                hidden.clear();
                shard.read(start..(start + height).min(shard.rows()), &mut hidden);
                let block_norms: Vec<f32> = hidden.par_chunks_exact(width).map(|block| norm_sq(block).sqrt()).collect();
                for row in block_norms.chunks_exact(norms.len()) {
                    norms.iter_mut().zip(row).for_each(|(norms, norm)| norms.add(*norm));
                }
            }
        }
        Ok(norms)
    }

    /// Counts a norm.
    pub fn add(&mut self, norm: f32) {
        self.counts[(norm.abs().to_bits() >> FINE) as usize] += 1;
    }

    /// Adds the counts of another.
    pub fn join(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }

    /// The median; NaN of no norms.
    pub fn median(&self) -> f64 {
        let half = self.counts.iter().sum::<u64>().div_ceil(2);
        let mut below = 0;
        let reaches_half = |count: &u64| {
            below += count;
            below >= half && half > 0
        };
        self.counts.iter().position(reaches_half).map_or(f64::NAN, |bin| {
            let middle = 1 << (FINE - 1);
            f32::from_bits((bin as u32) << FINE | middle) as f64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_few_and_of_wild_norms_is_close() {
        let mut norms = Norms::default();
        assert!(norms.median().is_nan());
        for norm in [3.0, 1e30, 0.0, 121.5, 25_054.0] {
            norms.add(norm);
        }
        assert!((norms.median() / 121.5 - 1.0).abs() < 3e-4, "{}", norms.median());
    }
}
