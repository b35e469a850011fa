//! How well an autoencoder or a crosscoder reconstructs the states of each model.

use crate::unknown;
use sae_core::analysis::pass::{Block, Observer};
use sae_core::autoencoder::Weights;
use sae_core::store::PositionFilter;
use serde::{Deserialize, Serialize};

/// How well an autoencoder or a crosscoder reconstructs the states of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelFit {
    /// The checkpoint.
    pub model: String,
    /// The share of the variance of its states that is unexplained, on the positions of the training.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub fvu: f64,
}

/// Sums of errors and of variances for each model.
pub(super) struct Fits<'a> {
    weights: &'a Weights,
    filter: PositionFilter,
    positions: f64,
    errors: Vec<f64>,
    squares: Vec<f64>,
    /// `[d_in]`
    sums: Vec<f64>,
}

impl<'a> Fits<'a> {
    pub fn new(weights: &'a Weights, models: usize, filter: PositionFilter) -> Self {
        let zeros = vec![0.0; models];
        Self { weights, filter, positions: 0.0, errors: zeros.clone(), squares: zeros, sums: vec![0.0; weights.d_in] }
    }

    /// The share of each model's variance that is unexplained.
    pub fn fvu(&self) -> Vec<f64> {
        let width = self.sums.len() / self.errors.len();
        let explained =
            self.sums.chunks_exact(width).map(|sums| sums.iter().map(|s| s * s / self.positions).sum::<f64>());
        let parts = self.errors.iter().zip(&self.squares).zip(explained);
        parts.map(|((error, squares), mean)| error / (squares - mean)).collect()
    }
}

impl Observer for Fits<'_> {
    fn observe(&mut self, block: &Block) -> sae_core::Result<()> {
        let (d, width) = (self.sums.len(), self.sums.len() / self.errors.len());
        let mut hat = vec![0f32; d];
        for (r, row) in block.positions() {
            let x = &block.hidden[r * d..(r + 1) * d];
            if self.filter.reasons(block.tokens.special[row], block.tokens.position[row], x) != [false; 3] {
                continue;
            }
            let (features, values) = block.active.row(r);
            self.weights.decode(x, features, values, &mut hat);
            self.positions += 1.0;
            self.sums.iter_mut().zip(x).for_each(|(sum, v)| *sum += f64::from(*v));
            let blocks = x.chunks_exact(width).zip(hat.chunks_exact(width));
            for ((x, hat), (error, squares)) in blocks.zip(self.errors.iter_mut().zip(&mut self.squares)) {
                for (x, hat) in x.iter().zip(hat) {
                    *error += f64::from(x - hat).powi(2);
                    *squares += f64::from(*x).powi(2);
                }
            }
        }
        Ok(())
    }
}
