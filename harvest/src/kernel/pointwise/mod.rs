//! Operations on single rows or values on the CPU: norms, activation functions, and rotary positions.

mod activation;
mod norm;
mod rotary;
#[cfg(test)]
mod tests;

pub use activation::Activation;
pub use norm::{layer_norm, rms_norm};
pub use rotary::rotate;

/// Number of values in a unit of work of a thread.
const CHUNK: usize = 1 << 14;

/// How many rows of a width have about [`CHUNK`] values.
fn rows_of(width: usize) -> usize {
    (CHUNK / width).max(1)
}
