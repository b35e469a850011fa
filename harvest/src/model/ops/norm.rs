//! Norms of rows, or of the heads in a row: RMSNorm and LayerNorm.

use super::super::config::NormConfig;
use super::super::matrix::Matrix;
use super::super::weights::Loader;
use super::linear::in_order;
use crate::kernel::pointwise;
use burn::tensor::{DType, Tensor};

/// A norm with its weights.
pub(in super::super) struct Norm {
    kind: NormConfig,
    /// Number of values that are normalized together.
    width: usize,
    /// `[period, width]`. If every head has its own weights, there is one row per head, otherwise a single row.
    scale: Matrix,
    /// `[period, width]`, for norms that subtract the mean.
    shift: Option<Matrix>,
}

impl Norm {
    /// Loads `name.weight` and, for norms that subtract the mean, `name.bias`. Both are `[width]`, or `[heads, width]`
    /// if each of `heads` heads has its own weights.
    pub fn load(loader: &mut Loader, name: &str, width: usize, heads: Option<usize>, kind: NormConfig) -> Self {
        Self::load_in_order(loader, name, width, heads, kind, None)
    }

    /// The same, with the weights of every head in this order.
    pub fn load_in_order(
        loader: &mut Loader,
        name: &str,
        width: usize,
        heads: Option<usize>,
        kind: NormConfig,
        order: Option<&[usize]>,
    ) -> Self {
        let shape = heads.map_or(vec![width], |heads| vec![heads, width]);
        let mut scale = loader.values(&format!("{name}.weight"), &shape);
        let shift = match kind {
            NormConfig::Layer { .. } => Some(loader.values(&format!("{name}.bias"), &shape)),
            NormConfig::Rms { offset, .. } => {
                scale.iter_mut().for_each(|scale| *scale += offset);
                None
            }
        };
        let arranged = |values: Vec<f32>| order.map_or_else(|| values.clone(), |order| in_order(&values, 1, order));
        let matrix = |values| Matrix::new(arranged(values), width, loader.compute());
        Self { kind, width, scale: matrix(scale), shift: shift.map(matrix) }
    }

    /// A norm of heads that has no weights.
    pub fn without_weights(loader: &Loader, width: usize, kind: NormConfig) -> Self {
        Self { kind, width, scale: Matrix::new(vec![1.0; width], width, loader.compute()), shift: None }
    }

    /// Normalizes every row, or every head of every row.
    ///
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
            _ => unreachable!("the weights and matrices of a model are all on one device"),
        }
    }

    /// Computes in `f32`, whatever the number format of the model, like the reference implementation.
    fn on_device(&self, x: Tensor<2>, scale: Tensor<2>, shift: Option<Tensor<2>>) -> Tensor<2> {
        let ([rows, width], dtype, period) = (x.dims(), x.dtype(), scale.dims()[0]);
        let repeats = width / self.width / period;
        let x = x.cast(DType::F32).reshape([rows * repeats, period, self.width]);
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
