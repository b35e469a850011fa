//! What a contrast found: `contrast.json`.

use super::{PredictionReport, Question};
use sae_core::analysis::between::Markers;
use sae_core::analysis::contrast::{ForecastMethod, TestedFeature};
use sae_core::analysis::feature_sets::{Measure, Part};
use sae_core::path_text;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What differs.
#[derive(Clone, Debug, Serialize)]
pub struct ContrastReport {
    /// The version of the files.
    pub schema_version: u32,
    /// The name of the contrast.
    pub name: String,
    /// What was asked.
    pub question: Question,
    /// Which positions counted.
    pub part: Part,
    /// The markers between which they are.
    pub between: Option<Markers>,
    /// What is measured of a feature in a sample.
    pub measure: Measure,
    /// Markers without a partner, which delimit nothing.
    pub unmatched_markers: u64,
    /// Samples that have such markers.
    pub samples_with_unmatched_markers: u64,
    /// The field of pairs.
    pub pair: Option<String>,
    /// The field of clusters.
    pub cluster: Option<String>,
    /// The fields that were adjusted for.
    pub adjust: Option<String>,
    /// The run.
    #[serde(serialize_with = "path_text::serialize")]
    pub run: PathBuf,
    /// The autoencoder.
    pub sae: String,
    /// BLAKE3 of its weights.
    pub sae_blake3: String,
    /// The activation above which a feature is active.
    pub threshold: f32,
    /// The expected share of false findings.
    pub false_discovery_rate: f64,
    /// The seed.
    pub seed: u64,
    /// Samples that took part.
    pub samples: usize,
    /// Samples without a value, without a position of the part, or alone in their pair.
    pub left_out: usize,
    /// Clusters in which features were found.
    pub clusters: usize,
    /// Clusters that confirmed them; 0 if findings were not confirmed.
    pub confirming_clusters: usize,
    /// Strata of length and of the fields that were adjusted for.
    pub strata: usize,
    /// The columns.
    pub columns: Vec<ColumnReport>,
    /// Features that were tested.
    pub tested: usize,
    /// Features that differ in at least one column.
    pub differing: usize,
    /// Pairs of feature and column that differ.
    pub findings: usize,
    /// Pairs of feature and column that differ when columns are shuffled, by shuffle.
    pub shuffled: Vec<usize>,
    /// The differing features with the largest `|z|`.
    pub strongest: Vec<DifferingFeature>,
    /// The forecast of the next bin of an order.
    pub forecast: Option<ForecastReport>,
    /// How well features predict each column.
    pub predictions: Vec<PredictionReport>,
    /// The score columns with predictions.
    pub score_columns: Vec<String>,
    /// Every test.
    #[serde(skip)]
    pub tests: Vec<TestedFeature>,
    /// The tests of one shuffle.
    #[serde(skip)]
    pub chance: Vec<TestedFeature>,
    /// The folder with the tables.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// A column of a contrast.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnReport {
    /// Its name: a group, or the field.
    pub name: String,
    /// Samples of the group; of all samples if there are no groups.
    pub samples: usize,
    /// The share of its variance that strata of length explain.
    pub explained_by_length: f64,
}

/// A feature that differs.
#[derive(Clone, Debug, Serialize)]
pub struct DifferingFeature {
    /// The feature.
    pub feature: u32,
    /// The column.
    pub column: String,
    /// Its label, or words that it fires on.
    pub words: String,
    /// Share of the group's samples (of all samples, if there are no groups) in which it is active.
    pub prevalence: f64,
    /// Share of the other samples.
    pub prevalence_rest: Option<f64>,
    /// The effect with its 95 % interval, from the clusters that confirm, if there are any.
    pub effect: [f64; 3],
    /// The test statistic.
    pub z: f64,
    /// The corrected p-value.
    pub q: Option<f64>,
}

/// A forecast of the next bin.
#[derive(Clone, Debug, Serialize)]
pub struct ForecastReport {
    /// The method that was chosen on the bins before the last one.
    pub method: ForecastMethod,
    /// Its skill on the last bin with a 95 % interval.
    pub skill: Option<[f64; 3]>,
    /// The skill of every method on the last bin.
    pub skills: BTreeMap<&'static str, Option<f64>>,
}

impl ContrastReport {
    /// The mean number of findings with shuffled columns; `None` without shuffles.
    pub fn mean_shuffled(&self) -> Option<f64> {
        let shuffles = self.shuffled.len();
        (shuffles > 0).then(|| self.shuffled.iter().sum::<usize>() as f64 / shuffles as f64)
    }
}
