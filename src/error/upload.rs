//! What cannot be uploaded.

use sae_core::error::Hint;
use std::path::PathBuf;

/// Why nothing is uploaded, before the hub is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// A folder without files.
    #[error("no files to upload: {}", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// A link, or folders that are nested very deeply.
    #[error("expected files and folders to upload, found a link or too many nested folders: {}", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// An autoencoder for a repository of data, or the other way round.
    #[error("{what} for a repository of {}: {to}", if to.starts_with("datasets/") { "data sets" } else { "models" })]
    Kind {
        /// What was to be uploaded.
        what: &'static str,
        /// Where to.
        to: String,
    },
}

impl UploadError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Empty { .. } => return None,
            Self::Link { .. } => "replace the link by a copy of what it leads to".into(),
            Self::Kind { to, .. } => match to.strip_prefix("datasets/") {
                Some(model) => format!("name a repository of models: {model}").into(),
                None => format!("name a repository of data sets: datasets/{to}").into(),
            },
        })
    }
}
