//! Adam (Kingma and Ba 2015) as PyTorch computes it. Knows nothing of what it optimizes.
//!
//! The same formula exists in three forms, because three kinds of memory hold what it updates: slices on the host
//! ([`Adam::step`]), Burn tensors on any device ([`Parameter::step`]), and a CubeCL kernel (`gpu::update`), which takes
//! its constants from [`Adam`]. The tensor form keeps its constants in `f64` and scales in another order, which rounds
//! differently in the last bit; it is the independent reference that tests compare the other two with.

use super::config::TrainConfig;
use burn::tensor::Tensor;

/// The constants of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment (1e-8 as in PyTorch, not 1e-5 as in Burn).
    pub epsilon: f32,
    /// The learning rate, corrected for the bias of the first moment: `lr / (1 - beta1^t)`.
    pub rate: f32,
    /// The correction for the bias of the second moment: `1 / sqrt(1 - beta2^t)`.
    pub spread: f32,
}

impl Adam {
    /// The constants at step `t`, counted from 1.
    pub fn new(config: &TrainConfig, lr: f64, t: u64) -> Self {
        Self {
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            epsilon: config.epsilon as f32,
            rate: (lr / bias(config.beta1, t)) as f32,
            spread: (1.0 / bias(config.beta2, t).sqrt()) as f32,
        }
    }

    /// Updates values `w` and their moments `m` and `v` by the gradient `g`, multiplied by `shrink`.
    ///
    /// # Shapes
    /// All slices have the same length.
    #[inline(always)]
    pub fn step(&self, w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], shrink: f32) {
        for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * shrink;
            *m = self.beta1 * *m + (1.0 - self.beta1) * g;
            *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
            *w -= self.rate * *m / (v.sqrt() * self.spread + self.epsilon);
        }
    }
}

/// How much a moment with this decay is too small at step `t`, since it started at 0: `1 - beta^t`.
fn bias(beta: f64, t: u64) -> f64 {
    1.0 - beta.powf(t as f64)
}

/// A parameter with its moments, as tensors.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The value; never tracked by autodiff.
    pub value: Tensor<2>,
    /// First moment.
    pub first: Tensor<2>,
    /// Second moment.
    pub second: Tensor<2>,
}

impl Parameter {
    /// Applies a gradient at step `t`, counted from 1.
    pub fn step(self, config: &TrainConfig, gradient: Tensor<2>, lr: f64, t: u64) -> Self {
        let (c1, c2) = (bias(config.beta1, t), bias(config.beta2, t));
        let first = self.first * config.beta1 + gradient.clone() * (1.0 - config.beta1);
        let second = self.second * config.beta2 + gradient.square() * (1.0 - config.beta2);
        let scale = (second.clone().sqrt() / c2.sqrt()).add_scalar(config.epsilon);
        Self { value: self.value - first.clone() / scale * (lr / c1), first, second }
    }
}
