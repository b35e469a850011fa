//! Steering vectors: the decoder directions of features, for programs that add them to hidden states.

use crate::sae::{SaeChoice, check_features};
use crate::{Error, Result};
use sae_core::Run;
use sae_core::analysis::index::read_features;
use sae_core::autoencoder::formats::{self, Saved};
use serde::Serialize;
use std::path::PathBuf;

/// Which features, and where to.
#[derive(Clone, Debug)]
pub struct ExportVectorsRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The features, in the order in which they are written.
    pub features: Vec<u32>,
    /// New file.
    pub out: PathBuf,
}

/// What was written, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct ExportVectorsReport {
    /// `export`.
    pub command: &'static str,
    /// `steering-vector`.
    pub to: &'static str,
    /// The autoencoder.
    pub sae: String,
    /// The features.
    pub features: Vec<u32>,
    /// The length of each vector.
    pub norms: Vec<f32>,
    /// The largest activation of each feature in the run, if the run has an index.
    pub largest: Option<Vec<f32>>,
    /// The new file.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub out: PathBuf,
}

impl ExportVectorsRequest {
    /// What [`ExportVectorsRequest::run`] would do.
    ///
    /// # Errors
    /// No such autoencoder or feature; a file that exists already; an index that cannot be read.
    pub fn plan(&self) -> Result<ExportVectorsReport> {
        Ok(self.checked()?.1)
    }

    /// Writes the vectors ([`formats::write_directions`]).
    ///
    /// # Errors
    /// As [`ExportVectorsRequest::plan`]; a full disk.
    pub fn run(&self) -> Result<ExportVectorsReport> {
        let (saved, report) = self.checked()?;
        formats::write_directions(&self.out, &saved, &self.features, report.largest.as_deref())?;
        Ok(report)
    }

    fn checked(&self) -> Result<(Saved, ExportVectorsReport)> {
        let run = Run::open(&self.sae.run)?;
        let sae = self.sae.name(&run)?;
        let saved = formats::load(&run.sae_dir(&sae))?;
        check_features(&self.features, saved.weights.d_sae, "autoencoder")?;
        if self.out.exists() {
            return Err(Error::FileExists { path: self.out.clone() });
        }
        let index = run.features(&sae).join("features.parquet");
        let rows = index.exists().then(|| read_features(&index)).transpose()?;
        let largest = |feature: &u32| rows.as_ref().and_then(|rows| Some(rows.get(*feature as usize)?.max));
        let report = ExportVectorsReport {
            command: "export",
            to: "steering-vector",
            sae,
            features: self.features.clone(),
            norms: formats::direction_norms(&saved, &self.features),
            largest: self.features.iter().map(largest).collect(),
            out: self.out.clone(),
        };
        Ok((saved, report))
    }
}
