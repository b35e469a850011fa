//! Why a filter cannot choose.

use sae_core::error::{Hint, Setting};
use std::path::PathBuf;

/// A filter that the samples or runs do not allow.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A number for quantiles that samples do not have.
    #[error("samples have no number {asked} (there are {})", available.join(", "))]
    UnknownNumber {
        /// The name that was asked for.
        asked: String,
        /// Names that exist.
        available: Vec<String>,
    },
    /// A field for quantiles that does not hold numbers.
    #[error("quantiles of {field} need numbers, and a row has {value}")]
    NotNumber {
        /// The field.
        field: String,
        /// One of the values that are not numbers.
        value: String,
    },
    /// A target run with a different autoencoder of the same name.
    #[error(
        "the target run has a different autoencoder {name} (BLAKE3 {}..., here {}...): {}",
        &theirs[..theirs.len().min(12)],
        &ours[..ours.len().min(12)],
        path.display()
    )]
    OtherAutoencoder {
        /// The name of both.
        name: String,
        /// The hash of the weights in the target run.
        theirs: String,
        /// The hash of the weights in the filtered run.
        ours: String,
        /// The target run.
        path: PathBuf,
    },
    /// A selection by scores without a score.
    #[error("a selection by scores needs a score")]
    NoScore,
    /// An estimate of how much to keep without a score.
    #[error("how much to keep is estimated from a score, and none decides")]
    NoScoreForEstimate,
}

impl FilterError {
    /// What can be done about it.
    pub fn hint(&self) -> Hint {
        match self {
            Self::UnknownNumber { .. } | Self::NotNumber { .. } => Hint::Change(Setting::Within),
            Self::OtherAutoencoder { .. } => Hint::AnyOf(vec![
                Hint::Change(Setting::Sae),
                "import the autoencoder of this run into the target run under a name of its own".into(),
            ]),
            Self::NoScore => Hint::Set(Setting::Score, Vec::new()),
            Self::NoScoreForEstimate => Hint::AnyOf(vec![
                Hint::Set(Setting::Score, Vec::new()),
                Hint::set(Setting::Keep, "a share or a number"),
            ]),
        }
    }
}
