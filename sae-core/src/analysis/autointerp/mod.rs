//! Labels from a language model: which examples of a feature it is shown, what it is asked, and how well its label separates
//! unseen examples from positions where the feature is silent (*detection*). Sends nothing and reads no image.

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
/// Samples where the feature fires that the label is tested on at most; as many samples where it is silent are added.
pub const HELD_OUT: usize = 8;
/// Samples of a run in which silent positions are looked for.
pub const POOL: usize = 64;
