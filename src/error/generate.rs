//! Why a model does not write.

use sae_core::error::{Hint, Setting};
use std::path::PathBuf;

/// What a generation could not do.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// No probe of this name.
    #[error("{sae} has no probe {asked}; it has: {}", if available.is_empty() { "none".into() } else { available.join(", ") })]
    NoProbe {
        /// The name.
        asked: String,
        /// The autoencoder.
        sae: String,
        /// The names of its probes.
        available: Vec<String>,
    },
    /// A probe that compares two answers.
    #[error(
        "the probe {name} compares two answers, and says nothing about a single one: a guard is a binary, ordinal, cost or linear probe"
    )]
    ComparesAnswers {
        /// The name.
        name: String,
    },
    /// A probe that reads something else than what is written.
    #[error("the probe {name} reads the {part} of a sample, but a guard has to read answers")]
    GuardPart {
        /// The name.
        name: String,
        /// What it reads.
        part: &'static str,
    },
    /// A share of false alarms, without known labels.
    #[error(
        "how often {name} flags harmless samples is not known: the run has no scores of it beside labels of yes and no, levels or costs"
    )]
    NoRates {
        /// The name.
        name: String,
    },
    /// A difference of means, without known labels.
    #[error("{name} has no labels that say which samples of the run are harmful, so there is no difference of means")]
    NoDirection {
        /// The name.
        name: String,
    },
    /// Another model than the one that the autoencoder reads.
    #[error("{} is not the model that the run was captured from, so the guard would judge what it has not learned", model.display())]
    OtherModel {
        /// The model.
        model: PathBuf,
    },
    /// Rounds, a stream or a steered correction without a guard or an autoencoder.
    #[error("{what} needs {needs}")]
    Needs {
        /// What was asked for.
        what: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// A tree with a guard.
    #[error(
        "answers that share beginnings are sampled as they are: a tree can have no guard, no rounds and no corrected sentences"
    )]
    GuardedTree,
    /// Turns are added to prompts that are no conversations.
    #[error("{what} needs prompts that are rendered with the chat template, because it adds turns to them")]
    NeedsTemplate {
        /// What was asked for.
        what: &'static str,
    },
    /// Answers would be refused that are not even flagged.
    #[error(
        "answers are refused above a severity of {refused}, which is below the one above which they are flagged ({flagged})"
    )]
    Levels {
        /// Above which they are flagged.
        flagged: f64,
        /// Above which they are refused at once.
        refused: f64,
    },
    /// A setting out of range.
    #[error("{0}")]
    OutOfRange(String),
    /// A folder with answers that were written otherwise.
    #[error("{} has answers that were written with other settings ({})", folder.display(), differing.join(", "))]
    OtherSettings {
        /// The folder.
        folder: PathBuf,
        /// The names of the settings.
        differing: Vec<String>,
    },
    /// A data set without prompts.
    #[error("no row of {} became a prompt{}", data.display(), first.as_ref().map(|first| format!(": {first}")).unwrap_or_default())]
    NoPrompts {
        /// The data set.
        data: PathBuf,
        /// Why the first row did not.
        first: Option<String>,
    },
}

impl GenerateError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::OtherSettings { .. } => Hint::Change(Setting::Output),
            Self::NoRates { .. } => "give a severity".into(),
            _ => return None,
        })
    }
}
