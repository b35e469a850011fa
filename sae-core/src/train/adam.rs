//! Adam (Kingma and Ba 2015) as PyTorch computes it, on plain tensors. Knows nothing of what it optimizes.

use burn::tensor::Tensor;

/// Constants of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment (PyTorch's 1e-8, not Burn's 1e-5).
    pub epsilon: f64,
}

/// A parameter with its moments.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The value; never tracked.
    pub value: Tensor<2>,
    /// First moment.
    pub first: Tensor<2>,
    /// Second moment.
    pub second: Tensor<2>,
}

impl Parameter {
    /// Applies a gradient at step `t`, counted from 1.
    pub fn step(self, adam: &Adam, gradient: Tensor<2>, lr: f64, t: u64) -> Self {
        let (c1, c2) = (1.0 - adam.beta1.powf(t as f64), 1.0 - adam.beta2.powf(t as f64));
        let first = self.first * adam.beta1 + gradient.clone() * (1.0 - adam.beta1);
        let second = self.second * adam.beta2 + gradient.square() * (1.0 - adam.beta2);
        let scale = (second.clone().sqrt() / c2.sqrt()).add_scalar(adam.epsilon);
        Self { value: self.value - first.clone() / scale * (lr / c1), first, second }
    }
}
