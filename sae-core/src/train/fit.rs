//! Estimates before a training starts whether it fits into a GPU's memory, from the arrays that an engine needs at the same time.

use super::config::TrainConfig;
use crate::error::{Cause, Hint, Setting};
use crate::{Error, Result};

/// Tokens of a block in which the sparse engine of a GPU groups entries by feature.
pub const GROUPING_BLOCK: usize = 64;

/// Bytes that a training needs at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Weights in `f32`, and the encoder in bf16 if the engine is sparse.
    pub weights: u64,
    /// Adam's two moments.
    pub moments: u64,
    /// Gradients of the weights.
    pub gradient: u64,
    /// Activations, residuals and chosen features of a batch.
    pub batch: u64,
    /// Pre-activations: of some tokens at a time if the engine is sparse, of all tokens otherwise.
    pub products: u64,
}

impl Needs {
    /// The memory of the sparse engine for the TopK family, for `features` on this device; `budget` limits the product of some tokens.
    pub fn sparse(config: &TrainConfig, d_in: usize, features: usize, budget: usize) -> Self {
        let (d, f, rows) = (d_in as u64, features as u64, config.batch as u64);
        let matrix = 4 * d * f;
        let slots = (config.prefixes.len().max(2) as u64).max(config.random_prefixes as u64) + 1;
        let slots = if config.arch == crate::autoencoder::Architecture::Matryoshka { slots } else { 1 };
        let aux = if config.aux_loss_coefficient > 0.0 { 2 * config.aux_k(d_in) as u64 + 16 } else { 0 };
        // Candidates and selected features; a selection from a batch has more candidates per token.
        let entries = 16 * (4 * config.k as u64 + 16 + aux).min(f);
        // How many entries each feature has in each block of tokens.
        let counts = 4 * f * rows.div_ceil(GROUPING_BLOCK as u64);
        Self {
            weights: 2 * matrix + matrix / 2,
            moments: 4 * matrix,
            gradient: 2 * matrix,
            batch: rows * (d * (4 + 4 + 2 + 4 * slots) + entries) + rows * d * 4 * u64::from(aux > 0) + counts,
            products: (budget as u64).clamp(4 * 128 * f, (4 * rows * f).max(4 * 128 * f)),
        }
    }

    /// The memory of the dense engine: Burn's autodiff keeps about six arrays of the size of the pre-activations, and one
    /// copy of a matrix while it is updated.
    pub fn dense(config: &TrainConfig, d_in: usize) -> Self {
        let (d, f, rows) = (d_in as u64, config.d_sae(d_in) as u64, config.batch as u64);
        let matrix = 4 * d * f;
        Self {
            weights: 3 * matrix,
            moments: 4 * matrix,
            gradient: 2 * matrix,
            batch: 4 * rows * d * 4,
            products: 6 * 4 * rows * f,
        }
    }

    fn total(&self) -> u64 {
        self.weights + self.moments + self.gradient + self.batch + self.products
    }

    /// Checks that everything fits into `free` bytes, of which a tenth is reserved for memory that is not counted.
    ///
    /// # Errors
    /// Too little memory; the error has the numbers and a hint.
    pub fn check(&self, free: u64) -> Result<()> {
        if self.total() <= free - free / 10 {
            return Ok(());
        }
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let parameters = self.weights + self.moments + self.gradient;
        let setting = if parameters > free - free / 10 { Setting::Features } else { Setting::Batch };
        let text = format!(
            "training needs {:.1} GiB and the GPU has {:.1} free: weights {:.1}, moments {:.1}, gradient {:.1}, batch {:.1}, \
             products {:.1}",
            gib(self.total()),
            gib(free),
            gib(self.weights),
            gib(self.moments),
            gib(self.gradient),
            gib(self.batch),
            gib(self.products),
        );
        Err(Error::device(Cause::with_hint(text, Hint::Lower(setting))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoencoder::Architecture;

    #[test]
    fn a_training_that_does_not_fit_is_rejected_with_numbers_and_the_right_hint() {
        let config =
            TrainConfig { features: 65_536, batch: 16_384, ..TrainConfig::for_architecture(Architecture::TopK) };
        let needs = Needs::sparse(&config, 4096, 65_536, 1 << 30);
        // Eight and a half matrices of a GiB.
        assert_eq!(needs.weights + needs.moments + needs.gradient, (17 << 30) / 2);
        assert_eq!(needs.products, 1 << 30);
        needs.check(80 << 30).unwrap();
        let error = needs.check(8 << 30).unwrap_err();
        assert!(error.to_string().contains("8.0 free"), "{error}");
        assert_eq!(error.hint(), Some(Hint::Lower(Setting::Features)));
        assert_eq!(needs.check(10 << 30).unwrap_err().hint(), Some(Hint::Lower(Setting::Batch)));
        let half = Needs::sparse(&config, 4096, 32_768, 1 << 30);
        assert_eq!((half.weights, half.moments, half.products), (needs.weights / 2, needs.moments / 2, needs.products));
        let dense = Needs::dense(&config, 4096);
        assert!(dense.products > 20 * needs.products && dense.check(24 << 30).is_err());
    }

    #[test]
    fn products_of_a_small_batch_are_no_larger_than_the_batch() {
        let config =
            TrainConfig { features: 1024, batch: 256, ..TrainConfig::for_architecture(Architecture::BatchTopK) };
        assert_eq!(Needs::sparse(&config, 64, 1024, 1 << 30).products, 4 * 256 * 1024);
    }
}
