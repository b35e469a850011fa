//! The trained parameters: two matrices with a row for each feature, a few numbers for each feature, and the decoder's bias; their
//! initial values, and how they become an autoencoder in the units of the store.

use super::config::{Decoder, TrainConfig};
use crate::autoencoder::kernel;
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::random;
use crate::vector;
use crate::{Error, Result};
use rand::RngExt;
use rayon::prelude::*;
use std::ops::Range;

/// Largest number of scalars of a feature, besides its two rows.
pub const SCALARS: usize = 3;

/// Arrays of parameters: two matrices, a bias, the scalars, and the skip connection.
pub const ARRAYS: usize = 4 + SCALARS;

/// The first of a feature's numbers, for every architecture.
pub const B_ENC: usize = 0;
/// JumpReLU's threshold.
pub const THRESHOLD: usize = 1;
/// Gated: bias of the magnitude.
pub const B_MAG: usize = 1;
/// Gated: logarithm of the magnitude's scale.
pub const R_MAG: usize = 2;

/// Parameters, or anything of the same shape, such as moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// Width of the encoder's rows: of what is read.
    pub d_in: usize,
    /// Width of the decoder's rows: of what is reconstructed.
    pub d_out: usize,
    /// Number of features.
    pub d_sae: usize,
    /// `[d_sae, d_in]`
    pub w_enc: Vec<f32>,
    /// `[d_sae, d_out]`
    pub w_dec: Vec<f32>,
    /// `[d_sae]` each; those that the architecture does not have are empty.
    pub scalars: [Vec<f32>; SCALARS],
    /// `[d_out]`
    pub b_dec: Vec<f32>,
    /// `[d_out, d_in]`; empty without a skip connection.
    pub w_skip: Vec<f32>,
}

/// The names of a feature's scalars, as in SAELens's files.
pub fn scalar_names(arch: Architecture) -> &'static [&'static str] {
    match arch {
        Architecture::JumpRelu => &["b_enc", "threshold"],
        Architecture::Gated => &["b_gate", "b_mag", "r_mag"],
        _ => &["b_enc"],
    }
}

impl Params {
    /// Zeros.
    pub fn zeros(d_in: usize, config: &TrainConfig) -> Self {
        let (d_sae, d_out) = (config.d_sae(d_in), config.width_out(d_in));
        let count = scalar_names(config.arch).len();
        Self {
            d_in,
            d_out,
            d_sae,
            w_enc: vec![0.0; d_sae * d_in],
            w_dec: vec![0.0; d_sae * d_out],
            scalars: std::array::from_fn(|s| if s < count { vec![0.0; d_sae] } else { Vec::new() }),
            b_dec: vec![0.0; d_out],
            w_skip: vec![0.0; if config.skip { d_out * d_in } else { 0 }],
        }
    }

    /// Zeros of the same shapes.
    pub fn zeros_like(&self) -> Self {
        let mut zeros = self.clone();
        zeros.arrays_mut().into_iter().for_each(|array| array.fill(0.0));
        zeros
    }

    /// Initial parameters: decoder rows in random directions with the configured norm; the encoder is their transpose or has
    /// other random directions with the same norm; biases are zero, thresholds as configured. The blocks of a crosscoder's
    /// row start equal, each with that norm, so that no feature belongs to one model before the data says so. A transcoder's
    /// encoder and decoder start apart, since they are in different spaces, and its skip connection is zero.
    pub fn initial(d_in: usize, config: &TrainConfig) -> Self {
        let mut params = Self::zeros(d_in, config);
        let norm = if config.decoder == Decoder::Unit { 1.0 } else { config.init_norm as f32 };
        let directions = |purpose: u64, width: usize, out: &mut [f32]| {
            let mut rng = random::chacha(config.seed, purpose);
            for row in out.chunks_exact_mut(width) {
                let (first, others) = row.split_at_mut(width / config.models);
                first.iter_mut().for_each(|v| *v = rng.random_range(-1.0..1.0));
                vector::scale(norm / vector::norm_sq(first).sqrt().max(f32::MIN_POSITIVE), first);
                others.chunks_exact_mut(first.len()).for_each(|block| block.copy_from_slice(first));
            }
        };
        directions(0, params.d_out, &mut params.w_dec);
        if config.tied_init && !config.is_transcoder() {
            params.w_enc.copy_from_slice(&params.w_dec);
        } else {
            directions(2, d_in, &mut params.w_enc);
        }
        if config.arch == Architecture::JumpRelu {
            params.scalars[THRESHOLD].fill(config.threshold as f32);
        }
        params
    }

    /// The encoder's row of a feature.
    pub fn enc(&self, feature: usize) -> &[f32] {
        &self.w_enc[feature * self.d_in..(feature + 1) * self.d_in]
    }

    /// The decoder's row of a feature.
    pub fn dec(&self, feature: usize) -> &[f32] {
        &self.w_dec[feature * self.d_out..(feature + 1) * self.d_out]
    }

    /// Norms of the decoder's rows, `[d_sae]`; of a crosscoder, the sums of the norms of the blocks for its `models`.
    pub fn dec_norms(&self, models: usize) -> Vec<f32> {
        let norm = |row: &[f32]| {
            kernel::wide(
                #[inline(always)]
                || vector::sum_of_norms(row, models),
            )
        };
        self.w_dec.par_chunks_exact(self.d_out).map(norm).collect()
    }

    /// A feature's numbers; those that the architecture does not have are 0.
    pub fn numbers(&self, feature: usize) -> [f32; SCALARS] {
        std::array::from_fn(|s| self.scalars[s].get(feature).copied().unwrap_or_default())
    }

    /// All arrays, in the order of [`Self::arrays_mut`].
    pub fn arrays(&self) -> [&Vec<f32>; ARRAYS] {
        let [a, b, c] = &self.scalars;
        [&self.w_enc, &self.w_dec, &self.b_dec, a, b, c, &self.w_skip]
    }

    /// All arrays; those that the architecture does not have are empty.
    pub fn arrays_mut(&mut self) -> [&mut Vec<f32>; ARRAYS] {
        let [a, b, c] = &mut self.scalars;
        [&mut self.w_enc, &mut self.w_dec, &mut self.b_dec, a, b, c, &mut self.w_skip]
    }

    /// The arrays that have a row or a number for each feature; those that the architecture does not have are empty.
    pub fn arrays_of_features_mut(&mut self) -> [&mut Vec<f32>; 2 + SCALARS] {
        let [a, b, c] = &mut self.scalars;
        [&mut self.w_enc, &mut self.w_dec, a, b, c]
    }

    /// The same arrays, in the same order.
    pub fn arrays_of_features(&self) -> [&Vec<f32>; 2 + SCALARS] {
        let [a, b, c] = &self.scalars;
        [&self.w_enc, &self.w_dec, a, b, c]
    }

    /// What all features share, for `d_sae` features whose arrays are still empty.
    pub fn without_features(&self, d_sae: usize) -> Self {
        let (b_dec, w_skip) = (self.b_dec.clone(), self.w_skip.clone());
        Self { d_in: self.d_in, d_out: self.d_out, d_sae, b_dec, w_skip, ..Self::default() }
    }

    /// The parameters of some features, with all that they share.
    pub fn part(&self, features: Range<usize>) -> Self {
        let mut part = self.without_features(features.len());
        for (to, from) in part.arrays_of_features_mut().into_iter().zip(self.arrays_of_features()) {
            let width = from.len() / self.d_sae;
            *to = from[features.start * width..features.end * width].to_vec();
        }
        part
    }

    /// The autoencoder in the units of the store.
    ///
    /// Inputs were multiplied by `scale`, so `W_enc * scale`, `W_dec / scale`, `b_dec / scale`, where a crosscoder has a scale
    /// for the block of each model, and the decoder of a transcoder the scale of its target; a subtracted `b_dec` goes into `b_enc`; if the selection weighted activations by the decoder's norms, these move into the encoder
    /// (`gain`); `threshold` is the one that was learned from the selections of batches.
    pub fn weights(&self, config: &TrainConfig, scales: &[f32], threshold: f32) -> Weights {
        let (d, d_out, f) = (self.d_in, self.d_out, self.d_sae);
        let (inputs, outputs) = config.split_scales(scales);
        let (block, block_out) = (d / inputs.len(), d_out / outputs.len());
        let mut w = Weights {
            d_in: d,
            d_sae: f,
            w_enc: self.w_enc.clone(),
            b_enc: self.scalars[B_ENC].clone(),
            w_dec: self.w_dec.clone(),
            b_dec: self
                .b_dec
                .chunks_exact(block_out)
                .zip(outputs)
                .flat_map(|(b, scale)| b.iter().map(move |v| v / scale))
                .collect(),
            activation: match config.arch {
                Architecture::Relu => Activation::Relu,
                Architecture::TopK => Activation::TopK { k: config.k },
                Architecture::BatchTopK | Architecture::Matryoshka => {
                    Activation::JumpRelu { threshold: vec![threshold; f] }
                }
                Architecture::JumpRelu => {
                    Activation::JumpRelu { threshold: self.scalars[THRESHOLD].iter().map(|t| t.max(0.0)).collect() }
                }
                Architecture::Gated => Activation::Gated {
                    scale: self.scalars[R_MAG].iter().map(|r| r.exp()).collect(),
                    bias: self.scalars[B_MAG].clone(),
                },
            },
            normalization: match config.normalize {
                super::config::TrainingScale::LayerNorm => InputNorm::LayerNorm,
                _ => InputNorm::None,
            },
            skip: (!self.w_skip.is_empty()).then(|| {
                let scale = inputs[0] / outputs[0];
                self.w_skip.iter().map(|v| v * scale).collect()
            }),
        };
        let gains = config.weighs_by_norm().then(|| self.dec_norms(config.models));
        for k in 0..f {
            let gain = gains.as_ref().map_or(1.0, |g| g[k].max(f32::MIN_POSITIVE));
            if config.subtract_b_dec {
                let shift = vector::dot(self.enc(k), &self.b_dec);
                w.b_enc[k] -= shift;
                if let Activation::Gated { scale, bias } = &mut w.activation {
                    // The magnitude is (p - b_enc) scale + bias, and what was subtracted has left b_enc.
                    bias[k] -= shift * scale[k];
                }
            }
            w.b_enc[k] *= gain;
            let enc = w.w_enc[k * d..(k + 1) * d].chunks_exact_mut(block);
            enc.zip(inputs).for_each(|(enc, scale)| vector::scale(scale * gain, enc));
            let dec = w.w_dec[k * d_out..(k + 1) * d_out].chunks_exact_mut(block_out);
            dec.zip(outputs).for_each(|(dec, scale)| vector::scale(1.0 / (scale * gain), dec));
        }
        w
    }

    /// The parameters with which a training continues from an existing autoencoder, with the indices of its features: the inverse
    /// of [`Self::weights`] for inputs that are multiplied by `scales`.
    ///
    /// # Errors
    /// A configuration of another architecture, width or number of features, or with a skip connection where there is none, or the
    /// reverse; what no training has: inputs scaled to a constant norm.
    pub fn from_weights(weights: &Weights, config: &TrainConfig, scales: &[f32]) -> Result<Self> {
        let mut params = Self::zeros(weights.d_in, config);
        let f = weights.d_sae;
        let (inputs, outputs) = config.split_scales(scales);
        let fits = match (&weights.activation, config.arch) {
            (Activation::Relu, Architecture::Relu) | (Activation::Gated { .. }, Architecture::Gated) => true,
            (Activation::TopK { .. } | Activation::JumpRelu { .. }, _) if config.is_topk() => true,
            (Activation::JumpRelu { .. }, Architecture::JumpRelu) => true,
            _ => false,
        };
        let layer_norm = config.normalize == super::config::TrainingScale::LayerNorm;
        let normalized = weights.normalization == if layer_norm { InputNorm::LayerNorm } else { InputNorm::None };
        let same_shape = params.d_sae == f && params.d_out == weights.d_out() && config.skip == weights.skip.is_some();
        if !fits || !normalized || !same_shape {
            let arch = config.arch.name();
            let text = format!(
                "an autoencoder of {f} features with {} and inputs normalized as {:?}, {} wide, cannot be trained on as {arch} \
                 with {} features and normalize = {:?}, {} wide{}",
                weights.activation.name(),
                weights.normalization,
                weights.d_out(),
                params.d_sae,
                config.normalize,
                params.d_out,
                match (weights.skip.is_some(), config.skip) {
                    (true, false) => ", because of its skip connection",
                    (false, true) => ", because it has no skip connection",
                    _ => "",
                },
            );
            return Err(Error::config(text));
        }
        params.w_enc.clone_from(&weights.w_enc);
        params.w_dec.clone_from(&weights.w_dec);
        params.b_dec.clone_from(&weights.b_dec);
        let (d, d_out) = (params.d_in, params.d_out);
        for (arrays, by, width, scales) in [
            (&mut params.w_enc, -1, d, inputs),
            (&mut params.w_dec, 1, d_out, outputs),
            (&mut params.b_dec, 1, d_out, outputs),
        ] {
            for row in arrays.chunks_exact_mut(width) {
                let blocks = row.chunks_exact_mut(width / scales.len()).zip(scales);
                blocks.for_each(|(block, scale)| vector::scale(scale.powi(by), block));
            }
        }
        if let Some(skip) = &weights.skip {
            params.w_skip = skip.iter().map(|v| v * (outputs[0] / inputs[0])).collect();
        }
        params.scalars[B_ENC].clone_from(&weights.b_enc);
        match (&weights.activation, config.arch) {
            (Activation::JumpRelu { threshold }, Architecture::JumpRelu) => {
                params.scalars[THRESHOLD].clone_from(threshold)
            }
            (Activation::Gated { scale, bias }, _) => {
                params.scalars[R_MAG] = scale.iter().map(|scale| scale.ln()).collect();
                params.scalars[B_MAG].clone_from(bias);
            }
            _ => (),
        }
        if config.subtract_b_dec {
            for k in 0..f {
                let shift = vector::dot(params.enc(k), &params.b_dec);
                params.scalars[B_ENC][k] += shift;
                if let Activation::Gated { scale, .. } = &weights.activation {
                    params.scalars[B_MAG][k] += shift * scale[k];
                }
            }
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoencoder_that_is_trained_on_starts_as_it_was_saved() {
        let transcoder = |arch: Architecture, skip: bool| {
            let config = TrainConfig::for_architecture(arch).transcoder();
            TrainConfig { d_out: 4, skip, ..config }
        };
        let configs = Architecture::ALL.map(TrainConfig::for_architecture).into_iter();
        let configs = configs.chain([
            TrainConfig::crosscoder(2),
            transcoder(Architecture::BatchTopK, true),
            transcoder(Architecture::Gated, false),
        ]);
        for config in configs.map(|config| TrainConfig { features: 10, k: 2, ..config }) {
            let scales = &[0.5, 3.0][..config.models + usize::from(config.is_transcoder())];
            let mut params = Params::initial(6, &config);
            let arrays = params.arrays_mut().into_iter().flatten();
            arrays.enumerate().for_each(|(n, v)| *v += 0.1 * (n as f32 * 0.37).sin());
            if config.arch == Architecture::JumpRelu {
                params.scalars[THRESHOLD].iter_mut().for_each(|t| *t = t.abs());
            }
            let saved = params.weights(&config, scales, 0.4);
            let again = Params::from_weights(&saved, &config, scales).unwrap().weights(&config, scales, 0.4);
            let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0));
            assert!(close(&again.w_enc, &saved.w_enc) && close(&again.b_enc, &saved.b_enc), "{:?}", config.arch);
            assert!(close(&again.w_dec, &saved.w_dec) && close(&again.b_dec, &saved.b_dec), "{:?}", config.arch);
            let skips = (again.skip.unwrap_or_default(), saved.skip.clone().unwrap_or_default());
            assert!(close(&skips.0, &skips.1) && skips.0.len() == if config.skip { 4 * 6 } else { 0 });
            match (&again.activation, &saved.activation) {
                (Activation::Gated { scale, bias }, Activation::Gated { scale: scale_before, bias: bias_before }) => {
                    assert!(close(scale, scale_before) && close(bias, bias_before));
                }
                (again, saved) => assert_eq!(again, saved),
            }
            let other = TrainConfig { features: 11, ..config.clone() };
            assert!(Params::from_weights(&saved, &other, scales).is_err());
        }
    }
}
