//! Training on a GPU: the sparse step of all architectures, and the choice of the engine. Opens no device.
//!
//! The encoder's product, in the narrowest type that the GPU computes, only finds candidates; everything that follows is
//! sparse and in `f32`, from master weights in `f32`. The kernels are written once in CubeCL, which compiles them for CUDA,
//! Vulkan, Metal and ROCm. Sums have a fixed order, so that equal seeds give equal bits on one kind of GPU. Architectures
//! that learn their sparsity train in Burn's autodiff ([`super::autodiff`]) until few features are active
//! (`learned_sparsity`).
#![expect(clippy::manual_div_ceil, clippy::needless_range_loop, reason = "kernels have the words that CubeCL compiles")]

mod activation;
mod backward;
mod entries;
mod exchange;
mod forward;
mod group;
mod learned_sparsity;
mod memory;
mod select;
mod sparse;
mod state;
mod thresholds;
mod topk;
mod update;

#[cfg(test)]
mod failure;
#[cfg(test)]
pub use memory::WAITS;
pub use state::{GpuEngine, PRODUCT_BYTES};

use learned_sparsity::LearnedSparsityEngine;

use super::config::TrainConfig;
use super::engine::Engine;
use super::feature_share::FeatureShare;
use super::fit::Needs;
use super::params::Params;
use crate::device::Gpu;
use crate::{Error, Result};
use burn::tensor::Device;
use cubecl::prelude::{CubeCount, CubeDim};

/// The engine for a GPU. With several ranks the architecture has to be one of the TopK family.
pub(super) fn engine(
    config: &TrainConfig,
    params: Params,
    device: &Device,
    gpu: &Gpu,
    share: FeatureShare,
) -> Result<Box<dyn Engine>> {
    if config.is_topk() {
        return Ok(Box::new(sparse_with_share(config, params, gpu, share)?));
    }
    if let Some(free) = gpu.free() {
        Needs::dense(config, params.d_in).check(free)?;
    }
    Ok(Box::new(LearnedSparsityEngine::new(config, params, device, gpu.client(), gpu.narrow())))
}

/// The sparse engine, with its product in the narrowest type that the GPU has.
///
/// # Errors
/// A device that is no GPU or has too little free memory.
pub fn sparse(config: &TrainConfig, params: Params, device: &Device) -> Result<GpuEngine> {
    let gpu = Gpu::from_device(device).ok_or_else(|| Error::device("the sparse step of a GPU needs a GPU"))?;
    let share = FeatureShare::whole(params.d_sae);
    sparse_with_share(config, params, &gpu, share)
}

/// The same for the features of a share. The GPU never holds others.
pub(super) fn sparse_with_share(
    config: &TrainConfig,
    params: Params,
    gpu: &Gpu,
    share: FeatureShare,
) -> Result<GpuEngine> {
    if let Some(free) = gpu.free() {
        Needs::sparse(config, params.d_in, share.features().len(), PRODUCT_BYTES).check(free)?;
    }
    Ok(GpuEngine::with_share(config, params, share, gpu.client(), gpu.narrow(), PRODUCT_BYTES))
}

/// Cubes along one dimension that every device allows; Vulkan need not allow more.
const MOST_CUBES: usize = 65_535;

/// At least `n` cubes, numbered by `CUBE_POS`. If there are more than fit into one dimension, the last numbers may be `n` or
/// higher, which kernels have to ignore.
fn cubes(n: usize) -> CubeCount {
    let second = n.div_ceil(MOST_CUBES).max(1);
    CubeCount::Static(n.div_ceil(second) as u32, second as u32, 1)
}

/// Cubes with at least one unit for each of `n` elements, numbered by `ABSOLUTE_POS`.
fn elements(n: usize) -> CubeCount {
    cubes(n.div_ceil(select::UNITS))
}

/// One cube for each token, numbered by `CUBE_POS_X`; [`GpuEngine`] checks that a batch is not too large for that.
fn tokens(n: usize) -> CubeCount {
    CubeCount::Static(n as u32, 1, 1)
}

/// The number of blocks of [`select::UNITS`] columns.
fn blocks(d: usize) -> usize {
    d.div_ceil(select::UNITS)
}

/// The size of every cube.
fn units() -> CubeDim {
    CubeDim::new_1d(select::UNITS as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubes_fit_into_the_dimensions_of_every_device() {
        for n in [1, 65_535, 65_536, 65_537, 1_000_003, 16_384 * 4096] {
            let CubeCount::Static(x, y, 1) = cubes(n) else { panic!("three dimensions") };
            assert!(x as usize <= MOST_CUBES && y as usize <= MOST_CUBES, "{n}");
            let all = x as usize * y as usize;
            assert!(all >= n && all < n + y as usize, "{n}: {all}");
        }
    }
}
