//! `x W^T + b`, the weight loaded once into the form that its place computes with.

use super::super::weights::Loader;
use super::{Compute, Matrix};
use crate::kernel::linear::Packed;
use burn::tensor::Tensor;

/// A linear map.
#[expect(clippy::large_enum_variant, reason = "there are a few of them, and what they hold is large")]
pub(in super::super) enum Linear {
    Host {
        weight: Packed,
        bias: Option<Vec<f32>>,
    },
    Device {
        /// `[d_in, d_out]`: a transposed view of what the checkpoint stores.
        weight: Tensor<2>,
        /// `[1, d_out]`.
        bias: Option<Tensor<2>>,
    },
}

impl Linear {
    /// The tensors `name.weight` `[d_out, d_in]` and, with a bias, `name.bias` `[d_out]`.
    pub fn load(loader: &mut Loader, name: &str, [d_in, d_out]: [usize; 2], bias: bool) -> Self {
        let [linear] = Self::load_parts(loader, name, [d_in, d_out], bias);
        linear
    }

    /// As many maps as are stored one above the other in `name`, each `[d_in, d_out]`.
    pub fn load_parts<const N: usize>(
        loader: &mut Loader,
        name: &str,
        [d_in, d_out]: [usize; 2],
        bias: bool,
    ) -> [Self; N] {
        let bias = bias.then(|| loader.values(&format!("{name}.bias"), &[N * d_out]));
        let mut parts = loader.weights(&format!("{name}.weight"), &[N * d_out, d_in], N).into_iter();
        std::array::from_fn(|n| {
            let bias = bias.as_ref().map(|bias| bias.get(n * d_out..(n + 1) * d_out).unwrap_or_default().to_vec());
            let weight = parts.next().expect("as many parts as were asked for");
            Self::new(weight, bias, loader.compute())
        })
    }

    /// A weight that is stored in another shape, as long as its numbers lie in the same order as `[d_out, d_in]`.
    pub fn load_reshaped(loader: &mut Loader, name: &str, shape: &[usize], bias: bool) -> Self {
        let bias = bias.then(|| loader.values(&format!("{name}.bias"), &shape[..1]));
        let weight = loader.weights(&format!("{name}.weight"), shape, 1).remove(0);
        Self::new(weight, bias, loader.compute())
    }

    /// From a weight that is loaded.
    pub fn new(weight: Weight, bias: Option<Vec<f32>>, compute: &Compute) -> Self {
        match weight {
            Weight::Host(weight) => Self::Host { weight, bias },
            Weight::Device(weight) => {
                let bias = bias.map(|bias| {
                    let width = bias.len();
                    Matrix::new(bias, width, compute).into_tensor()
                });
                Self::Device { weight: weight.transpose(), bias }
            }
        }
    }

    /// # Shapes
    /// `[rows, d_in]` to `[rows, d_out]`.
    pub fn forward(&self, x: &Matrix) -> Matrix {
        match (self, x) {
            (Self::Host { weight, bias }, Matrix::Host { values, width }) => {
                let mut out = vec![0.0; values.len() / width * weight.d_out()];
                weight.apply(values, bias.as_deref(), &mut out);
                Matrix::Host { values: out, width: weight.d_out() }
            }
            (Self::Device { weight, bias }, Matrix::Device(x)) => {
                let y = x.clone().matmul(weight.clone());
                Matrix::Device(match bias {
                    Some(bias) => y + bias.clone(),
                    None => y,
                })
            }
            _ => unreachable!("a model's weights and matrices are all in one place"),
        }
    }
}

/// A weight matrix `[d_out, d_in]` where the model computes.
pub(in super::super) enum Weight {
    Host(Packed),
    Device(Tensor<2>),
}
