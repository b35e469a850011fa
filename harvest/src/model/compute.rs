//! Where a model computes, and a weight in the form that is used there. Data only.

use crate::kernel::linear::Packed;
use burn::tensor::{DType, Device, Tensor};
use sae_core::error::{Cause, Hint, Setting};

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

    /// Whether the device computes in the number format. Burn's results are wrong, without an error, where it does not.
    ///
    /// # Errors
    /// The device has no arithmetic in this format, as many Vulkan drivers have none in `bf16`.
    pub(super) fn check(&self) -> sae_core::Result<()> {
        match self {
            Self::Device(device, dtype) if !device.supports_dtype(*dtype) => {
                let text = format!("the device does not compute in {}", dtype.name());
                let hint = Hint::set(Setting::ComputeDtype, "f32");
                Err(sae_core::Error::Device(Cause::with_hint(text, hint)))
            }
            _ => Ok(()),
        }
    }
}

/// A weight matrix `[d_out, d_in]` where the model computes.
pub(super) enum Weight {
    Host(Packed),
    Device(Tensor<2>),
}
