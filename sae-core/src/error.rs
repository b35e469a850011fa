//! The error type of this crate, and the hints of errors of every crate of the workspace. An error says what is wrong and where; a
//! [`Hint`] says what can be done, without naming command-line flags. Never prints and never exits.

mod hint;
mod piece;

pub use hint::{Hint, Operation, Setting, message};
pub use piece::PieceError;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What can go wrong in the workbench's core.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error: missing file, full disk, no permission.
    #[error("cannot {doing}: {source}: {path}")]
    Io {
        /// Completes "cannot ...".
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
        /// The file or folder.
        path: PathBuf,
    },
    /// A file that was read but is damaged, inconsistent, or of another format than its name says.
    #[error("{}: {path}", cause.text)]
    Format {
        /// What is wrong with it.
        cause: Cause,
        /// The file.
        path: PathBuf,
    },
    /// Arguments or configurations that contradict each other or the data.
    #[error("{}", .0.text)]
    Config(Cause),
    /// Another process writes to the run folder; trying again later may succeed.
    #[error("another process is writing to this run{holder}: {path}")]
    Busy {
        /// Who that is, in parentheses after a space; empty if it did not say.
        holder: String,
        /// The run folder.
        path: PathBuf,
    },
    /// The run folder lacks the result of an operation, or contains something that prevents one.
    #[error("{}: {path}", cause.text)]
    Run {
        /// What is missing, or what prevents the operation.
        cause: Cause,
        /// The run folder or the file.
        path: PathBuf,
    },
    /// The run has no finished activations of a hook.
    #[error("there are no finished activations of {asked}{}: {path}", listed(available))]
    UnknownHook {
        /// The hook that was asked for.
        asked: String,
        /// Hooks that the run has activations of.
        available: Vec<String>,
        /// The run folder.
        path: PathBuf,
    },
    /// The run folder has activations of another harvest.
    #[error("{cause}: {path}")]
    OtherHarvest {
        /// What it has, and what was expected.
        cause: String,
        /// The run folder.
        path: PathBuf,
    },
    /// The samples of a run are pieces, and the operation would take each for a whole sample.
    #[error("the samples of this run are pieces that continue one another, and this reads whole samples: {}", path.display())]
    Pieces {
        /// The run folder.
        path: PathBuf,
    },
    /// A piece that no pass could read.
    #[error("{cause}: {branch:.80} of {key:.80}")]
    Piece {
        /// What is wrong with it.
        cause: PieceError,
        /// The key of its row.
        key: String,
        /// Which piece of the row it is.
        branch: String,
    },
    /// The device failed or does not exist.
    #[error("{}", .0.text)]
    Device(Cause),
    /// A process that trains the same autoencoder ended, or did not connect.
    #[error("lost process {} of the training: {cause}", .rank + 1)]
    LostRank {
        /// Its rank, from 0.
        rank: usize,
        /// How that was noticed.
        cause: String,
    },
    /// The caller has asked to stop the work. Everything stored by then stays.
    #[error("cancelled")]
    Cancelled,
}

/// What is wrong, in words, and what can be done about it where that is known. Anything that can be displayed converts into
/// a cause without a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What is wrong: what was expected and what was found.
    pub text: String,
    /// What can be done about it.
    pub hint: Option<Hint>,
}

impl Cause {
    /// A cause with something that can be done about it.
    pub fn with_hint(text: impl Into<String>, hint: Hint) -> Self {
        Self { text: text.into(), hint: Some(hint) }
    }
}

impl<T: std::fmt::Display> From<T> for Cause {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), hint: None }
    }
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn listed(available: &[String]) -> String {
    if available.is_empty() { String::new() } else { format!(" (the run has {})", available.join(", ")) }
}

/// A cause with its file, for errors whose hint is still part of the text: the hint follows both on a separate line.
pub fn located(cause: &str, path: &Path) -> String {
    match cause.split_once("\nhint: ") {
        Some((cause, hint)) => format!("{cause}: {}\nhint: {hint}", path.display()),
        None => format!("{cause}: {}", path.display()),
    }
}

impl Error {
    /// Whether the system did not allow writing to the file or folder.
    pub fn is_read_only(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
    }

    /// What a person can do about the error, where that is known.
    ///
    /// ```
    /// use sae_core::error::{Error, Hint, Setting};
    ///
    /// let busy = Error::Busy { holder: " (process 7)".into(), path: "runs/a".into() };
    /// assert_eq!(busy.to_string(), "another process is writing to this run (process 7): runs/a");
    /// assert_eq!(busy.hint(), Some(Hint::AnyOf(vec![Hint::from("wait for it"), Hint::Change(Setting::Run)])));
    /// ```
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Format { cause, .. } | Self::Config(cause) | Self::Run { cause, .. } | Self::Device(cause) => {
                cause.hint.clone()
            }
            Self::Busy { .. } => Some(Hint::AnyOf(vec!["wait for it".into(), Hint::Change(Setting::Run)])),
            Self::UnknownHook { available, .. } => available.is_empty().then_some(Hint::Run(Operation::Harvest)),
            Self::LostRank { .. } => Some("start all processes again; they continue from the newest checkpoint".into()),
            Self::OtherHarvest { .. } => Some(Hint::Change(Setting::Run)),
            Self::Pieces { .. } => Some("harvest the same data into another run, not in pieces".into()),
            Self::Piece { .. } | Self::Io { .. } | Self::Cancelled => None,
        }
    }

    /// The error in words, followed by its hint on a separate line: for programs that have no flags.
    pub fn message(&self) -> String {
        hint::message(self, self.hint())
    }

    /// For `map_err` on anything that can be displayed and says what is wrong with the file at `path`.
    pub fn format<C: Into<Cause>>(path: &Path) -> impl FnOnce(C) -> Error + '_ {
        move |cause| Error::Format { cause: cause.into(), path: path.to_path_buf() }
    }

    /// Arguments or configurations that contradict each other or the data.
    pub fn config(cause: impl Into<Cause>) -> Self {
        Self::Config(cause.into())
    }

    /// A device that failed or does not exist.
    pub fn device(cause: impl Into<Cause>) -> Self {
        Self::Device(cause.into())
    }

    /// A run folder, or a file of it, that lacks something or contains something that prevents an operation.
    pub fn run(path: &Path, cause: impl Into<Cause>) -> Self {
        Self::Run { cause: cause.into(), path: path.to_path_buf() }
    }

    /// For `map_err` on file operations.
    pub fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
        move |source| Error::Io { doing, source, path: path.to_path_buf() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_kept_with_the_cause_and_the_file() {
        let hint = Hint::Run(Operation::Harvest);
        let error = Error::format(Path::new("a/b.json"))(Cause::with_hint("it is empty", hint.clone()));
        assert_eq!((error.to_string().as_str(), error.hint()), ("it is empty: a/b.json", Some(hint)));
        let error = Error::format(Path::new("b"))("it is empty");
        assert_eq!((error.to_string().as_str(), error.hint()), ("it is empty: b", None));
    }
}
