//! The files of a probe: `probes/<sae>/<name>.json`, which has the report and everything that scores other samples. JSON holds
//! 64-bit numbers exactly, and a probe has few weights.

use super::ProbeReport;
use crate::Result;
use filters::probe::{Isotonic, Kind, Probe};
use sae_core::analysis::feature_sets::Part;
use sae_core::file;
use serde::{Deserialize, Serialize};

/// What scores samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedProbe {
    /// The kind.
    pub kind: Kind,
    /// Which positions of a sample are read.
    pub part: Part,
    /// The weights of features, and the offsets.
    pub probe: Probe,
    /// The calibration of scores, for kinds that have probabilities or levels.
    pub calibration: Option<Isotonic>,
}

#[derive(Serialize)]
struct Contents<'a> {
    #[serde(flatten)]
    report: &'a ProbeReport,
    fitted: &'a SavedProbe,
}

/// Writes a probe with its report.
pub(super) fn write(report: &ProbeReport, saved: &SavedProbe) -> Result<()> {
    if let Some(folder) = report.file.parent() {
        std::fs::create_dir_all(folder).map_err(sae_core::Error::io("make the folder", folder))?;
    }
    Ok(file::write_json(&report.file, &Contents { report, fitted: saved })?)
}
