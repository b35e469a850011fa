//! The error type of this crate: what is wrong, where, and a typed hint about what can be done.

use sae_core::error::{Cause, Hint, Operation, Setting};
use std::path::{Path, PathBuf};

/// What can go wrong while scoring and filtering.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the run, or a file that was to be written.
    #[error(transparent)]
    Core(#[from] sae_core::Error),
    /// A request that the data cannot meet.
    #[error("{}", .0.text)]
    Request(Cause),
    /// The run has no table of scores.
    #[error("there are no scores: {path}")]
    NoScores {
        /// Where the table would be.
        path: PathBuf,
    },
    /// The table of scores has no such column.
    #[error("there is no score {asked} (the table has {})", available.join(", "))]
    UnknownScore {
        /// The column that was asked for.
        asked: String,
        /// Columns of scores in the table.
        available: Vec<String>,
    },
    /// No row has the field that was to divide samples into groups.
    #[error("no row has a field {asked} to group by ({})", fields(available))]
    UnknownField {
        /// The field that was asked for.
        asked: String,
        /// Fields of the rows.
        available: Vec<String>,
    },
    /// The input rows are not what they were when the run was made, or what they have to be.
    #[error("{}: {path}", cause.text)]
    Source {
        /// What is wrong.
        cause: Cause,
        /// The input file.
        path: PathBuf,
    },
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What a person can do about the error, where that is known.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Core(error) => error.hint(),
            Self::Request(cause) | Self::Source { cause, .. } => cause.hint.clone(),
            Self::NoScores { .. } => Some(Hint::Run(Operation::Score)),
            Self::UnknownScore { .. } => Some(Hint::Change(Setting::Score)),
            Self::UnknownField { .. } => Some(Hint::Change(Setting::GroupBy)),
        }
    }

    /// The error in words, and its hint on a line of its own after it: for programs without flags of their own.
    pub fn message(&self) -> String {
        sae_core::error::message(self, self.hint())
    }

    /// A request that the data cannot meet.
    pub(crate) fn request(cause: impl Into<Cause>) -> Self {
        Self::Request(cause.into())
    }

    /// An input file that is not what it has to be.
    pub(crate) fn source(path: &Path, cause: impl Into<Cause>) -> Self {
        Self::Source { cause: cause.into(), path: path.to_path_buf() }
    }
}

fn fields(available: &[String]) -> String {
    if available.is_empty() {
        "rows have no fields besides their texts and images".into()
    } else {
        format!("rows have {}", available.join(", "))
    }
}
