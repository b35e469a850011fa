//! The properties of an autoencoder that people ask for first, computed from its weights.

use super::fold;
use super::saved::{ModelStream, Saved};
use crate::autoencoder::{Activation, Architecture, InputNorm};
use serde::Serialize;

/// Smallest, mean and largest of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// The smallest.
    pub min: f32,
    /// Their mean.
    pub mean: f32,
    /// The largest.
    pub max: f32,
}

/// The properties of an autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Width of the states that are read.
    pub d_in: usize,
    /// Width of reconstructions; `d_in` unless it is a transcoder.
    pub d_out: usize,
    /// Number of features.
    pub d_sae: usize,
    /// How it was trained.
    pub architecture: Architecture,
    /// `relu`, `topk`, `jumprelu` or `gated`: how it is used.
    pub activation: &'static str,
    /// Active features per token, for TopK.
    pub k: Option<usize>,
    /// Thresholds, for JumpReLU.
    pub threshold: Option<Range>,
    /// How inputs are normalized.
    pub normalization: InputNorm,
    /// Whether it has a skip connection.
    pub skip: bool,
    /// Norms of the decoder directions.
    pub decoder_norms: Range,
    /// Norm of the decoder's bias.
    pub b_dec_norm: f32,
    /// Checkpoint of the model; empty if the file does not say.
    pub model: String,
    /// Models whose states a crosscoder reads, `d_in` together; empty for other autoencoders.
    pub models: Vec<ModelStream>,
    /// Hook of the model; empty if the file does not say.
    pub hook: String,
    /// The hook whose states a transcoder reconstructs; empty for other autoencoders, or if the file does not say.
    pub target: String,
    /// What the user should know about how the file was read.
    pub notes: Vec<String>,
}

impl Summary {
    /// Computes the properties of an autoencoder.
    pub fn new(saved: &Saved) -> Self {
        let weights = &saved.weights;
        let (k, threshold) = match &weights.activation {
            Activation::TopK { k } => (Some(*k), None),
            Activation::JumpRelu { threshold } => (None, Some(Range::from_values(threshold))),
            Activation::Relu | Activation::Gated { .. } => (None, None),
        };
        Self {
            d_in: weights.d_in,
            d_out: weights.d_out(),
            d_sae: weights.d_sae,
            architecture: saved.architecture,
            activation: weights.activation.name(),
            k,
            threshold,
            normalization: weights.normalization,
            skip: weights.skip.is_some(),
            decoder_norms: Range::from_values(&fold::decoder_norms(weights)),
            b_dec_norm: weights.b_dec.iter().map(|v| v * v).sum::<f32>().sqrt(),
            model: saved.origin.model.clone(),
            models: saved.origin.models.clone(),
            hook: saved.origin.hook.clone(),
            target: saved.origin.target.clone(),
            notes: saved.origin.notes.clone(),
        }
    }
}

impl Range {
    fn from_values(values: &[f32]) -> Self {
        let sum: f64 = values.iter().map(|v| *v as f64).sum();
        Self {
            min: values.iter().copied().fold(f32::INFINITY, f32::min),
            mean: (sum / values.len() as f64) as f32,
            max: values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        }
    }
}
