//! The output head of a decoder: the last norm and the unembedding matrix. It is used as a part of a model, or alone
//! for the logit lens. Knows nothing about the text of tokens.

use super::compute::Compute;
use super::config::{ModelConfig, TextConfig};
use super::matrix::Matrix;
use super::ops::{Linear, Norm};
use super::weights::{Loader, Weights};
use crate::Result;

/// The last norm and the unembedding matrix.
pub struct Head {
    norm: Norm,
    out: Linear,
    compute: Compute,
}

/// The names of the first and the last tensors of a decoder in a checkpoint.
pub(super) struct Names {
    /// The prefix of the decoder's tensors.
    pub prefix: &'static str,
    /// The name of the embedding matrix.
    pub embedding: String,
    /// The name of the unembedding matrix, without `.weight`.
    pub head: String,
}

impl Names {
    /// Determines the names. If the two matrices are `tied`, one of them may be missing, and the other serves as both.
    /// If both are present, each counts, as in `transformers`.
    pub fn find(loader: &Loader, tied: bool) -> Self {
        // The last three are those of models that were saved without their output head.
        const PREFIXES: [&str; 7] = [
            "model.language_model.",
            "language_model.model.",
            "model.text_model.",
            "model.",
            "",
            "language_model.",
            "text_model.",
        ];
        const EMBEDDING: &str = "embed_tokens.weight";
        const HEAD: &str = "lm_head";
        let (embedding_prefix, norm_prefix) =
            (loader.prefixed(EMBEDDING, &PREFIXES), loader.prefixed("norm.weight", &PREFIXES));
        let prefix = embedding_prefix.or(norm_prefix).unwrap_or(PREFIXES[0]);
        let head = loader.prefixed("lm_head.weight", &["", "language_model."]);
        let name = |prefix: &str| format!("{prefix}{HEAD}");
        let embedding = match head.filter(|_| tied && embedding_prefix.is_none()) {
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

    /// Loads only the output head of a model.
    ///
    /// # Errors
    /// A tensor is missing or has an unexpected shape.
    pub fn open(config: &ModelConfig, weights: &Weights, compute: &Compute) -> Result<Self> {
        weights.load(compute, |loader| Self::load(loader, &config.text))
    }

    /// The logits before they are capped.
    ///
    /// # Shapes
    /// `[rows, hidden_size]` to `[rows, vocab_size]`.
    pub(super) fn forward(&self, x: Matrix) -> Matrix {
        self.out.forward(&self.norm.forward(x))
    }

    /// The contribution of each direction to every logit: `W (gain * direction)`. The division by the norm is ignored,
    /// because it depends on the rest of the residual stream. Every supported decoder normalizes by the root mean
    /// square, so no mean is subtracted.
    ///
    /// # Shapes
    /// `[rows, hidden_size]` to `[rows, vocab_size]`, row-major.
    ///
    /// # Errors
    /// The device failed.
    pub fn direction_logits(&self, directions: &[f32], width: usize) -> Result<Vec<f32>> {
        let lengths: Vec<f32> = directions.chunks_exact(width).map(root_mean_square).collect();
        let mut unit = directions.to_vec();
        // The norm divides a row of this length by 1.
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
