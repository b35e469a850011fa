//! Norms of rows, or of the heads in a row: by the root mean square, or by mean and variance.

use super::super::config::NormConfig;
use super::super::weights::Loader;
use super::Matrix;
use crate::kernel::pointwise;
use burn::tensor::{DType, Tensor};

/// A norm with its weights.
pub(in super::super) struct Norm {
    kind: NormConfig,
    /// Numbers that are normalized together.
    width: usize,
    /// `[turns, width]`: rows, or heads, take turns.
    scale: Matrix,
    /// `[turns, width]`, where the norm takes the mean away.
    shift: Option<Matrix>,
}

impl Norm {
    /// `name.weight` and, where the mean is taken away, `name.bias`, both `[width]`; of each of `heads` heads if each has
    /// its own, then `[heads, width]`.
    pub fn load(loader: &mut Loader, name: &str, width: usize, heads: Option<usize>, kind: NormConfig) -> Self {
        let shape = heads.map_or(vec![width], |heads| vec![heads, width]);
        let mut scale = loader.values(&format!("{name}.weight"), &shape);
        let shift = match kind {
            NormConfig::Layer { .. } => Some(loader.values(&format!("{name}.bias"), &shape)),
            NormConfig::Rms { offset, .. } => {
                scale.iter_mut().for_each(|scale| *scale += offset);
                None
            }
        };
        let matrix = |values| Matrix::new(values, width, loader.compute());
        Self { kind, width, scale: matrix(scale), shift: shift.map(matrix) }
    }

    /// # Shapes
    /// `[rows, width]`, or `[rows, heads * width]` for a norm of heads; in and out.
    pub fn forward(&self, x: Matrix) -> Matrix {
        match (x, &self.scale) {
            (Matrix::Host { mut values, width }, Matrix::Host { values: scale, .. }) => {
                match (self.kind, &self.shift) {
                    (NormConfig::Layer { eps }, Some(Matrix::Host { values: shift, .. })) => {
                        pointwise::layer_norm(&mut values, scale, shift, self.width, eps as f32);
                    }
                    (NormConfig::Layer { eps } | NormConfig::Rms { eps, .. }, _) => {
                        pointwise::rms_norm(&mut values, scale, eps as f32);
                    }
                }
                Matrix::Host { values, width }
            }
            (Matrix::Device(x), Matrix::Device(scale)) => {
                let shift = self.shift.clone().map(Matrix::into_tensor);
                Matrix::Device(self.on_device(x, scale.clone(), shift))
            }
            _ => unreachable!("a model's weights and matrices are all in one place"),
        }
    }

    /// In `f32`, whatever the model's dtype, as the reference does.
    fn on_device(&self, x: Tensor<2>, scale: Tensor<2>, shift: Option<Tensor<2>>) -> Tensor<2> {
        let ([rows, width], dtype, turns) = (x.dims(), x.dtype(), scale.dims()[0]);
        let apart = width / self.width / turns;
        let x = x.cast(DType::F32).reshape([rows * apart, turns, self.width]);
        let x = match self.kind {
            NormConfig::Rms { eps, .. } => {
                let inverse = (x.clone().square().mean_dim(2) + eps).sqrt().recip();
                x * inverse
            }
            NormConfig::Layer { eps } => {
                let x = x.clone() - x.mean_dim(2);
                let inverse = (x.clone().square().mean_dim(2) + eps).sqrt().recip();
                x * inverse
            }
        };
        let x = x.cast(dtype) * scale.unsqueeze();
        let x = match shift {
            Some(shift) => x + shift.unsqueeze(),
            None => x,
        };
        x.reshape([rows, width])
    }
}
