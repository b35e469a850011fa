//! The operations of a transformer on the CPU, on slices of `f32`: linear maps with weights that are packed once, attention
//! with a range of visible keys per row, norms, activations, and rotary positions. Knows no models, devices or Burn types.
//!
//! Every row of a result depends only on its own inputs and is summed in a fixed order. Neither the other rows of a batch
//! nor the number of threads change a single bit of it.

mod aligned;
pub mod attention;
mod isa;
pub mod linear;
pub mod pointwise;
mod pool;
mod tile;
mod vector;
