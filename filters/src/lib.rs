//! Which samples are worth training on: cross-modal weights, scores, rankings, selection, and the writing of kept rows.
//!
//! Data flows in one direction. A pass of `sae_core` feeds [`top_tokens::TopTokens`] and [`pooling::SamplePooler`]. [`weights`]
//! are computed from the former, and [`scores`] and [`pmi`] turn both into a table. [`select`] decides by one of its columns
//! ([`mod@column`]), and [`keep`] estimates how much to keep, unless [`decisions`] were made elsewhere. [`mod@write`] copies the
//! rows of the input. Every formula names its source. The [`definition`] of a score says whose definition it is.
//!
//! # Example
//!
//! Keep the better half of some samples by their scores:
//!
//! ```
//! use filters::select::{Decision, Groups, Keep, Rules, choose};
//!
//! let scores = [("a", Some(0.9)), ("b", Some(0.2)), ("c", None), ("d", Some(0.7))];
//! let scores = scores.map(|(id, score)| (id.to_string(), score));
//! let groups = Groups::one(scores.len());
//! let rules = Rules::new(Keep::Share(0.5), &groups);
//! let decisions = choose(&scores, &rules)?;
//! assert_eq!(decisions, [Decision::Kept, Decision::Below, Decision::NoScore, Decision::Kept]);
//! # Ok::<(), filters::Error>(())
//! ```
//!
//! The crate `sae_workbench` has the operations: its `ScoreRequest` scores the samples of a run, and its `FilterRequest` writes those
//! that are kept.

pub mod align;
pub mod auc;
pub mod column;
pub mod decisions;
pub mod definition;
mod error;
pub mod feedback;
pub mod hidden;
pub mod keep;
pub mod length;
pub mod pairs;
pub mod patches;
pub mod pmi;
pub mod pooling;
pub mod prediction;
pub mod probe;
pub mod rank;
pub mod score_names;
pub mod scores;
pub mod select;
pub mod top_tokens;
pub mod weights;
pub mod words;
pub mod write;

pub use definition::Definition;
pub use error::{Error, Result};

/// The activation threshold `d` of the paper: a feature is active on a token if `z > 1`. It was chosen for `d_in` 4096, where
/// scaled inputs have a mean norm of 64. [`scaled_threshold`] is the corresponding threshold for another width.
pub const PAPER_THRESHOLD: f32 = 1.0;

/// The paper's threshold, in proportion to the norm `sqrt(d_in)` to which inputs of width `d_in` are scaled.
pub fn scaled_threshold(d_in: usize) -> f32 {
    PAPER_THRESHOLD * (d_in as f32 / 4096.0).sqrt()
}

/// The activation above which a feature counts as active on a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Threshold {
    /// The paper's threshold, scaled to the width: [`scaled_threshold`].
    #[default]
    Auto,
    /// The same threshold for every width.
    At(f32),
}

impl Threshold {
    /// The threshold for activations of width `d_in`.
    pub fn for_width(self, d_in: usize) -> f32 {
        match self {
            Self::Auto => scaled_threshold(d_in),
            Self::At(threshold) => threshold,
        }
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::At(threshold) => threshold.fmt(f),
        }
    }
}

impl std::str::FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let threshold = text.parse::<f32>().ok().filter(|t| *t >= 0.0 && t.is_finite());
        threshold.map(Self::At).ok_or_else(|| format!("invalid threshold {text:?}: expected auto or a number from 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_number_or_the_scaled_one_of_the_paper() {
        let threshold = |text: &str| text.parse::<Threshold>().map(|t| t.for_width(256));
        assert_eq!((threshold("auto"), threshold("0.5"), threshold("0")), (Ok(0.25), Ok(0.5), Ok(0.0)));
        assert_eq!(Threshold::Auto.for_width(4096), PAPER_THRESHOLD);
        for wrong in ["", "-1", "NaN", "inf", "most"] {
            assert!(threshold(wrong).unwrap_err().contains("expected auto or a number"), "{wrong}");
        }
        assert_eq!((Threshold::Auto.to_string(), Threshold::At(0.5).to_string()), ("auto".into(), "0.5".into()));
    }
}
