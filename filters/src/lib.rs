//! Which samples are worth training on: cross-modal weights, scores, rankings, selection, and the writing of kept rows.
//!
//! Data flows one way: a pass of `sae_core` feeds [`weights::TopTokens`] and [`active::ActiveSets`]; [`scores`] turns
//! both into a table; [`select`] decides by one of its columns; [`write`] copies the rows of the input. Formulas carry
//! their source. A score's mode says whose definition it is: `paper` as published (SAE-V, ICML 2025).

pub mod active;
pub mod auc;
pub mod scores;
pub mod select;
pub mod weights;
pub mod write;

/// What can go wrong while scoring and filtering.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the run, or a file that was to be written.
    #[error(transparent)]
    Core(#[from] sae_core::Error),
    /// A request that the data cannot meet.
    #[error("{0}")]
    Request(String),
    /// The input rows are not what they were when the run was made.
    #[error("{cause}: {path}")]
    Source {
        /// What is wrong.
        cause: String,
        /// The input file.
        path: std::path::PathBuf,
    },
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The activation threshold `d` of the paper: a feature is active on a token when `z > 1`.
pub const ACTIVE_ABOVE: f32 = 1.0;
