//! The step of TopK, BatchTopK and Matryoshka on a GPU: the encoder's product in bf16 for some tokens at a time, which
//! only finds candidates; everything that follows is sparse and in `f32`, from master weights in `f32`.
//!
//! The kernels are CubeCL's and know no vendor; what runs them is any CubeCL client. Other architectures are not here:
//! [`super::autodiff`] trains them. Sums have a fixed order, so that equal seeds give equal bits on one kind of GPU.

mod entries;
mod forward;
mod memory;
mod select;
mod sparse;
mod state;
mod update;

pub use state::{GpuEngine, PRODUCT_BYTES};

/// Cubes for `rows` rows, a cube each.
fn cubes(rows: usize) -> cubecl::prelude::CubeCount {
    cubecl::prelude::CubeCount::Static(rows as u32, 1, 1)
}

/// Cubes for pieces of rows and blocks of `d` columns.
fn blocks(rows: usize, d: usize) -> cubecl::prelude::CubeCount {
    cubecl::prelude::CubeCount::Static(rows as u32, d.div_ceil(select::UNITS) as u32, 1)
}

/// The size of every cube.
fn units() -> cubecl::prelude::CubeDim {
    cubecl::prelude::CubeDim::new_1d(select::UNITS as u32)
}
