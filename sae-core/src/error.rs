//! The one error type of this crate: what was being done, the cause, the file. Never prints and never exits.

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
    #[error("{cause}: {path}")]
    Format {
        /// What is wrong with it.
        cause: String,
        /// The file.
        path: PathBuf,
    },
    /// Arguments or configurations that contradict each other or the data.
    #[error("{0}")]
    Config(String),
    /// The run folder is in use or lacks a step.
    #[error("{cause}: {path}")]
    Run {
        /// What is missing or in the way, with a hint where one helps.
        cause: String,
        /// The run folder or the file.
        path: PathBuf,
    },
    /// The device failed or is not there.
    #[error("{0}")]
    Device(String),
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` on anything that says what is wrong with the file at `path`.
    pub fn format<C: std::fmt::Display>(path: &Path) -> impl FnOnce(C) -> Error + '_ {
        move |cause| Error::Format { cause: cause.to_string(), path: path.to_path_buf() }
    }

    /// For `map_err` on file operations.
    pub fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
        move |source| Error::Io { doing, source, path: path.to_path_buf() }
    }
}
