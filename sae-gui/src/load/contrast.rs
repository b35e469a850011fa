//! Reads the files of a contrast, between samples or between models. Every failure becomes a sentence in place of what cannot be
//! read.

use super::guarded;
use crate::state::contrast::{AnyContrast, Contrast, ContrastSummary};
use crate::state::models::{FeatureSeries, ModelContrast, Owned, Series};
use sae_core::analysis::contrast::{read_chance, read_examples, read_features, read_groups};
use sae_core::analysis::latent_scaling::{ScaledFeature, read_ownership};
use sae_core::analysis::rebound::read_rebound;
use sae_core::{Error, Run, file};
use sae_workbench::{OwnershipReport, SeriesReport};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

/// Bytes of `contrast.json` at most.
const LIMIT: u64 = 1 << 26;
/// Models that it compares at most.
const MODELS: usize = 256;

/// Reads all of them.
pub fn read(run: &Run, name: &str) -> AnyContrast {
    let folder = run.root().join("contrasts").join(name);
    let path = folder.join("contrast.json");
    let json: Result<Value, String> = guarded(|| file::read_json(&path, LIMIT).map_err(|error| error.message()));
    // A folder may have tables of an earlier contrast of that name: what was written last says which ones count.
    let is_of_models = json.as_ref().is_ok_and(|json| json.get("models").is_some_and(Value::is_array));
    if is_of_models {
        return AnyContrast::Models(json.and_then(|json| models(&path, json)).map(Box::new));
    }
    AnyContrast::Samples(Box::new(samples(&folder, json.and_then(|json| typed(&path, json)))))
}

fn typed<T: DeserializeOwned>(path: &Path, json: Value) -> Result<T, String> {
    serde_json::from_value(json).map_err(|error| Error::format(path)(error).message())
}

/// Refuses more models, or comparisons of them, than a page can show.
fn bounded(path: &Path, lists: &[(&str, usize)]) -> Result<(), String> {
    match lists.iter().find(|(_, count)| *count > MODELS) {
        Some((name, count)) => {
            let text = format!("{name} has {count} entries, more than the {MODELS} models that can be shown");
            Err(Error::format(path)(text).message())
        }
        None => Ok(()),
    }
}

/// The series of all features. Each has a number for every model, so the table must have a row for it.
fn series(path: &Path, models: usize) -> Result<Vec<FeatureSeries>, String> {
    let rows = read_rebound(path).map_err(|error| error.message())?;
    let features = rows.iter().map(|row| row.feature).collect::<HashSet<u32>>().len();
    if rows.len() < features * models {
        let (found, expected) = (rows.len(), features * models);
        let text =
            format!("{found} rows, expected {expected}: one for each of {features} features and {models} models");
        return Err(Error::format(path)(text).message());
    }
    Ok(FeatureSeries::from_rows(&rows, models))
}

fn samples(folder: &Path, summary: Result<ContrastSummary, String>) -> Contrast {
    let path = |file: &str| folder.join(file);
    Contrast::new(
        summary,
        guarded(|| read_features(&path("features.parquet")).map_err(|error| error.message())),
        guarded(|| read_chance(&path("shuffled.parquet")).map_err(|error| error.message())),
        guarded(|| read_groups(&path("groups.parquet")).map_err(|error| error.message())),
        guarded(|| {
            let path = path("examples.parquet");
            if !path.exists() {
                return Err("This contrast has no examples: it was made by an older version. Make it again.".into());
            }
            read_examples(&path).map_err(|error| error.message())
        }),
    )
}

fn models(path: &Path, json: Value) -> Result<ModelContrast, String> {
    let file = |file: &str| path.with_file_name(file);
    // A series has no pairs.
    if json.get("pairs").is_none() {
        let report: SeriesReport = typed(path, json)?;
        let found = &report.found;
        let lists =
            [("models", report.models.len()), ("rebound", found.rebound.len()), ("distances", found.distances.len())];
        bounded(path, &lists)?;
        let features = guarded(|| series(&file("rebound.parquet"), report.models.len()));
        return Ok(ModelContrast::Series(Series { report, features }));
    }
    let report: OwnershipReport = typed(path, json)?;
    let (models, found) = (report.models.len(), &report.found);
    let null = found.null.as_ref().map_or(0, Vec::len);
    bounded(path, &[("models", models), ("pairs", found.pairs.len()), ("null", null)])?;
    let owned = |name: &str| -> Result<Vec<ScaledFeature>, String> {
        guarded(|| Ok(read_ownership(&file(name)).map_err(|error| error.message())?.1))
    };
    let null = found.null.as_ref().map(|_| owned("null.parquet"));
    Ok(ModelContrast::Owned(Owned { features: owned("models.parquet"), null, report }))
}
