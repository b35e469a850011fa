//! The output head of a decoder: the last norm and the unembedding, as part of a model or alone, for a look through it at
//! directions of the residual stream. Knows nothing of words.

use super::config::{ModelConfig, TextConfig};
use super::ops::{Compute, Linear, Matrix, Norm};
use super::weights::{Loader, Weights};
use crate::Result;

/// The last norm and the unembedding.
pub struct Head {
    norm: Norm,
    out: Linear,
    compute: Compute,
}

/// The prefix of a decoder's tensors, and the name of its embedding.
pub(super) fn embedding(loader: &Loader) -> (&'static str, String) {
    let prefixes = ["model.language_model.", "language_model.model.", "model."];
    let prefix = loader.prefix("embed_tokens.weight", &prefixes);
    (prefix, format!("{prefix}embed_tokens.weight"))
}

impl Head {
    pub(super) fn load(loader: &mut Loader, config: &TextConfig) -> Self {
        let (d, vocabulary) = (config.hidden_size, config.vocab_size);
        let (prefix, embedding) = embedding(loader);
        let out = match config.tied_head {
            true => embedding.trim_end_matches(".weight").into(),
            false => format!("{}lm_head", loader.prefix("lm_head.weight", &["", "language_model."])),
        };
        Self {
            norm: Norm::load(loader, &format!("{prefix}norm"), d, None, config.block.norm),
            out: Linear::load(loader, &out, [d, vocabulary], false),
            compute: loader.compute().clone(),
        }
    }

    /// Loads nothing of a model but its head.
    ///
    /// # Errors
    /// What is missing or misshapen in the checkpoint.
    pub fn open(config: &ModelConfig, weights: &Weights, compute: &Compute) -> Result<Self> {
        weights.load(compute, |loader| Self::load(loader, &config.text))
    }

    /// Logits before they are capped.
    ///
    /// # Shapes
    /// `[rows, hidden_size]` to `[rows, vocab_size]`.
    pub(super) fn forward(&self, x: Matrix) -> Matrix {
        self.out.forward(&self.norm.forward(x))
    }

    /// What each direction adds to every logit: `W (gain * direction)`. The norm's division is left out, since what else is
    /// in the stream decides it; every decoder here is normed by the root mean square, so nothing is subtracted.
    ///
    /// # Shapes
    /// `[rows, hidden_size]` to `[rows, vocab_size]`, row-major.
    ///
    /// # Errors
    /// A device that failed.
    pub fn lens(&self, directions: &[f32], width: usize) -> Result<Vec<f32>> {
        let lengths: Vec<f32> = directions.chunks_exact(width).map(root_mean_square).collect();
        let mut unit = directions.to_vec();
        // Of this length a row passes the norm's division unchanged.
        for (row, length) in unit.chunks_exact_mut(width).zip(&lengths).filter(|(_, length)| **length > 0.0) {
            row.iter_mut().for_each(|v| *v /= length);
        }
        let mut logits = self.forward(Matrix::new(unit, width, &self.compute)).into_values()?;
        let vocabulary = logits.len() / lengths.len().max(1);
        for (row, length) in logits.chunks_exact_mut(vocabulary.max(1)).zip(lengths) {
            row.iter_mut().for_each(|logit| *logit *= length);
        }
        Ok(logits)
    }
}

fn root_mean_square(row: &[f32]) -> f32 {
    (row.iter().map(|v| v * v).sum::<f32>() / row.len() as f32).sqrt()
}
