//! The building blocks of models: linear maps, norms, attention, rotary positions. On the CPU each is computed by this
//! crate's kernels, elsewhere by Burn's, behind a common interface that hides the difference.
//!
//! A matrix contains the rows of all samples one after the other, without padding.

mod attention;
mod linear;
mod norm;
mod rotary;

pub(super) use attention::{Continued, VisibleKeys, attention, attention_after};
pub(super) use linear::Linear;
pub(super) use norm::Norm;
pub(super) use rotary::Rotary;
