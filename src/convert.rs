//! Conversion: writes an autoencoder of any known format in another one. Activations and reconstructions stay the same.

use crate::Result;
use sae_core::autoencoder::formats::{self, Format, Saved, Summary};
use serde::Serialize;
use std::path::PathBuf;

/// What to convert.
#[derive(Clone, Debug)]
pub struct ConvertRequest {
    /// Folder of the autoencoder, or a file in it.
    pub from_path: PathBuf,
    /// The format to read; `None` recognizes it by the files.
    pub from: Option<Format>,
    /// Active features per token, for an autoencoder whose files do not say.
    pub k: Option<usize>,
    /// New folder.
    pub to_path: PathBuf,
    /// The format to write.
    pub to: Format,
}

/// What was converted, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct ConvertReport {
    /// `convert`.
    pub command: &'static str,
    /// The format that was read.
    pub from: &'static str,
    /// The format that was written.
    pub to: &'static str,
    /// The autoencoder.
    pub sae: Summary,
    /// The new folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub out: PathBuf,
}

impl ConvertRequest {
    /// What [`ConvertRequest::run`] would do. Everything is checked, such as whether the format can express the autoencoder.
    ///
    /// # Errors
    /// As [`ConvertRequest::run`].
    pub fn plan(&self) -> Result<ConvertReport> {
        Ok(self.checked()?.1)
    }

    /// Converts.
    ///
    /// # Errors
    /// No autoencoder, one that the new format cannot express, a folder that is not empty, a full disk.
    pub fn run(&self) -> Result<ConvertReport> {
        let (saved, report) = self.checked()?;
        formats::create(self.to, &self.to_path, &saved)?;
        Ok(report)
    }

    fn checked(&self) -> Result<(Saved, ConvertReport)> {
        let from = match self.from {
            Some(format) => format,
            None => formats::detect(&self.from_path)?,
        };
        let saved = formats::load_with(from, &self.from_path, self.k)?;
        formats::check(self.to, &saved)?;
        formats::check_empty(&self.to_path)?;
        let sae = Summary::new(&saved);
        let (from, to, out) = (from.name(), self.to.name(), self.to_path.clone());
        Ok((saved, ConvertReport { command: "convert", from, to, sae, out }))
    }
}
