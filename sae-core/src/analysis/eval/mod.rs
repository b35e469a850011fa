//! How well an autoencoder reconstructs the activations of its store, and a transcoder those of the store's target, separately for
//! text and image tokens. Needs no model.
//! How the predictions of a model change with the reconstruction is summed up by [`Losses`] from likelihoods that the caller
//! computes.
//!
//! `FVU` is the squared error over the variance of the same positions about their own mean, both summed in `f64` over the
//! whole store. Explained variance is `1 - FVU`: what SAELens 6 calls `explained_variance`, across batches. Its
//! `explained_variance_legacy` - the mean over tokens of `1 - error / squared distance from the batch's mean` - is given
//! under that name too, with the blocks of the pass as batches. A few tokens near the mean can dominate it.

mod density;
mod losses;
mod ratio;
mod sums;

pub use density::Density;
pub use losses::{LossReport, Losses, Variant};
pub use ratio::{Estimate, difference_of_ratios, ratio_of_sums};

use crate::analysis::pass::{Block, Observer};
use crate::autoencoder::Weights;
use crate::store::sample::Modality;
use crate::store::{ExcludedCounts, PositionFilter};
use crate::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use sums::{Mean, Measured, Sums};

/// The older explained variance is not computed for blocks with fewer positions, whose mean would mean little.
const SMALLEST_BATCH: usize = 16;

/// What was measured over some token positions. Where there are none, it is not a number (`null` in JSON).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Token positions that were measured.
    pub tokens: u64,
    /// Token positions that were left out.
    pub excluded: ExcludedCounts,
    /// Active features per token.
    pub l0: f64,
    /// Mean of `sum_k z_k`.
    pub l1: f64,
    /// Mean squared error of a token, summed over dimensions.
    pub mse: f64,
    /// Fraction of variance unexplained.
    pub fvu: f64,
    /// `1 - fvu`
    pub explained_variance: f64,
    /// SAELens's older definition: see above.
    pub explained_variance_legacy: f64,
    /// Mean cosine of the reconstruction and what is reconstructed: the input, or a transcoder's target. So in the next fields.
    pub cosine: f64,
    /// Mean norm of what is reconstructed.
    pub mean_norm: f64,
    /// Median norm of what is reconstructed, to 0.03 %.
    pub median_norm: f64,
    /// Mean norm of the reconstruction.
    pub mean_norm_reconstruction: f64,
    /// Mean norm of the reconstruction over the mean norm of what is reconstructed.
    pub relative_norm: f64,
    /// Mean over tokens of the two norms' ratio.
    pub mean_norm_ratio: f64,
    /// `mean |x_hat|^2 / mean x x_hat`: below 1 where reconstructions shrink (Rajamanoharan et al. 2024a, eq. 10).
    pub reconstruction_bias: f64,
    /// Share of features that fire nowhere here.
    pub dead: f64,
    /// How often the others fire.
    pub density: Density,
}

/// Evaluations by modality, and of all positions together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// All positions.
    pub all: Evaluation,
    /// Each modality that occurs.
    pub by_modality: BTreeMap<Modality, Evaluation>,
}

/// How often a feature fires, for tables of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// Share of positions.
    pub density: f64,
    /// Mean number of positions in the samples in which it fires at all.
    pub per_sample: f64,
}

/// Observes a pass and evaluates the autoencoder on it.
pub struct Evaluator<'a> {
    weights: &'a Weights,
    exclusion: PositionFilter,
    sums: BTreeMap<Modality, Sums>,
    /// The older explained variance, about the mean of all modalities.
    legacy: Mean,
    /// For each feature, the last sample in which it fired, and the number of such samples.
    samples: Vec<(Option<u32>, u64)>,
}

impl<'a> Evaluator<'a> {
    /// An evaluator of these weights on all positions.
    pub fn new(weights: &'a Weights) -> Self {
        Self::without(weights, PositionFilter::default())
    }

    /// An evaluator that leaves positions out.
    pub fn without(weights: &'a Weights, exclusion: PositionFilter) -> Self {
        let samples = vec![(None, 0); weights.d_sae];
        Self { weights, exclusion, sums: BTreeMap::new(), legacy: Mean::default(), samples }
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        let by_modality = self.sums.iter().map(|(m, s)| (*m, s.evaluation())).collect();
        Report { all: self.all().evaluation(), by_modality }
    }

    /// How often each feature fires, on positions of any modality.
    pub fn firing(&self) -> Vec<Firing> {
        let all = self.all();
        let (fires, tokens) = all.fires();
        let firing = |(fires, (_, samples)): (&u64, &(Option<u32>, u64))| Firing {
            density: *fires as f64 / tokens as f64,
            per_sample: *fires as f64 / (*samples).max(1) as f64,
        };
        fires.iter().zip(&self.samples).map(firing).collect()
    }

    /// The mean of what is reconstructed over the positions seen so far, `[d_out]`.
    pub fn mean(&self) -> Vec<f32> {
        self.all().mean()
    }

    fn all(&self) -> Sums {
        let mut all = Sums::new(self.weights);
        all.legacy = self.legacy;
        self.sums.values().for_each(|s| all.join(s));
        all
    }

    /// SAELens's older explained variance of each row of a batch, about the mean of the batch.
    fn legacy(&self, target: &[f32], rows: &[(usize, Measured)]) -> Vec<f64> {
        let d = self.weights.d_out();
        if rows.len() < SMALLEST_BATCH {
            return Vec::new();
        }
        let mut mean = vec![0f64; d];
        for (r, _) in rows {
            mean.iter_mut().zip(&target[r * d..(r + 1) * d]).for_each(|(m, x)| *m += *x as f64);
        }
        mean.iter_mut().for_each(|m| *m /= rows.len() as f64);
        let explained = |(r, measured): &(usize, Measured)| {
            let distance = mean.iter().zip(&target[r * d..(r + 1) * d]).map(|(m, x)| (*x as f64 - m).powi(2));
            1.0 - measured.error / distance.sum::<f64>().max(f64::MIN_POSITIVE)
        };
        rows.par_iter().map(explained).collect()
    }
}

impl Observer for Evaluator<'_> {
    fn observe(&mut self, block: &Block) -> Result<()> {
        let (d, d_out, weights) = (self.weights.d_in, self.weights.d_out(), self.weights);
        let target = block.target()?;
        if target.len() != block.rows.len() * d_out {
            let found = target.len() / block.rows.len().max(1);
            return Err(Error::config(format!(
                "reconstructions are {d_out} wide, and what they are compared with {found}"
            )));
        }
        let measured: Vec<Measured> = (0..block.rows.len())
            .into_par_iter()
            .map_init(
                || vec![0f32; d_out],
                |buffer, r| {
                    let (features, values) = block.active.row(r);
                    let (x, y) = (&block.hidden[r * d..(r + 1) * d], &target[r * d_out..(r + 1) * d_out]);
                    Measured::new(weights, x, y, features, values, buffer)
                },
            )
            .collect();
        let mut kept: Vec<(usize, Measured)> = Vec::with_capacity(measured.len());
        let mut batches: BTreeMap<Modality, Vec<(usize, Measured)>> = BTreeMap::new();
        // Summed in the order of the rows, so that the result is the same on any number of threads.
        for ((r, row), measured) in block.positions().zip(measured) {
            let tokens = block.tokens;
            let (modality, sample) = (tokens.modality[row], tokens.sample[row]);
            let sums = self.sums.entry(modality).or_insert_with(|| Sums::new(weights));
            let (x, y) = (&block.hidden[r * d..(r + 1) * d], &target[r * d_out..(r + 1) * d_out]);
            let reasons = self.exclusion.reasons_with_target(tokens.special[row], tokens.position[row], x, y);
            if sums.excluded.count(reasons) {
                continue;
            }
            let (features, _) = block.active.row(r);
            sums.observe(&measured, y, features);
            for feature in features {
                let (last, samples) = &mut self.samples[*feature as usize];
                *samples += u64::from(*last != Some(sample));
                *last = Some(sample);
            }
            kept.push((r, measured));
            batches.entry(modality).or_default().push((r, measured));
        }
        self.legacy(target, &kept).into_iter().for_each(|explained| self.legacy.add(explained));
        for (modality, rows) in batches {
            let explained = self.legacy(target, &rows);
            let sums = self.sums.entry(modality).or_default();
            explained.into_iter().for_each(|explained| sums.legacy.add(explained));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
