//! The architectures as functions of one pre-activation: its activations, and its gradients.
//!
//! All differences between architectures in a step are here or in [`super::selection`]; the sparse step, the
//! dense step and their tests call the same functions. Sources: SAE-V (ICML 2025) and Anthropic's April 2024 update for
//! ReLU, Gao et al. 2024 for TopK, Rajamanoharan et al. 2024a and 2024b for Gated and JumpReLU, in the form of SAELens 6.

use super::config::{JumpReluPenalty, TrainConfig};
use super::params::{B_MAG, R_MAG, SCALARS, THRESHOLD};
use crate::autoencoder::Architecture;

/// Activations of a feature: for the reconstruction, and (Gated) for the one from the gate alone.
pub type Activations = [f32; 2];

/// The gradients of a feature from one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FeatureGrad {
    /// Gradient of the pre-activation without bias; times the token's input, it is the gradient of the encoder row.
    pub enc: f32,
    /// Gradients of the feature's scalars.
    pub scalars: [f32; SCALARS],
    /// Gradient of the norm of the decoder row.
    pub norm: f32,
}

/// One architecture at one step.
#[derive(Clone, Copy, Debug)]
pub struct ArchitectureRule {
    arch: Architecture,
    penalty: JumpReluPenalty,
    bandwidth: f32,
    tanh_scale: f32,
    target_l0: f32,
    /// Weight of the sparsity penalty over the number of tokens.
    sparsity: f32,
}

impl ArchitectureRule {
    /// The configured architecture, at a step with this weight of its penalty, for `rows` tokens.
    pub fn new(config: &TrainConfig, sparsity: f64, rows: usize) -> Self {
        Self {
            arch: config.arch,
            penalty: config.jumprelu_penalty,
            bandwidth: config.bandwidth as f32,
            tanh_scale: config.tanh_scale as f32,
            target_l0: config.target_l0 as f32,
            sparsity: (sparsity / rows as f64) as f32,
        }
    }

    /// Reconstructions that a step makes: Gated has one from the gate alone.
    pub fn channels(&self) -> usize {
        if self.arch == Architecture::Gated { 2 } else { 1 }
    }

    /// Activations at a pre-activation `p` (bias included), given the feature's numbers.
    #[inline(always)]
    pub fn activate(&self, p: f32, numbers: [f32; SCALARS]) -> Activations {
        match self.arch {
            Architecture::JumpRelu => [if p > numbers[THRESHOLD] { p } else { 0.0 }, 0.0],
            Architecture::Gated if p > 0.0 => [self.magnitude(p, numbers).max(0.0), p],
            _ => [p.max(0.0), 0.0],
        }
    }

    /// Gated's magnitude: `(p - b_gate) exp(r_mag) + b_mag`.
    #[inline(always)]
    fn magnitude(&self, p: f32, numbers: [f32; SCALARS]) -> f32 {
        (p - numbers[0]) * numbers[R_MAG].exp() + numbers[B_MAG]
    }

    /// The sparsity penalty of one feature on one token, without its weight; `norm` is that of the decoder's row.
    #[inline(always)]
    pub fn penalty(&self, z: Activations, norm: f32) -> f32 {
        match self.arch {
            Architecture::Relu => z[0] * norm,
            Architecture::Gated => z[1] * norm,
            Architecture::JumpRelu => match self.penalty {
                JumpReluPenalty::Step | JumpReluPenalty::Quadratic => (z[0] > 0.0) as u8 as f32,
                JumpReluPenalty::Tanh => (self.tanh_scale * z[0] * norm).tanh(),
            },
            _ => 0.0,
        }
    }

    /// A token's penalty from the sum over its features.
    pub fn of_token(&self, sum: f32) -> f32 {
        match (self.arch, self.penalty) {
            (Architecture::JumpRelu, JumpReluPenalty::Quadratic) => {
                2.0 / self.target_l0 * (sum - self.target_l0).powi(2)
            }
            _ => sum,
        }
    }

    /// The weight of the penalty for a token, from the sum over its features.
    pub fn weight(&self, sum: f32) -> f32 {
        match (self.arch, self.penalty) {
            (Architecture::JumpRelu, JumpReluPenalty::Quadratic) => {
                self.sparsity * 4.0 / self.target_l0 * (sum - self.target_l0)
            }
            _ => self.sparsity,
        }
    }

    /// [`Self::weight`] as a line, `weight + slope * sum`.
    #[cfg(feature = "gpu")]
    pub fn weight_and_slope(&self) -> (f32, f32) {
        match (self.arch, self.penalty) {
            (Architecture::JumpRelu, JumpReluPenalty::Quadratic) => {
                (-4.0 * self.sparsity, self.sparsity * 4.0 / self.target_l0)
            }
            _ => (self.sparsity, 0.0),
        }
    }

    /// Gradients at a pre-activation, given those of the activations (`dz`) and the token's weight of the penalty.
    #[inline(always)]
    pub fn backward(
        &self,
        p: f32,
        numbers: [f32; SCALARS],
        z: Activations,
        dz: Activations,
        norm: f32,
        weight: f32,
    ) -> FeatureGrad {
        match self.arch {
            Architecture::Relu if p > 0.0 => {
                let enc = dz[0] + weight * norm;
                FeatureGrad { enc, scalars: [enc, 0.0, 0.0], norm: weight * z[0] }
            }
            Architecture::TopK | Architecture::BatchTopK | Architecture::Matryoshka if p > 0.0 => {
                FeatureGrad { enc: dz[0], scalars: [dz[0], 0.0, 0.0], norm: 0.0 }
            }
            Architecture::JumpRelu => {
                let threshold = numbers[THRESHOLD];
                let mut dz = dz[0];
                let mut back = FeatureGrad::default();
                if self.penalty == JumpReluPenalty::Tanh {
                    let slope = weight * self.tanh_scale * (1.0 - (self.tanh_scale * z[0] * norm).tanh().powi(2));
                    dz += slope * norm;
                    back.norm = slope * z[0];
                }
                if p > threshold {
                    back.enc = dz;
                    back.scalars[0] = dz;
                }
                // Straight through: only in a window around the threshold, as if its step were a ramp.
                if (p - threshold).abs() < 0.5 * self.bandwidth {
                    let step = if self.penalty == JumpReluPenalty::Tanh { 0.0 } else { weight };
                    back.scalars[THRESHOLD] = -(threshold * dz + step) / self.bandwidth;
                }
                back
            }
            Architecture::Gated if p > 0.0 => {
                let scale = numbers[R_MAG].exp();
                let magnitude = if self.magnitude(p, numbers) > 0.0 { dz[0] } else { 0.0 };
                let gate = dz[1] + weight * norm;
                FeatureGrad {
                    enc: magnitude * scale + gate,
                    scalars: [gate, magnitude, magnitude * (p - numbers[0]) * scale],
                    norm: weight * z[1],
                }
            }
            _ => FeatureGrad::default(),
        }
    }

    /// The value above which a pre-activation has an activation or a gradient, given the feature's threshold.
    pub fn floor(&self, threshold: f32) -> f32 {
        match self.arch {
            Architecture::JumpRelu => threshold - 0.5 * self.bandwidth,
            _ => 0.0,
        }
    }
}
