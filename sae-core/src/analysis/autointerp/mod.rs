//! Labels from a model: which examples of a feature it is shown, how it is asked, and how well its label tells examples that
//! it has not seen from samples where the feature is silent (*detection*). Asks nobody and reads no image.

mod cost;
mod items;
mod question;
mod score;
#[cfg(test)]
mod tests;

pub use cost::CostEstimate;
pub use items::{DetectionTask, Item, pool};
pub use question::{Crop, PromptPart, ask_for_label, ask_which_fire, label_of};
pub use score::DetectionScore;

/// Samples that a label is made from at most.
pub const SHOWN: usize = 10;
/// Samples where the feature fires that the label is tried on at most; as many again where it is silent.
pub const HELD_OUT: usize = 8;
/// Samples drawn from a run among which silent ones are looked for.
pub const POOL: usize = 64;
