//! The one error type of this crate: what stops a harvest, its cause, the file. Rows that are merely skipped are no
//! errors; they carry a reason as text (`sae_core::store::Skipped`). Never prints.

use sae_core::error::Hint;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// What stops a harvest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files, tables, the store or the device.
    #[error(transparent)]
    Core(#[from] sae_core::Error),
    /// A checkpoint that is incomplete, damaged, or of a kind this crate does not know.
    #[error("{}", sae_core::error::located(.cause, .path))]
    Checkpoint {
        /// What is wrong with it.
        cause: String,
        /// The file or folder.
        path: PathBuf,
    },
    /// A data set that cannot be read as one. (A bad row is skipped instead.)
    #[error("{}", sae_core::error::located(.cause, .path))]
    Data {
        /// What is wrong with it.
        cause: String,
        /// The file or folder.
        path: PathBuf,
    },
    /// A checkpoint that cannot be had from the hub.
    #[error("{cause}: {model}{hint}")]
    Hub {
        /// What is in the way.
        cause: String,
        /// `org/name@revision`.
        model: String,
        /// What to do about it, on a line of its own; or nothing.
        hint: String,
    },
    /// An endpoint that does not answer as it should.
    #[error("{cause}: {url}")]
    Endpoint {
        /// What it did.
        cause: String,
        /// Where it is.
        url: String,
    },
    /// Arguments that contradict each other, the checkpoint or the data.
    #[error("{0}")]
    Plan(String),
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What a person can do about the error, where that is known.
    pub fn hint(&self) -> Option<Hint> {
        if let Self::Core(error) = self { error.hint() } else { None }
    }

    /// The error in words, and its hint on a line of its own after it.
    pub fn message(&self) -> String {
        sae_core::error::message(self, self.hint())
    }

    /// For `map_err` on anything that says what is wrong with the checkpoint's file at `path`.
    pub(crate) fn checkpoint<C: Display>(path: &Path) -> impl FnOnce(C) -> Error + '_ {
        move |cause| Error::Checkpoint { cause: cause.to_string(), path: path.to_path_buf() }
    }

    /// For `map_err` on anything that says what is wrong with the data's file at `path`.
    pub(crate) fn data<C: Display>(path: &Path) -> impl FnOnce(C) -> Error + '_ {
        move |cause| Error::Data { cause: cause.to_string(), path: path.to_path_buf() }
    }

    /// For `map_err` on file operations.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
        move |source| sae_core::Error::io(doing, path)(source).into()
    }
}
