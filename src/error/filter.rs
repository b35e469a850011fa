//! Why a filter cannot choose.

use filters::score_names::RECOMMENDED;
use filters::select::Keep;
use sae_core::error::{Hint, Setting};
use std::path::PathBuf;

/// A filter that the samples or runs do not allow.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A number that samples do not have.
    #[error("samples have no number {asked} (there are {})", available.join(", "))]
    UnknownNumber {
        /// The name that was asked for.
        asked: String,
        /// Names that exist.
        available: Vec<String>,
        /// What asks for it.
        setting: Setting,
    },
    /// A field that does not hold numbers.
    #[error("{field} has to be a number, and a row has {value}")]
    NotNumber {
        /// The field.
        field: String,
        /// One of the values that are not numbers.
        value: String,
        /// What asks for it.
        setting: Setting,
    },
    /// A decision about a piece that stands for no row and no path.
    #[error(
        "sample {sample} ({key}) is to be kept, but it is a piece that others continue, or the rejected answer of its row"
    )]
    NoCandidate {
        /// The piece.
        sample: u32,
        /// Its key.
        key: String,
    },
    /// A promise without samples that were judged.
    #[error(
        "no sample with {field} can be used for a promise{}",
        if *trained > 0 {
            format!(": probes of the budget were fitted to {trained} of them, or to samples with the same images")
        } else {
            String::new()
        }
    )]
    NoJudged {
        /// The judged field.
        field: String,
        /// Judged samples that probes were fitted to.
        trained: usize,
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
    /// Budgets for a selection by features.
    #[error("only a selection by scores can keep budgets or whole units")]
    BudgetsNeedScores,
    /// Limits are to be tried of a budget that is not there, or is one of several.
    #[error("limits can be tried of one budget, and the selection has none or several")]
    NotOneBudget,
    /// A selection by scores without a score, where the table has no recommended one.
    #[error("a selection by scores needs a score, and no sample has a {}", RECOMMENDED.join(" or a "))]
    NoScore,
    /// Several amounts of which one has no folder of its own.
    #[error("several amounts have to be different shares or numbers of samples, and {amount} is not one")]
    Amounts {
        /// The amount.
        amount: Keep,
    },
    /// Several amounts of what has one.
    #[error("several amounts cannot be combined with {what}")]
    AmountsExclude {
        /// What has one amount.
        what: &'static str,
    },
    /// A shortlist for a selection that looks at no features, or at those of all samples.
    #[error("a shortlist is for samples that are diverse, or without near-duplicates")]
    NoShortlist,
    /// An estimate of how much to keep without a score.
    #[error("how much to keep is estimated from a score, and none decides")]
    NoScoreForEstimate,
}

impl FilterError {
    /// What can be done about it.
    pub fn hint(&self) -> Hint {
        match self {
            Self::UnknownNumber { setting, .. } | Self::NotNumber { setting, .. } => Hint::Change(*setting),
            Self::NoCandidate { .. } => {
                "name the last piece of a path (of two answers the chosen one), or the row by its key".into()
            }
            Self::NoJudged { trained: 0, .. } => Hint::Change(Setting::Judged),
            Self::NoJudged { .. } => "fit the probe to a part of the labels, in a field of its own".into(),
            Self::OtherAutoencoder { .. } => Hint::AnyOf(vec![
                Hint::Change(Setting::Sae),
                "import the autoencoder of this run into the target run under a name of its own".into(),
            ]),
            Self::NoShortlist => Hint::Unset(Setting::Shortlist),
            Self::NotOneBudget => Hint::Set(Setting::Budget, Vec::new()),
            Self::BudgetsNeedScores | Self::NoScore => Hint::Set(Setting::Score, Vec::new()),
            Self::AmountsExclude { .. } => Hint::Change(Setting::Keep),
            Self::Amounts { .. } => Hint::set(Setting::Keep, "10%,20%,30%"),
            Self::NoScoreForEstimate => Hint::AnyOf(vec![
                Hint::Set(Setting::Score, Vec::new()),
                Hint::set(Setting::Keep, "a share or a number"),
            ]),
        }
    }
}

/// Why nothing is kept, in words.
pub(super) fn nothing_kept(by: &Option<String>, keep: &Option<Keep>, without_score: usize, samples: usize) -> String {
    let Some(by) = by else { return format!(": the decisions keep none of {samples}") };
    let keep = keep.map_or(String::new(), |keep| format!(": {keep}"));
    format!("{keep} by {by} ({without_score} of {samples} have no score)")
}
