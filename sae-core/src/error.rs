//! The one error type of this crate: what was being done, the cause, the file. Never prints and never exits.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What can go wrong in the workbench's core.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused: missing file, full disk, no permission.
    #[error("cannot {doing}: {source}: {path}")]
    Io {
        /// Completes "cannot ...".
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
        /// The file or folder.
        path: PathBuf,
    },
    /// A file was read but is not what it claims to be.
    #[error("{}", located(.cause, .path))]
    Format {
        /// What is wrong with it.
        cause: String,
        /// The file.
        path: PathBuf,
    },
    /// Arguments or configurations that contradict each other or the data.
    #[error("{0}")]
    Config(String),
    /// Another process writes to the run folder; trying again later may succeed.
    #[error("another process is writing to this run{holder}: {path}\nhint: wait for it, or name another --run")]
    Busy {
        /// Who that is, in parentheses behind a space; empty if it did not say.
        holder: String,
        /// The run folder.
        path: PathBuf,
    },
    /// The run folder lacks a step, or something is in the way.
    #[error("{}", located(.cause, .path))]
    Run {
        /// What is missing or in the way, with a hint where one helps.
        cause: String,
        /// The run folder or the file.
        path: PathBuf,
    },
    /// The run folder holds what another harvest captured.
    #[error("{cause}: {path}")]
    OtherHarvest {
        /// What it holds.
        cause: String,
        /// The run folder.
        path: PathBuf,
    },
    /// The device failed or is not there.
    #[error("{0}")]
    Device(String),
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cause with its file. Hints stay on lines of their own behind both.
pub fn located(cause: &str, path: &Path) -> String {
    match cause.split_once("\nhint: ") {
        Some((cause, hint)) => format!("{cause}: {}\nhint: {hint}", path.display()),
        None => format!("{cause}: {}", path.display()),
    }
}

impl Error {
    /// Whether the system refused because nothing may be written there.
    pub fn is_read_only(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
    }

    /// For `map_err` on anything that says what is wrong with the file at `path`.
    pub fn format<C: std::fmt::Display>(path: &Path) -> impl FnOnce(C) -> Error + '_ {
        move |cause| Error::Format { cause: cause.to_string(), path: path.to_path_buf() }
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
    fn a_hint_comes_after_the_cause_and_the_file() {
        let error = Error::format(Path::new("a/b.json"))("it is empty\nhint: write it again");
        assert_eq!(error.to_string(), "it is empty: a/b.json\nhint: write it again");
        assert_eq!(Error::format(Path::new("b"))("it is empty").to_string(), "it is empty: b");
    }
}
