//! Rotary positions in the half-split form of Llama: element `i` of a head is rotated together with element
//! `i + head_dim / 2`.

use super::super::compute::Compute;
use super::super::matrix::Matrix;
use crate::kernel::pointwise;
use burn::tensor::Tensor;

/// The rotations of the rows of a batch.
pub(in super::super) struct Rotary {
    head_dim: usize,
    /// `[rows, head_dim / 2]`.
    cos: Matrix,
    sin: Matrix,
}

impl Rotary {
    /// Rotations by `angles`. Their sines and cosines are multiplied by `magnitude`.
    ///
    /// # Shapes
    /// `angles` `[rows, head_dim / 2]`.
    pub fn new(angles: &[f32], head_dim: usize, magnitude: f32, compute: &Compute) -> Self {
        let table = |function: fn(f32) -> f32| {
            let values = angles.iter().map(|angle| function(*angle) * magnitude).collect();
            Matrix::new(values, head_dim / 2, compute)
        };
        Self { head_dim, cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Rotates every head of every row.
    ///
    /// # Shapes
    /// `[rows, heads * head_dim]`, in and out.
    pub fn forward(&self, x: Matrix) -> Matrix {
        match (x, &self.cos, &self.sin) {
            (
                Matrix::Host { mut values, width },
                Matrix::Host { values: cos, .. },
                Matrix::Host { values: sin, .. },
            ) => {
                pointwise::rotate(&mut values, self.head_dim, cos, sin);
                Matrix::Host { values, width }
            }
            (Matrix::Device(x), Matrix::Device(cos), Matrix::Device(sin)) => {
                let [rows, width] = x.dims();
                let half = self.head_dim / 2;
                let x = x.reshape([rows, width / self.head_dim, self.head_dim]);
                let (first, second) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
                let table = |x: &Tensor<2>| x.clone().unsqueeze_dim::<3>(1);
                let rotated = [
                    first.clone() * table(cos) - second.clone() * table(sin),
                    second * table(cos) + first * table(sin),
                ];
                Matrix::Device(Tensor::cat(rotated.into(), 2).reshape([rows, width]))
            }
            _ => unreachable!("the matrices of a model are all on one device"),
        }
    }
}
