//! The encoder's product on a CPU, where only the few features that survive are wanted.
//!
//! Of the `[rows, d_sae]` pre-activations a sparse autoencoder keeps one in a hundred or less, so the product only has
//! to *find* those. [`panels`] holds the encoder in 16-bit integers, `tile` multiplies them (exactly, faster than
//! `f32`, the same integers on every processor), and [`mod@select`] keeps whatever the proven error of the rounding cannot
//! rule out and computes it again in `f32`. Nothing of size `[rows, d_sae]` is ever held.
//!
//! Never knows what a feature is for; never trains. Sums of `f32` live in [`vector`](crate::vector), in one order on every processor.

pub mod panels;
pub mod product;
pub mod select;
mod tile;

pub use panels::Panels;
pub use select::{Rule, select};

/// The widest vector instructions of this processor.
pub(crate) fn arch() -> pulp::Arch {
    pulp::Arch::new()
}
