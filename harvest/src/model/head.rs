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

/// What a checkpoint calls the ends of its decoder.
pub(super) struct Names {
    /// In front of the decoder's tensors.
    pub prefix: &'static str,
    /// The embedding.
    pub embedding: String,
    /// The unembedding, without `.weight`.
    pub head: String,
}

impl Names {
    /// Looks for them. If the two are `tied`, one serves as the other where that is left out; where both are written
    /// out, each counts, as in `transformers`.
    pub fn find(loader: &Loader, tied: bool) -> Self {
        // The last two are those of models that were saved without their head.
        const PREFIXES: [&str; 5] = ["model.language_model.", "language_model.model.", "model.", "", "language_model."];
        const EMBEDDING: &str = "embed_tokens.weight";
        const HEAD: &str = "lm_head";
        let (embedded, normed) = (loader.prefixed(EMBEDDING, &PREFIXES), loader.prefixed("norm.weight", &PREFIXES));
        let prefix = embedded.or(normed).unwrap_or(PREFIXES[0]);
        let head = loader.prefixed("lm_head.weight", &["", "language_model."]);
        let name = |prefix: &str| format!("{prefix}{HEAD}");
        let embedding = match head.filter(|_| tied && embedded.is_none()) {
            Some(head) => format!("{}.weight", name(head)),
            None => format!("{prefix}{EMBEDDING}"),
        };
        let head = match head {
            None if tied => embedding.trim_end_matches(".weight").to_owned(),
            head => name(head.unwrap_or_default()),
        };
        Self { prefix, embedding, head }
    }
}

impl Head {
    pub(super) fn load(loader: &mut Loader, config: &TextConfig) -> Self {
        let (d, vocabulary) = (config.hidden_size, config.vocab_size);
        let Names { prefix, head, .. } = Names::find(loader, config.tied_head);
        Self {
            norm: Norm::load(loader, &format!("{prefix}norm"), d, None, config.block.norm),
            out: Linear::load(loader, &head, [d, vocabulary], false),
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
