//! Where a model computes, and a weight in the form that is used there. Data only.

use crate::kernel::linear::Packed;
use burn::tensor::{DType, Device, Tensor};

/// Where a model computes, and the number format of its weights.
#[derive(Clone, Debug)]
pub enum Compute {
    /// On the CPU with this crate's kernels. Activations and sums are `f32`.
    Host {
        /// Whether the weights of linear maps are held in `bf16`.
        bf16: bool,
    },
    /// On a device with Burn.
    Device(Device, DType),
}

impl Compute {
    /// The fastest way to compute on a device. Burn's CPU device stands for the CPU.
    pub fn on(device: &Device, dtype: DType) -> Self {
        if *device == Device::flex() {
            Self::Host { bf16: dtype == DType::BF16 }
        } else {
            Self::Device(device.clone(), dtype)
        }
    }
}

/// A weight matrix `[d_out, d_in]` where the model computes.
pub(super) enum Weight {
    Host(Packed),
    Device(Tensor<2>),
}
