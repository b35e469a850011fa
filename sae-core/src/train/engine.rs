//! The interface of the engines that compute a training step: the sparse one on a CPU ([`super::cpu`]), the one in Burn's
//! autodiff on any device ([`super::autodiff`]), and the sparse one on a GPU (`super::gpu`).

use super::config::TrainConfig;
use super::params::Params;
use crate::error::{Cause, Hint, Setting};
use crate::vector;
use crate::{Error, Result};
use std::borrow::Cow;

/// The inputs of a step.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Scaled activations that are read, `[rows, d_in]`.
    pub x: &'a [f32],
    /// Scaled activations to be reconstructed, `[rows, d_out]`: those that are read, but for a transcoder.
    pub y: &'a [f32],
    /// Step, counted from 1.
    pub t: u64,
    /// Learning rate.
    pub lr: f64,
    /// Weight of the sparsity penalty.
    pub sparsity: f64,
    /// Ends of Matryoshka's prefixes, ascending, the whole dictionary last. Other architectures have only the latter.
    pub ends: &'a [usize],
    /// Features that were dead before this step, ascending.
    pub dead: &'a [u32],
}

/// The measurements of a step; means are over tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepStats {
    /// Squared error of the reconstruction, summed over dimensions.
    pub mse: f64,
    /// Squared errors of all reconstructions of the loss, including the whole one.
    pub errors: f64,
    /// Sparsity penalty, without its weight.
    pub penalty: f64,
    /// AuxK's loss, with its weight.
    pub aux: f64,
    /// Active features.
    pub l0: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Smallest activation that was selected from the batch, for architectures that select from a batch.
    pub least: Option<f32>,
    /// Whether each feature was active.
    pub fired: Vec<bool>,
    /// Squared error of each token.
    pub token_errors: Vec<f32>,
}

/// Everything that a step changes: enough to continue with the same bits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainState {
    /// The parameters.
    pub params: Params,
    /// Adam's first moment.
    pub first: Params,
    /// Adam's second moment.
    pub second: Params,
    /// Active features of a token in the last step, which decides whether the next is dense.
    pub l0: Option<f64>,
}

/// Computes steps. If the features are divided among ranks, all of them call every method, with the same arguments, and get the same
/// results, in which all features are.
pub trait Engine {
    /// Computes a step and applies it.
    ///
    /// # Errors
    /// A loss or gradient that is not finite (nothing has changed then), or a device that failed.
    fn step(&mut self, batch: &Batch) -> Result<StepStats>;

    /// Everything that steps change; copied only if it is not in host memory.
    ///
    /// # Errors
    /// A device that failed.
    fn state(&self) -> Result<Cow<'_, TrainState>>;

    /// Continues from a copy of the state.
    ///
    /// # Errors
    /// A device that failed.
    fn restore(&mut self, state: TrainState) -> Result<()>;
}

/// If more than one in this many features is active, dense products are faster than the sparse step. Measured on a CPU
/// (BENCHMARKS.md), not on a GPU.
const CROSSOVER: usize = 10;

/// Whether the sparse step is the faster one after a step with this many active features per token.
pub(super) fn is_sparse(l0: Option<f64>, d_sae: usize) -> bool {
    l0.is_some_and(|l0| l0 * CROSSOVER as f64 <= d_sae as f64)
}

impl StepStats {
    /// `errors + sparsity * penalty + aux`
    pub fn loss(&self, sparsity: f64) -> f64 {
        self.errors + sparsity * self.penalty + self.aux
    }
}

/// AuxK's weight of the mean squared distance between the reconstruction by dead features and the error that they learn from,
/// `[rows, d_out]`: see `TrainConfig::aux_relative`.
pub(super) fn aux_weight(config: &TrainConfig, k: usize, dead: usize, error: &[f32], d_out: usize) -> f64 {
    if config.aux_relative {
        (error.len() / d_out) as f64 / total_variance(error, d_out)
    } else {
        (dead as f64 / k as f64).min(1.0)
    }
}

/// `sum |x - mean|^2` over rows `[rows, width]`.
pub(super) fn total_variance(rows: &[f32], width: usize) -> f64 {
    let n = (rows.len() / width) as f64;
    let (mut sums, mut squares) = (vec![0f64; width], 0f64);
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        squares += f64::from(vector::norm_sq(row));
    }
    (squares - sums.iter().map(|s| s * s).sum::<f64>() / n).max(f64::MIN_POSITIVE)
}

/// Rejects a loss that is not finite.
pub(super) fn finite(outcome: &StepStats, batch: &Batch) -> Result<()> {
    let loss = outcome.loss(batch.sparsity);
    if loss.is_finite() { Ok(()) } else { Err(diverged("the loss", loss, batch)) }
}

/// The factor for a gradient of this norm that keeps it within the norm that the configuration allows.
///
/// # Errors
/// The norm, and so the gradient, is not finite. This is checked even without clipping, because one step along such a
/// gradient would ruin every parameter, and the next checkpoint would replace the last good one.
pub(super) fn clipped(config: &TrainConfig, norm: f64, batch: &Batch) -> Result<f64> {
    if !norm.is_finite() {
        return Err(diverged("the norm of the gradient", norm, batch));
    }
    Ok(if config.clip > 0.0 { (config.clip / (norm + 1e-6)).min(1.0) } else { 1.0 })
}

fn diverged(what: &str, value: f64, batch: &Batch) -> Error {
    let text = format!("{what} is {value} at step {}, with learning rate {}", batch.t - 1, batch.lr);
    Error::config(Cause::with_hint(text, Hint::Lower(Setting::LearningRate)))
}
