//! What trains on a GPU: the sparse engine for the TopK family, Burn's autodiff for the others, if it fits into memory.
//! Opens no device.

use super::autodiff::AutodiffEngine;
use super::config::TrainConfig;
use super::cuda::{GpuEngine, PRODUCT_BYTES};
use super::engine::Engine;
use super::fit::Needs;
use super::params::Params;
use crate::device::Gpu;
use crate::{Error, Result};
use burn::tensor::Device;
use cubecl::prelude::Scalar;

/// The engine for a device that is a GPU, nothing for others.
pub(super) fn engine(config: &TrainConfig, params: &Params, device: &Device) -> Result<Option<Box<dyn Engine>>> {
    let Some(gpu) = Gpu::of(device) else { return Ok(None) };
    if config.is_topk() {
        return Ok(Some(Box::new(sparse(config, params.clone(), device)?)));
    }
    if let Some(free) = gpu.free() {
        Needs::dense(config, params.d_in).check(free)?;
    }
    Ok(Some(Box::new(AutodiffEngine::new(config, params.clone(), &device.clone().autodiff()))))
}

/// The sparse engine, with its product in bf16.
///
/// # Errors
/// A device that is no GPU or has too little free memory.
pub fn sparse(config: &TrainConfig, params: Params, device: &Device) -> Result<GpuEngine> {
    let gpu = Gpu::of(device).ok_or_else(|| Error::device("the sparse step of a GPU needs a GPU"))?;
    if let Some(free) = gpu.free() {
        Needs::sparse(config, params.d_in, PRODUCT_BYTES).check(free)?;
    }
    let narrow = half::bf16::elem_type_native();
    Ok(GpuEngine::new(config, params, gpu.client(), narrow, PRODUCT_BYTES))
}
