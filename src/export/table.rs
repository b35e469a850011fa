//! The table of samples and features, for SQL and data frames: a row for each feature that fires in a sample.

use crate::control::{Control, Stage};
use crate::sae::{SaeChoice, SaePlan, check_features};
use crate::{Error, Result};
use sae_core::analysis::{pass, samples_features};
use serde::Serialize;
use std::path::PathBuf;

/// The name of the format.
const NAME: &str = "samples-features";

/// Which features, and where to.
#[derive(Clone, Debug)]
pub struct ExportTableRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The features; all of them if there are none.
    pub features: Vec<u32>,
    /// New file.
    pub out: PathBuf,
}

/// What writing the table would do.
pub type ExportTablePlan = SaePlan<PlannedTable>;

/// What is particular to writing the table.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedTable {
    /// `samples-features`.
    pub to: &'static str,
    /// The new file.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub out: PathBuf,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct ExportTableReport {
    /// Rows of the table.
    pub rows: u64,
    /// Samples of the run.
    pub samples: u64,
    /// `samples-features`.
    pub to: &'static str,
    /// The new file.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub out: PathBuf,
}

impl ExportTableRequest {
    /// What [`ExportTableRequest::run`] would do.
    ///
    /// # Errors
    /// No such autoencoder or feature; a file that exists already.
    pub fn plan(&self) -> Result<ExportTablePlan> {
        let sae = self.sae.load_with_pieces()?;
        self.check(sae.saved.weights.d_sae)?;
        Ok(sae.plan("export", PlannedTable { to: NAME, out: self.out.clone() }))
    }

    /// Writes the table.
    ///
    /// # Errors
    /// As [`ExportTableRequest::plan`]; activations that cannot be read, a full disk; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<ExportTableReport> {
        let sae = self.sae.load_with_pieces()?;
        self.check(sae.saved.weights.d_sae)?;
        let mut staged = control.stage(Stage::Features, sae.store.manifest().rows)?;
        let mut cancel = staged.cancel();
        let features = self.features.iter().copied().collect();
        let rows = samples_features::write(&self.out, &features, sae.store.paths(), |observer| {
            let mut progress = |rows| staged.show(rows);
            let mut observers: [&mut dyn pass::Observer; 2] = [observer, &mut cancel];
            pass::run(&sae.store, &sae.saved.weights, &sae.device, &mut observers, &mut progress)
        })?;
        let samples = sae.store.manifest().samples;
        Ok(ExportTableReport { rows, samples, to: NAME, out: self.out.clone() })
    }

    fn check(&self, d_sae: usize) -> Result<()> {
        check_features(&self.features, d_sae, "autoencoder")?;
        if self.out.exists() { Err(Error::FileExists { path: self.out.clone() }) } else { Ok(()) }
    }
}
