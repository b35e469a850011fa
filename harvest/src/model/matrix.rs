//! A matrix of `f32` in memory, or a tensor on a device, with the operations on rows that models need. Knows no
//! weights.

use super::compute::Compute;
use crate::Result;
use crate::kernel::pointwise::Activation;
use burn::tensor::activation::{gelu, gelu_approximate, relu, sigmoid, silu};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use sae_core::device::failed;
use std::ops::Range;

/// A matrix of numbers.
#[expect(clippy::large_enum_variant, reason = "there are few instances, and their content is large anyway")]
#[derive(Clone, Debug)]
pub(super) enum Matrix {
    /// In memory, row-major.
    Host {
        values: Vec<f32>,
        width: usize,
    },
    Device(Tensor<2>),
}

impl Matrix {
    /// A matrix from row-major values, on the device that computes.
    ///
    /// # Shapes
    /// `[values.len() / width, width]`.
    pub fn new(values: Vec<f32>, width: usize, compute: &Compute) -> Self {
        match compute {
            Compute::Host { .. } => Self::Host { values, width },
            Compute::Device(device, dtype) => {
                let rows = values.len() / width.max(1);
                Self::Device(Tensor::from_data(TensorData::new(values, [rows, width]), (device, *dtype)))
            }
        }
    }

    pub fn width(&self) -> usize {
        match self {
            Self::Host { width, .. } => *width,
            Self::Device(x) => x.dims()[1],
        }
    }

    pub fn rows(&self) -> usize {
        match self {
            Self::Host { values, width } => values.len() / (*width).max(1),
            Self::Device(x) => x.dims()[0],
        }
    }

    /// All numbers, row by row.
    ///
    /// # Errors
    /// The device failed.
    pub fn into_values(self) -> Result<Vec<f32>> {
        match self {
            Self::Host { values, .. } => Ok(values),
            Self::Device(x) => {
                let data = x.try_into_data().map_err(failed)?;
                Ok(data.convert::<f32>().try_into_vec().map_err(failed)?)
            }
        }
    }

    /// The same numbers in rows of another width.
    pub fn reshape(self, new: usize) -> Self {
        match self {
            Self::Host { values, .. } => Self::Host { values, width: new },
            Self::Device(x) => {
                let [rows, width] = x.dims();
                Self::Device(x.reshape([rows * width / new, new]))
            }
        }
    }

    /// The sum of two matrices.
    ///
    /// # Shapes
    /// Both have the same shape.
    pub fn add(self, other: Self) -> Self {
        match (self, other) {
            (Self::Host { mut values, width }, Self::Host { values: other, .. }) => {
                let chunks = values.par_chunks_mut(CHUNK).zip(other.par_chunks(CHUNK));
                chunks.for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| *a += b));
                Self::Host { values, width }
            }
            (Self::Device(a), Self::Device(b)) => Self::Device(a + b),
            _ => mixed(),
        }
    }

    /// Multiplies every number by a factor.
    pub fn scale(self, factor: f32) -> Self {
        match self {
            Self::Host { mut values, width } => {
                values.iter_mut().for_each(|x| *x *= factor);
                Self::Host { values, width }
            }
            Self::Device(x) => Self::Device(x * factor),
        }
    }

    /// Multiplies every row by its own factor.
    pub fn scale_rows(self, factors: Vec<f32>) -> Self {
        match self {
            Self::Host { mut values, width } => {
                let rows = values.par_chunks_exact_mut(width.max(1)).zip(&factors);
                rows.for_each(|(row, factor)| row.iter_mut().for_each(|x| *x *= factor));
                Self::Host { values, width }
            }
            Self::Device(x) => {
                let shape = [factors.len(), 1];
                let factors: Tensor<2> = Tensor::from_data(TensorData::new(factors, shape), (&x.device(), x.dtype()));
                Self::Device(x * factors)
            }
        }
    }

    /// The rows with these numbers, in this order.
    pub fn gather(&self, rows: &[u32]) -> Self {
        match self {
            Self::Host { values, width } => {
                let width = *width;
                let mut out = vec![0.0; rows.len() * width];
                let pairs = out.par_chunks_exact_mut(width.max(1)).zip(rows);
                pairs.for_each(|(out, row)| out.copy_from_slice(&values[*row as usize * width..][..width]));
                Self::Host { values: out, width }
            }
            Self::Device(x) => {
                let rows = indices(rows, &x.device());
                Self::Device(x.clone().select(0, rows))
            }
        }
    }

    /// Consecutive rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Host { values, width } => {
                Self::Host { values: values[rows.start * width..rows.end * width].to_vec(), width: *width }
            }
            Self::Device(x) if rows == (0..x.dims()[0]) => Self::Device(x.clone()),
            Self::Device(x) => Self::Device(x.clone().slice([rows])),
        }
    }

    /// Adds consecutive rows of another matrix at the end. On a device, this copies all rows.
    pub fn append(&mut self, other: &Self, rows: Range<usize>) {
        match (&mut *self, other) {
            (Self::Host { values, .. }, Self::Host { values: other, width }) => {
                values.extend_from_slice(&other[rows.start * width..rows.end * width]);
            }
            _ => *self = Self::stack_rows(vec![self.clone(), other.slice(rows)]),
        }
    }

    /// Removes the rows from number `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        match self {
            Self::Host { values, width } => values.truncate(rows * *width),
            Self::Device(_) => *self = self.slice(0..rows),
        }
    }

    /// `self[rows[n]] += other[n]`, for distinct rows.
    pub fn add_at(self, rows: &[u32], other: &Self) -> Self {
        match (self, other) {
            (Self::Host { mut values, width }, Self::Host { values: other, .. }) => {
                for (row, other) in rows.iter().zip(other.chunks_exact(width)) {
                    let row = &mut values[*row as usize * width..][..width];
                    row.iter_mut().zip(other).for_each(|(a, b)| *a += b);
                }
                Self::Host { values, width }
            }
            (Self::Device(x), Self::Device(other)) => {
                let rows = indices(rows, &x.device());
                Self::Device(x.select_assign(0, rows, other.clone(), burn::tensor::IndexingUpdateOp::Add))
            }
            _ => mixed(),
        }
    }

    /// Puts matrices of the same width one below the other.
    pub fn stack_rows(parts: Vec<Self>) -> Self {
        let is_host = matches!(parts.first(), Some(Self::Host { .. }));
        if !is_host {
            return Self::Device(Tensor::cat(parts.into_iter().map(Self::into_tensor).collect(), 0));
        }
        let width = parts[0].width();
        let values = parts.into_iter().map(Self::into_host);
        let values = values.reduce(|mut all, part| {
            all.extend_from_slice(&part);
            all
        });
        Self::Host { values: values.unwrap_or_default(), width }
    }

    /// Puts matrices with the same number of rows side by side.
    pub fn concat_columns(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let (rows, widths) = (parts[0].rows(), parts.iter().map(Self::width).collect::<Vec<_>>());
        if !matches!(parts[0], Self::Host { .. }) {
            return Self::Device(Tensor::cat(parts.into_iter().map(Self::into_tensor).collect(), 1));
        }
        let parts: Vec<_> = parts.into_iter().map(Self::into_host).collect();
        let mut values = Vec::with_capacity(parts.iter().map(Vec::len).sum());
        for row in 0..rows {
            for (part, width) in parts.iter().zip(&widths) {
                values.extend_from_slice(&part[row * width..][..*width]);
            }
        }
        Self::Host { values, width: widths.iter().sum() }
    }

    /// The means of groups of consecutive rows.
    pub fn mean_of_groups(self, group: usize) -> Self {
        match self {
            Self::Host { values, width } => {
                let groups = values.chunks_exact(group * width).flat_map(|rows| {
                    let mut sum = vec![0.0; width];
                    for row in rows.chunks_exact(width) {
                        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                    }
                    sum.into_iter().map(|x| x / group as f32)
                });
                Self::Host { values: groups.collect(), width }
            }
            Self::Device(x) => {
                let [rows, width] = x.dims();
                Self::Device(x.reshape([rows / group, group, width]).mean_dim(1).reshape([rows / group, width]))
            }
        }
    }

    /// Applies an activation function to every number.
    pub fn activate(self, activation: Activation) -> Self {
        match self {
            Self::Host { mut values, width } => {
                activation.apply(&mut values);
                Self::Host { values, width }
            }
            Self::Device(x) => Self::Device(activated(x, activation)),
        }
    }

    /// `activation(self) * up`.
    pub fn gate(self, activation: Activation, up: Self) -> Self {
        match (self, up) {
            (Self::Host { mut values, width }, Self::Host { values: up, .. }) => {
                activation.gate(&mut values, &up);
                Self::Host { values, width }
            }
            (Self::Device(gate), Self::Device(up)) => Self::Device(activated(gate, activation) * up),
            _ => mixed(),
        }
    }

    /// `(self - shift) * factor`, column by column.
    ///
    /// # Shapes
    /// `shift` and `factor`: one row as wide as the matrix.
    pub fn standardize(self, shift: &Self, factor: &Self) -> Self {
        match (self, shift, factor) {
            (Self::Host { mut values, width }, Self::Host { values: shift, .. }, Self::Host { values: factor, .. }) => {
                for row in values.chunks_exact_mut(width) {
                    row.iter_mut().zip(shift).zip(factor).for_each(|((x, shift), factor)| *x = (*x - shift) * factor);
                }
                Self::Host { values, width }
            }
            (Self::Device(x), Self::Device(shift), Self::Device(factor)) => {
                Self::Device((x - shift.clone()) * factor.clone())
            }
            _ => mixed(),
        }
    }

    /// `limit * tanh(self / limit)`.
    pub fn cap(self, limit: f32) -> Self {
        match self {
            Self::Host { mut values, width } => {
                values.par_chunks_mut(CHUNK).for_each(|x| x.iter_mut().for_each(|x| *x = limit * (*x / limit).tanh()));
                Self::Host { values, width }
            }
            Self::Device(x) => Self::Device((x / limit).tanh() * limit),
        }
    }

    /// Sets these columns to the lowest number.
    pub fn mask_columns(self, columns: &[u32]) -> Self {
        match self {
            Self::Host { mut values, width } => {
                for row in values.chunks_exact_mut(width) {
                    columns.iter().for_each(|column| row[*column as usize] = f32::MIN);
                }
                Self::Host { values, width }
            }
            Self::Device(x) => {
                let mut mask = vec![0.0; x.dims()[1]];
                columns.iter().for_each(|column| mask[*column as usize] = f32::MIN);
                let shape = [1, mask.len()];
                let mask: Tensor<2> = Tensor::from_data(TensorData::new(mask, shape), (&x.device(), DType::F32));
                Self::Device(x.cast(DType::F32) + mask)
            }
        }
    }

    /// The matrix as a tensor, on its device or on Burn's CPU device.
    pub fn into_tensor(self) -> Tensor<2> {
        match self {
            Self::Host { values, width } => {
                let rows = values.len() / width.max(1);
                Tensor::from_data(TensorData::new(values, [rows, width]), &Device::flex())
            }
            Self::Device(x) => x,
        }
    }

    /// The numbers of a matrix in memory, row by row.
    ///
    /// # Panics
    /// If it is on a device.
    pub fn host(&self) -> &[f32] {
        match self {
            Self::Host { values, .. } => values,
            Self::Device(_) => mixed(),
        }
    }

    fn into_host(self) -> Vec<f32> {
        match self {
            Self::Host { values, .. } => values,
            Self::Device(_) => mixed(),
        }
    }
}

/// How many numbers a thread processes at a time.
const CHUNK: usize = 1 << 14;

/// All matrices of a model are on the same device, because only the model creates them.
fn mixed() -> ! {
    unreachable!("the matrices of a model are all on one device")
}

fn activated(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Silu => silu(x),
        Activation::Gelu => gelu(x),
        Activation::GeluPytorchTanh => gelu_approximate(x),
        Activation::QuickGelu => x.clone() * sigmoid(x * 1.702),
        Activation::Relu => relu(x),
    }
}

/// Row numbers as a tensor on a device.
pub(super) fn indices(rows: &[u32], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|row| i64::from(*row)).collect();
    let shape = [rows.len()];
    Tensor::from_data(TensorData::new(rows, shape), device)
}
