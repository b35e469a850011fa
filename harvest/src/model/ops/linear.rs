//! A linear map `x W^T + b`, whose weight is loaded into the form that its device computes with.

use super::super::compute::{Compute, Weight};
use super::super::matrix::Matrix;
use super::super::weights::Loader;
use crate::kernel::linear::Packed;
use burn::tensor::Tensor;

/// A linear map.
#[expect(clippy::large_enum_variant, reason = "there are few instances, and their content is large anyway")]
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
    /// Loads the tensors `name.weight` `[d_out, d_in]` and, with a bias, `name.bias` `[d_out]`.
    pub fn load(loader: &mut Loader, name: &str, [d_in, d_out]: [usize; 2], bias: bool) -> Self {
        let [linear] = Self::load_parts(loader, name, [d_in, d_out], bias);
        linear
    }

    /// The same, with the outputs of every head, as many as `order` has, in this order.
    pub fn load_in_order(
        loader: &mut Loader,
        name: &str,
        shape: [usize; 2],
        bias: bool,
        order: Option<&[usize]>,
    ) -> Self {
        let Some(order) = order else { return Self::load(loader, name, shape, bias) };
        Self::load_changed(loader, name, shape, bias, |rows, width| in_order(&rows, width, order))
    }

    /// The same, with every output multiplied by its entry in `scale`. The factors go into the weight.
    pub fn load_scaled(loader: &mut Loader, name: &str, shape: [usize; 2], bias: bool, scale: Option<&[f32]>) -> Self {
        let Some(scale) = scale else { return Self::load(loader, name, shape, bias) };
        Self::load_changed(loader, name, shape, bias, |mut rows, width| {
            rows.chunks_exact_mut(width).zip(scale).for_each(|(row, scale)| row.iter_mut().for_each(|x| *x *= scale));
            rows
        })
    }

    /// The same, with what `change` makes of the rows of the weight, and of those of the bias, which have a width of one.
    fn load_changed(
        loader: &mut Loader,
        name: &str,
        [d_in, d_out]: [usize; 2],
        bias: bool,
        change: impl Fn(Vec<f32>, usize) -> Vec<f32>,
    ) -> Self {
        let weight = change(loader.values(&format!("{name}.weight"), &[d_out, d_in]), d_in);
        let bias = bias.then(|| change(loader.values(&format!("{name}.bias"), &[d_out]), 1));
        let weight = loader.computed(weight, [d_out, d_in]);
        Self::new(weight, bias, loader.compute())
    }

    /// Loads several maps of `[d_in, d_out]` whose weights are stacked in the tensor `name`.
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
            let weight = parts.next().expect("as many parts as were requested");
            Self::new(weight, bias, loader.compute())
        })
    }

    /// Loads a weight that is stored in another shape, but with its numbers in the order of `[d_out, d_in]`.
    pub fn load_reshaped(loader: &mut Loader, name: &str, shape: &[usize], bias: bool) -> Self {
        let bias = bias.then(|| loader.values(&format!("{name}.bias"), &shape[..1]));
        let weight = loader.weights(&format!("{name}.weight"), shape, 1).remove(0);
        Self::new(weight, bias, loader.compute())
    }

    /// A linear map from loaded weights.
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

    /// Applies the map to every row.
    ///
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
            _ => unreachable!("the weights and matrices of a model are all on one device"),
        }
    }
}

/// Rows of `width` numbers, of which as many as `order` has are arranged in this order.
pub(super) fn in_order(rows: &[f32], width: usize, order: &[usize]) -> Vec<f32> {
    let heads = rows.chunks_exact(order.len() * width);
    heads.flat_map(|head| order.iter().flat_map(|row| &head[row * width..(row + 1) * width])).copied().collect()
}
