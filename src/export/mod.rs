//! Export: writes an autoencoder of a run for another tool, its features with their examples for other viewers, their directions as
//! steering vectors, or a table of which features fire in which sample.

mod features;
mod table;
mod vectors;

pub use features::{ExportFeaturesReport, ExportFeaturesRequest, ExportPlan, FeatureFormat, PlannedExport};
pub use table::{ExportTablePlan, ExportTableReport, ExportTableRequest, PlannedTable};
pub use vectors::{ExportVectorsReport, ExportVectorsRequest};

use crate::Result;
use crate::sae::SaeChoice;
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Format, Saved, Summary};
use serde::Serialize;
use std::path::PathBuf;

/// Which autoencoder to write.
#[derive(Clone, Debug)]
pub struct ExportSaeRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The format to write.
    pub format: Format,
    /// New folder.
    pub out: PathBuf,
}

/// What was written, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct ExportSaeReport {
    /// `export`.
    pub command: &'static str,
    /// The autoencoder.
    pub sae: String,
    /// The format.
    pub to: &'static str,
    /// Properties of the autoencoder.
    pub is: Summary,
    /// The new folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub out: PathBuf,
}

impl ExportSaeRequest {
    /// What [`ExportSaeRequest::run`] would do.
    ///
    /// # Errors
    /// As [`ExportSaeRequest::run`].
    pub fn plan(&self) -> Result<ExportSaeReport> {
        Ok(self.checked()?.1)
    }

    /// Writes the autoencoder.
    ///
    /// # Errors
    /// No such autoencoder, one that the format cannot express, a folder that is not empty, a full disk.
    pub fn run(&self) -> Result<ExportSaeReport> {
        let (saved, report) = self.checked()?;
        formats::create(self.format, &self.out, &saved)?;
        Ok(report)
    }

    fn checked(&self) -> Result<(Saved, ExportSaeReport)> {
        let run = Run::open(&self.sae.run)?;
        let name = self.sae.name(&run)?;
        let saved = formats::load(&run.sae_dir(&name))?;
        formats::check(self.format, &saved)?;
        formats::check_empty(&self.out)?;
        let (to, is, out) = (self.format.name(), Summary::new(&saved), self.out.clone());
        Ok((saved, ExportSaeReport { command: "export", sae: name, to, is, out }))
    }
}
