//! Labels from a model: which examples of a feature it is shown, how it is asked, and how well its label tells examples that
//! it has not seen from samples where the feature is silent (*detection*). Asks nobody and reads no image.

mod items;
mod outlook;
mod question;
#[cfg(test)]
mod tests;
mod verdict;

pub use items::{Item, Trial, pool};
pub use outlook::Outlook;
pub use question::{Crop, Part, ask_for_label, ask_which_fire, label_of};
pub use verdict::Verdict;

/// Samples that a label is made from at most.
pub const SHOWN: usize = 10;
/// Samples where the feature fires that the label is tried on at most; as many again where it is silent.
pub const HELD_OUT: usize = 8;
/// Samples drawn from a run among which silent ones are looked for.
pub const POOL: usize = 64;
