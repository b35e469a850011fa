//! Reads the reports of probes. Every failure becomes a sentence in place of what cannot be read.

use super::{guarded, message};
use sae_core::Run;
use sae_workbench::ProbeReport;

/// The names of the probes of an autoencoder.
pub fn names(run: &Run, sae: Option<&str>) -> Vec<String> {
    sae.map(|sae| ProbeReport::names(run, sae)).unwrap_or_default()
}

/// Reads a probe.
pub fn read(run: &Run, sae: Option<&str>, name: &str) -> Result<ProbeReport, String> {
    let sae = sae.ok_or("The run has no autoencoder, so it has no probes.")?;
    guarded(|| ProbeReport::read(run, sae, name).map_err(message))
}
