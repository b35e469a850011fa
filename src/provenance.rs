//! What a run records about where its features are from, for pages and files about them. Only the last component of paths is told.

use crate::{Result, index};
use sae_core::Run;
use sae_core::analysis::dashboard::Source;
use sae_core::store::run;
use sae_core::store::{Manifest, STEP, StoreRecord};
use std::path::Path;

/// What the pages of an autoencoder have in common.
///
/// # Errors
/// `run.json` cannot be read.
pub(crate) fn source(run: &Run, manifest: &Manifest, sae: &str) -> Result<Source> {
    let harvest: Option<StoreRecord> = run.read_step(STEP)?;
    let root = harvest.as_ref().and_then(|harvest| harvest.spec.arguments["data_root"].as_str()).unwrap_or_default();
    let last = |path: &str| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Source {
        model: manifest.model.clone(),
        hook: manifest.hook.parse().ok(),
        sae: sae.to_owned(),
        dataset: last(root).unwrap_or_default(),
        samples: manifest.samples,
        tokens: manifest.rows,
        sides: index::sides(run, sae)?.unwrap_or_default(),
        created: run::now(),
    })
}
