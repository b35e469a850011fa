//! What models are made of: matrices, linear maps, norms, attention, rotary positions. Each computes on the CPU by this
//! crate's kernels and elsewhere by Burn's, behind one interface; whoever builds a model of them does not see which.
//!
//! A matrix holds rows of all samples one behind the other, without padding.

mod attention;
mod linear;
mod matrix;
mod norm;
mod rotary;

pub(super) use attention::{VisibleKeys, attention};
pub(super) use linear::{Linear, Weight};
pub(super) use matrix::{Matrix, indices};
pub(super) use norm::Norm;
pub(super) use rotary::Rotary;

use burn::tensor::{DType, Device};

/// Where a model computes, and what its weights are held in.
#[derive(Clone, Debug)]
pub enum Compute {
    /// On the CPU by this crate's kernels: activations and sums are `f32`.
    Host {
        /// Whether linear maps hold their weights in `bf16`.
        bf16: bool,
    },
    /// By Burn.
    Device(Device, DType),
}

impl Compute {
    /// The fastest way on a device: Burn's CPU backend stands for the CPU.
    pub fn on(device: &Device, dtype: DType) -> Self {
        match *device == Device::flex() {
            true => Self::Host { bf16: dtype == DType::BF16 },
            false => Self::Device(device.clone(), dtype),
        }
    }
}
