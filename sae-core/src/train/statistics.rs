//! Statistics of the activations in the first buffer: norms, and mean and geometric median of what is reconstructed.

use super::config::{BDecInit, TrainConfig, TrainingScale};
use crate::autoencoder::layer_norm;
use crate::vector;
use crate::{Error, Result};
use std::borrow::Cow;
use std::ops::Range;

/// Statistics of the rows of a buffer.
#[derive(Clone, Debug)]
pub struct Statistics<'a> {
    rows: Cow<'a, [f32]>,
    /// Width of a row.
    width: usize,
    /// Columns of what is reconstructed.
    target: Range<usize>,
    /// Of the block of each model, and of the target of a transcoder.
    blocks: Vec<BlockNorms>,
}

/// Norms of one block.
#[derive(Clone, Copy, Debug)]
struct BlockNorms {
    width: usize,
    mean: f64,
    mean_square: f64,
}

impl<'a> Statistics<'a> {
    /// Measures rows `[rows, d_in]`, each normalized to mean 0 and deviation 1 first if the configuration says so. A transcoder's rows
    /// have its target after the input, `[rows, d_in + d_out]`.
    pub fn new(rows: &'a [f32], d_in: usize, config: &TrainConfig) -> Self {
        let mut rows = Cow::from(rows);
        if config.normalize == TrainingScale::LayerNorm {
            rows.to_mut().chunks_exact_mut(d_in).for_each(standardize);
        }
        let (part, width) = (d_in / config.models, d_in + config.d_out);
        let target = if config.is_transcoder() { d_in..width } else { 0..d_in };
        let models = (0..config.models).map(|model| model * part..(model + 1) * part);
        let block = |columns: Range<usize>| {
            let blocks = rows.chunks_exact(width).map(|row| &row[columns.clone()]);
            let squares: Vec<f64> = blocks.map(|block| f64::from(vector::norm_sq(block))).collect();
            let mean = |sum: f64| sum / squares.len() as f64;
            let norms = squares.iter().map(|s| s.sqrt());
            BlockNorms { width: columns.len(), mean: mean(norms.sum()), mean_square: mean(squares.iter().sum()) }
        };
        let blocks = models.chain(config.is_transcoder().then(|| target.clone())).map(block).collect();
        Self { rows, width, target, blocks }
    }

    /// The factor for the activations of each model before training, and one for the target of a transcoder.
    pub fn scales(&self, config: &TrainConfig) -> Result<Vec<f32>> {
        let scale = |block: &BlockNorms| {
            let d = block.width as f64;
            let (scale, what) = match config.normalize {
                TrainingScale::None | TrainingScale::LayerNorm => (1.0, 1.0),
                TrainingScale::ExpectedNorm => (d.sqrt() / block.mean, block.mean),
                TrainingScale::MeanSquare => ((d / block.mean_square).sqrt(), block.mean_square.sqrt()),
            };
            if !(scale as f32).is_normal() {
                return Err(Error::config(format!("activations of norm {what} cannot be scaled")));
            }
            Ok(scale as f32)
        };
        self.blocks.iter().map(scale).collect()
    }

    /// The initial value of `b_dec`, in scaled units.
    pub fn b_dec(&self, config: &TrainConfig, scales: &[f32]) -> Vec<f32> {
        let mut b_dec = match config.b_dec_init {
            BDecInit::Zero => vec![0.0; self.target.len()],
            BDecInit::Mean => self.weighted_mean(usize::MAX, |_| 1.0),
            BDecInit::GeometricMedian => self.geometric_median(),
        };
        scale_blocks(config.split_scales(scales).1, &mut b_dec);
        b_dec
    }

    fn weighted_mean(&self, rows: usize, weight: impl Fn(&[f32]) -> f64) -> Vec<f32> {
        let (mut sums, mut total) = (vec![0f64; self.target.len()], 0.0);
        for row in self.rows.chunks_exact(self.width).take(rows) {
            let row = &row[self.target.clone()];
            let weight = weight(row);
            total += weight;
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * f64::from(*v));
        }
        sums.iter().map(|sum| (sum / total) as f32).collect()
    }

    /// The point of least summed distance to the first 8,192 rows, by Weiszfeld's iteration, until it moves by less than a
    /// millionth of a norm.
    fn geometric_median(&self) -> Vec<f32> {
        const ROWS: usize = 8_192;
        let mut at = self.weighted_mean(ROWS, |_| 1.0);
        let distance =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        for _ in 0..100 {
            let next = self.weighted_mean(ROWS, |row| 1.0 / distance(row, &at).max(1e-12));
            let moved = distance(&next, &at);
            at = next;
            if moved < 1e-6 * self.blocks.iter().map(|block| block.mean).sum::<f64>() {
                break;
            }
        }
        at
    }
}

/// Multiplies the block of each model in a row by the scale of the model.
///
/// # Shapes
/// `scales`: `[models]`; `row`: `[models * width]`.
pub fn scale_blocks(scales: &[f32], row: &mut [f32]) {
    let width = row.len() / scales.len();
    row.chunks_exact_mut(width).zip(scales).for_each(|(block, scale)| vector::scale(*scale, block));
}

/// A row with mean 0 and deviation 1 (unbiased, plus 1e-5), as `InputNorm::LayerNorm` makes it.
pub fn standardize(row: &mut [f32]) {
    let (mean, scale) = layer_norm(row);
    row.iter_mut().for_each(|v| *v = (*v - mean) * scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_geometric_median_withstands_an_outlier() {
        let mut rows: Vec<f32> = (0..40).map(|i| (i % 5) as f32 * 0.1).collect();
        rows.extend([1e6, 1e6]);
        let statistics = Statistics::new(&rows, 2, &TrainConfig::default());
        let median = statistics.geometric_median();
        assert!(median.iter().all(|v| (0.0..0.5).contains(v)), "{median:?}");
        let config = TrainConfig { b_dec_init: BDecInit::Mean, ..TrainConfig::default() };
        assert!(statistics.b_dec(&config, &[1.0])[0] > 1e4);
        assert!(statistics.b_dec(&config, &[0.5])[0] < statistics.b_dec(&config, &[1.0])[0]);
    }

    #[test]
    fn scales_bring_norms_to_the_root_of_the_width() {
        let rows = [3.0, 4.0, 0.0, 1.0];
        let statistics = Statistics::new(&rows, 2, &TrainConfig::default());
        let scale = |normalize| statistics.scales(&TrainConfig { normalize, ..TrainConfig::default() }).unwrap()[0];
        assert!((scale(TrainingScale::ExpectedNorm) - 2f32.sqrt() / 3.0).abs() < 1e-6);
        assert!((scale(TrainingScale::MeanSquare) - (2f32 / 13.0).sqrt()).abs() < 1e-6);
        assert_eq!(scale(TrainingScale::None), 1.0);
        let config = TrainConfig::default();
        assert!(Statistics::new(&[0.0; 4], 2, &config).scales(&config).is_err());
    }
}
