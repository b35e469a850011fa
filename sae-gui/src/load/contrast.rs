//! Reads the files of a contrast, between samples or between models. Every failure becomes a sentence in place of what cannot be
//! read.

use super::guarded;
use crate::state::contrast::{AnyContrast, Contrast, ContrastSummary};
use crate::state::models::{FeatureSeries, ModelContrast, ModelFeatures, ModelSummary};
use sae_core::analysis::contrast::{read_chance, read_examples, read_features, read_groups};
use sae_core::analysis::latent_scaling::{ScaledFeature, read_ownership};
use sae_core::analysis::rebound::read_rebound;
use sae_core::{Error, Run, file};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// Bytes of `contrast.json` at most.
const LIMIT: u64 = 1 << 26;

/// Reads all of them.
pub fn read(run: &Run, name: &str) -> AnyContrast {
    let folder = run.root().join("contrasts").join(name);
    let path = folder.join("contrast.json");
    let json: Result<Value, String> = guarded(|| file::read_json(&path, LIMIT).map_err(|error| error.message()));
    // A folder may have tables of an earlier contrast of that name: what was written last says which ones count.
    let is_of_models = json.as_ref().is_ok_and(|json| json.get("models").is_some_and(Value::is_array));
    if is_of_models {
        let summary = json.and_then(|json| typed(&path, json));
        return AnyContrast::Models(summary.map(|summary| Box::new(models(&folder, summary))));
    }
    AnyContrast::Samples(Box::new(samples(&folder, json.and_then(|json| typed(&path, json)))))
}

fn typed<T: DeserializeOwned>(path: &Path, json: Value) -> Result<T, String> {
    serde_json::from_value(json).map_err(|error| Error::format(path)(error).message())
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

fn models(folder: &Path, summary: ModelSummary) -> ModelContrast {
    let owned = |file: &str| -> Result<Vec<ScaledFeature>, String> {
        guarded(|| Ok(read_ownership(&folder.join(file)).map_err(|error| error.message())?.1))
    };
    let features = if summary.pairs.is_empty() {
        let rows = guarded(|| read_rebound(&folder.join("rebound.parquet")).map_err(|error| error.message()));
        ModelFeatures::Series(rows.map(|rows| FeatureSeries::from_rows(&rows, summary.models.len())))
    } else {
        ModelFeatures::Owned {
            rows: owned("models.parquet"),
            null: summary.null.as_ref().map(|_| owned("null.parquet")),
        }
    };
    ModelContrast { summary, features }
}
