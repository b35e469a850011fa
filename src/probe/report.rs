//! What a probe found: the first part of `probes/<sae>/<name>.json`.

use super::Conflicts;
use crate::contrast::FeatureNames;
use filters::probe::{Audit, Kind, PathPoint, Probe, Rows};
use sae_core::analysis::feature_sets::Part;
use sae_core::path_text;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What was learned from labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The version of the file.
    pub schema_version: u32,
    /// The name of the probe.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The field with the labels, as it was asked for.
    pub label: Option<String>,
    /// The names of levels in ascending order; empty unless the probe is ordinal.
    pub levels: Vec<String>,
    /// Which positions of a sample are read.
    pub part: Part,
    /// The field of sets within which samples were compared.
    pub pair: Option<String>,
    /// The run.
    #[serde(with = "path_text")]
    pub run: PathBuf,
    /// The autoencoder.
    pub sae: String,
    /// BLAKE3 of its weights.
    pub sae_blake3: String,
    /// The seed.
    pub seed: u64,
    /// Whether samples are pieces of rows, which cannot be filtered.
    #[serde(default)]
    pub pieces: bool,
    /// Samples that the probe was fitted to.
    pub samples: usize,
    /// Examples: samples, or pairs of samples.
    pub examples: usize,
    /// Samples without a label, without a position of the part, or that are in no pair.
    pub left_out: usize,
    /// Labels that contradict another field of safety; `None` if there is no such field.
    pub conflicts: Option<Conflicts>,
    /// Different images, or sets of samples, which folds keep together.
    pub groups: usize,
    /// Features with a weight.
    pub features: usize,
    /// How good it is on samples that the fits have not seen.
    pub quality: Quality,
    /// The mean squared difference of calibrated probabilities from what happened, for kinds that have probabilities.
    pub brier: Option<f64>,
    /// The same by category, where one was named.
    pub by_category: Vec<CategoryReport>,
    /// The L1 penalty that was chosen.
    pub penalty: f64,
    /// What the margins of pairs say about their labels; `None` unless pairs were compared.
    pub audit: Option<Audit>,
    /// The pairs whose labels are least plausible.
    pub suspects: Vec<Suspect>,
    /// The column of margins, if there is an audit.
    pub margin_column: Option<String>,
    /// Its features, those with the largest share of the decision first.
    pub weighted: Vec<WeightedFeature>,
    /// Held-out losses along the path of penalties.
    pub path: Vec<PathPoint>,
    /// The score column.
    pub column: String,
    /// The file.
    #[serde(skip)]
    pub file: PathBuf,
}

/// The quality of predictions of samples that the fits have not seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quality {
    /// What it is measured by.
    pub measure: QualityMeasure,
    /// From features.
    pub features: Option<f64>,
    /// Its 95 % interval, over images or sets of samples.
    pub interval: Option<[f64; 2]>,
    /// From mean hidden states (ridge regression).
    pub dense: Option<f64>,
    /// From words, by the same kind of fit.
    pub words: Option<f64>,
    /// From the number of positions.
    pub length: Option<f64>,
    /// At random: from a random number for each sample; for levels and numbers, from the label of another sample, which has an R^2 of
    /// about -1.
    pub random: Option<f64>,
}

/// What the quality of a probe is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityMeasure {
    /// Area under the ROC curve, for yes or no and for costs.
    Auc,
    /// Cohen's kappa with quadratic weights, for levels.
    QuadraticKappa,
    /// The share of the variance that is explained, for numbers.
    R2,
    /// The share of pairs that are ordered as the labels say.
    Accuracy,
}

impl QualityMeasure {
    /// What reports call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Auc => "AUC",
            Self::QuadraticKappa => "quadratic kappa",
            Self::R2 => "R^2",
            Self::Accuracy => "accuracy",
        }
    }
}

/// A pair whose label is not plausible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// The key of the sample that the label prefers.
    pub preferred: String,
    /// The key of the other sample; that of the same row if the rejected answers are a run of their own.
    pub other: String,
    /// The numbers of both samples in the run; none for a sample of the run with the rejected answers.
    pub samples: [Option<u32>; 2],
    /// The score of the preferred sample less that of the other, by a fit that has seen neither.
    pub margin: f64,
}

/// The quality in one category.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CategoryReport {
    /// The category.
    pub category: String,
    /// Its samples.
    pub samples: usize,
    /// The quality, by the measure of the whole probe.
    pub quality: Option<f64>,
}

/// A feature that carries a probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WeightedFeature {
    /// The feature.
    pub feature: u32,
    /// What `log(1 + max)` is multiplied by.
    pub weight: f64,
    /// Its share in the sum of `|weight * value|` over all samples and features.
    pub share: f64,
    /// Its label, or words that it fires on.
    pub words: String,
    /// The tokens that it promotes, those whose logits rise most first; none if the index was made without the model.
    pub promoted: Vec<String>,
}

/// The features of a probe by their shares.
pub(super) fn weighted(probe: &Probe, rows: &Rows, names: &FeatureNames) -> Vec<WeightedFeature> {
    let mut sums = vec![0.0; rows.width()];
    for row in 0..rows.len() {
        rows.row(row).for_each(|(feature, value)| sums[feature as usize] += f64::from(value));
    }
    let carried = |(feature, weight): &(u32, f64)| weight.abs() * sums[*feature as usize];
    let all: f64 = probe.weights.iter().map(carried).sum();
    let mut found: Vec<WeightedFeature> = probe
        .weights
        .iter()
        .map(|entry| WeightedFeature {
            feature: entry.0,
            weight: entry.1,
            share: carried(entry) / all.max(f64::MIN_POSITIVE),
            words: names.words(entry.0),
            promoted: names.promoted(entry.0),
        })
        .collect();
    found.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.feature.cmp(&b.feature)));
    found
}
