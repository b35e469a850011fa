//! What the CPU computes of a transformer, on slices of `f32`: linear maps with weights packed once, attention with a
//! range of visible keys a row, norms, activations, rotary positions. Knows nothing of models, devices or Burn.
//!
//! Every row of a result depends on its own inputs alone and is summed in one order, so that neither the other rows of a
//! batch nor the number of threads change a bit of it.

mod aligned;
pub mod attention;
mod isa;
pub mod linear;
pub mod pointwise;
mod pool;
mod tile;
mod vector;
