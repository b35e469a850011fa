//! What is done to every row or number alone on the CPU: norms, activation functions, rotary positions.

mod activation;
mod norm;
mod rotary;
#[cfg(test)]
mod tests;

pub use activation::Activation;
pub use norm::{layer_norm, rms_norm};
pub use rotary::rotate;

/// Numbers that one thread does at a time.
const CHUNK: usize = 1 << 14;

/// Rows of a width that make up about [`CHUNK`] numbers.
fn rows_of(width: usize) -> usize {
    (CHUNK / width).max(1)
}
