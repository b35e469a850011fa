//! The encoder's product on a CPU, which computes only the few features that are active.
//!
//! A sparse autoencoder keeps one in a hundred or fewer of the `[rows, d_sae]` pre-activations, so the product only has to
//! *find* those. [`panels`] holds the encoder in 16-bit integers, `tile` multiplies them (exactly, faster than `f32`, with
//! the same result on every processor), and [`mod@select`] keeps the features that the proven error bound of the rounding
//! cannot rule out, and computes them again in `f32`. No array of size `[rows, d_sae]` is ever allocated.
//!
//! Sums of `f32` are in [`vector`](crate::vector), in one order on every processor.

pub mod panels;
pub mod product;
pub mod select;
mod tile;

pub use panels::Panels;
pub use select::{Rule, select};

/// Runs work compiled for the widest vector instructions of this processor, if the closure is `#[inline(always)]`.
///
/// `FnMut`, since a closure that could run more than once, but is called as `FnOnce`, is called by a function in between
/// that the compiler does not inline, and so is compiled without those instructions.
#[inline(always)]
pub(crate) fn wide<T>(work: impl FnMut() -> T) -> T {
    struct Work<F>(F);
    impl<T, F: FnMut() -> T> pulp::NullaryFnOnce for Work<F> {
        type Output = T;

        #[inline(always)]
        fn call(mut self) -> T {
            (self.0)()
        }
    }
    arch().dispatch(Work(work))
}

/// The widest vector instructions of this processor.
pub(crate) fn arch() -> pulp::Arch {
    pulp::Arch::new()
}
