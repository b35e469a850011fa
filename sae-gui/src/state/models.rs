//! What `sae contrast --runs` has found between models: which features of a crosscoder belong to one of them, or how far checkpoints
//! are back from an aligned model to its base. Plain data with the sentences about it; reads no file.

use super::format;
use sae_core::analysis::latent_scaling::{Ownership, ScaledFeature};
use sae_core::analysis::rebound::CheckpointMean;
use serde::Deserialize;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A value with its 95 % interval, as far as they are known.
pub type Measured = [Option<f64>; 3];

/// A contrast between models. What cannot be read is a sentence in its place.
#[derive(Clone, Debug)]
pub struct ModelContrast {
    /// What was found.
    pub summary: ModelSummary,
    /// The features.
    pub features: ModelFeatures,
}

/// The features of a contrast between models.
#[derive(Clone, Debug)]
pub enum ModelFeatures {
    /// Of a crosscoder, for each pair of models and each of the two; and those of the null row, if there is one.
    Owned {
        /// The features.
        rows: Result<Vec<ScaledFeature>, String>,
        /// Those of a crosscoder of one model with itself.
        null: Option<Result<Vec<ScaledFeature>, String>>,
    },
    /// Of one autoencoder, on the states of every model.
    Series(Result<Vec<FeatureSeries>, String>),
}

/// A feature on the states of every model.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSeries {
    /// The feature.
    pub feature: u32,
    /// Its mean activation in each model.
    pub means: Vec<f64>,
    /// How far it is back in each model, with its interval; nothing for the base, the aligned model, and where these do not differ.
    pub back: Vec<Option<Measured>>,
}

impl FeatureSeries {
    /// The series of all features, from rows of features and models. Features that are active in no model are left out.
    pub fn from_rows(rows: &[CheckpointMean], models: usize) -> Vec<Self> {
        let mut series: BTreeMap<u32, Self> = BTreeMap::new();
        for row in rows.iter().filter(|row| (row.model as usize) < models) {
            let empty = || Self { feature: row.feature, means: vec![0.0; models], back: vec![None; models] };
            let own = series.entry(row.feature).or_insert_with(empty);
            own.means[row.model as usize] = row.mean;
            own.back[row.model as usize] =
                row.rebound.map(|r| r.triple().map(|value| Some(value).filter(|v| v.is_finite())));
        }
        series.into_values().filter(|series| series.means.iter().any(|mean| *mean != 0.0)).collect()
    }

    /// How much larger its mean is in the aligned model than in the base.
    pub fn moved(&self) -> f64 {
        match self.means[..] {
            [base, aligned, ..] => aligned - base,
            _ => 0.0,
        }
    }

    /// How far it is back in a model.
    pub fn back_in(&self, model: usize) -> Option<f64> {
        (*self.back.get(model)?)?[0]
    }
}

/// What `contrast.json` says of models.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ModelSummary {
    /// The autoencoder.
    pub sae: String,
    /// The runs, the reference first.
    pub runs: Vec<String>,
    /// The models, in the same order.
    pub models: Vec<ModelFit>,
    /// With a crosscoder: each comparison with the first model.
    #[serde(default)]
    pub pairs: Vec<ModelPair>,
    /// The same for a crosscoder of one model with itself.
    #[serde(default)]
    pub null: Option<Vec<ModelPair>>,
    /// What the second model predicts from states of the first that features moved.
    #[serde(default)]
    pub patch: Option<Patch>,
    /// Without a crosscoder: models of which the autoencoder misses too much.
    #[serde(default)]
    pub unseen: Vec<usize>,
    /// Models with the states of the base, bit by bit.
    #[serde(default)]
    pub same_model: Vec<usize>,
    /// The checkpoints after the aligned model.
    #[serde(default)]
    pub rebound: Vec<Checkpoint>,
    /// After how many samples they are half-way back, by measure.
    #[serde(default)]
    pub half_way: BTreeMap<String, Option<f64>>,
    /// How far each model is from the first.
    #[serde(default)]
    pub distances: Vec<Distance>,
}

/// A model and how well the autoencoder reconstructs it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ModelFit {
    /// The checkpoint.
    pub model: String,
    /// The fraction of variance that is unexplained.
    pub fvu: Option<f64>,
}

/// Two models.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ModelPair {
    /// The number of the reference.
    pub reference: usize,
    /// The number of the other model.
    pub model: usize,
    /// Whether both have the same states.
    pub same_model: bool,
    /// What belongs to the model.
    pub of_model: OwnCounts,
    /// What belongs to the reference.
    pub of_reference: OwnCounts,
}

/// How many features belong to a model.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct OwnCounts {
    /// Its own features.
    pub own: usize,
    /// Features for which this is uncertain.
    pub uncertain: usize,
}

/// What moving states by features changes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Patch {
    /// The data set.
    pub data: String,
    /// Each choice of features.
    pub patches: Vec<PatchRow>,
}

/// One choice of features.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PatchRow {
    /// The choice.
    pub moved: String,
    /// How many they are.
    pub features: usize,
    /// The divergence from the second model.
    pub kl: Measured,
    /// The share of it that they remove.
    pub removed: Measured,
}

/// How far a checkpoint is back: 0 as the aligned model, 1 as the base.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Checkpoint {
    /// The number of the model.
    pub model: usize,
    /// Samples that it was tuned on.
    pub tuned_on: Option<u64>,
    /// By features.
    pub features: Measured,
    /// By the mean hidden state.
    pub hidden_states: Measured,
    /// By the distance of hidden states.
    pub state_distance: Measured,
    /// By the distance of weights.
    pub weight_distance: Option<f64>,
    /// By the divergence of predictions.
    pub kl: Option<Measured>,
}

/// How far a model is from the first.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Distance {
    /// The number of the model.
    pub model: usize,
    /// Of the hidden states, relative to their size.
    pub hidden_states: Measured,
    /// Of the weights, relative to their size.
    pub weights: Option<f64>,
    /// Of the predictions.
    pub kl: Option<Measured>,
}

/// A measure of a checkpoint: its name, that in `half_way`, and how it is read.
pub type CheckpointMeasure = (&'static str, &'static str, fn(&Checkpoint) -> Measured);

/// The measures of a checkpoint.
pub const MEASURES: [CheckpointMeasure; 5] = [
    ("features", "features", |at| at.features),
    ("mean hidden state", "hidden_states", |at| at.hidden_states),
    ("distance of hidden states", "state_distance", |at| at.state_distance),
    ("distance of weights", "weight_distance", |at| [at.weight_distance, None, None]),
    ("predictions (KL)", "kl", |at| at.kl.unwrap_or_default()),
];

/// A value with its interval, in words.
pub fn measured([value, low, high]: Measured) -> String {
    match (value, low.zip(high)) {
        (Some(value), Some((low, high))) => format!("{value:.3} ({low:.3} to {high:.3})"),
        (Some(value), None) => format!("{value:.3}"),
        (None, _) => "-".into(),
    }
}

impl ModelSummary {
    /// What a model is called: its number and the last part of its name, as several may be called the same.
    pub fn name(&self, model: usize) -> String {
        let path = self.models.get(model).map_or("", |fit| fit.model.as_str());
        let last = path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
        if last.is_empty() { format!("model {model}") } else { format!("{model}: {last}") }
    }

    /// What was found, in a sentence.
    pub fn headline(&self) -> String {
        if let Some(last) = self.rebound.last() {
            let tuned = last.tuned_on.map(|samples| format!(", tuned on {} samples,", format::count(samples)));
            return format!(
                "By its features, model {}{} is {} of the way back from the aligned model to the base",
                last.model,
                tuned.unwrap_or_default(),
                measured(last.features)
            );
        }
        if self.pairs.is_empty() {
            return format!("{} on the states of {}", self.sae, format::counted(self.models.len(), "model"));
        }
        let pairs = self.pairs.iter().map(|pair| {
            let (model, reference) = (self.name(pair.model), self.name(pair.reference));
            if pair.same_model {
                return format!("{model} and {reference} are the same model");
            }
            let own = format::counted(pair.of_model.own, "own feature");
            format!("{model} has {own}, {reference} has {}", format::count(pair.of_reference.own as u64))
        });
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// What chance makes of equal models, how well the models are reconstructed, and what cannot be seen.
    pub fn lines(&self) -> Vec<String> {
        let fits: Vec<String> = (0..self.models.len())
            .map(|model| format!("{} {}", self.name(model), format::maybe(self.models[model].fvu)))
            .collect();
        let mut lines = vec![format!("FVU: {}.", fits.join(", "))];
        if !self.pairs.is_empty() {
            lines.push(match &self.null {
                Some(null) => {
                    let own: usize = null.iter().map(|pair| pair.of_model.own + pair.of_reference.own).sum();
                    format!("One model with itself: {}.", format::counted(own, "own feature"))
                }
                None => "No null row: `sae contrast --null NAME` shows what chance makes of equal models".into(),
            });
        }
        let half_way = MEASURES.iter().filter_map(|(title, key, _)| {
            Some(format!("{title} {}", format::count((*self.half_way.get(*key)?)?.round() as u64)))
        });
        let half_way: Vec<String> = half_way.collect();
        if !half_way.is_empty() {
            lines.push(format!("Half-way back after this many samples: {}.", half_way.join(", ")));
        }
        lines
    }

    /// What has to be known before the rest is believed.
    pub fn warnings(&self) -> Vec<String> {
        let unseen = self.unseen.iter().map(|model| {
            format!(
                "The autoencoder reconstructs {} much worse than the base, so it may lack its features.",
                self.name(*model)
            )
        });
        let same = self
            .same_model
            .iter()
            .map(|model| format!("{} has the states of the base, bit by bit.", self.name(*model)));
        unseen.chain(same).collect()
    }

    /// The sides of all pairs: the model that features may belong to, and the one that may lack them.
    pub fn sides(&self) -> Vec<[usize; 2]> {
        let measured = self.pairs.iter().filter(|pair| !pair.same_model);
        measured.flat_map(|pair| [[pair.model, pair.reference], [pair.reference, pair.model]]).collect()
    }
}

/// The numbers of the rows of one side, in the order of a column of the table.
pub fn owned_order(
    rows: &[ScaledFeature],
    [model, reference]: [usize; 2],
    column: usize,
    descending: bool,
) -> Vec<usize> {
    let of_side = |n: &usize| (rows[*n].model, rows[*n].reference) == (model, reference);
    let key = |row: &ScaledFeature| match column {
        0 => f64::from(row.feature),
        2 => match row.ownership() {
            Ownership::Own => 2.0,
            Ownership::Uncertain => 1.0,
            Ownership::Shared => 0.0,
        },
        3 => row.firings as f64,
        4 => row.delta,
        5 => row.nu_error.value,
        6 => row.nu_reconstruction.value,
        7 => row.template_share,
        _ => row.first_share,
    };
    let mut order: Vec<usize> = (0..rows.len()).filter(of_side).collect();
    let then =
        |a: &usize, b: &usize| rows[*b].firings.cmp(&rows[*a].firings).then(rows[*a].feature.cmp(&rows[*b].feature));
    order.sort_by(|a, b| by(key(&rows[*a]), key(&rows[*b]), descending).then_with(|| then(a, b)));
    order
}

/// The numbers of features, in the order of a column of the table: number, words, base, aligned, moved, checkpoint, back.
pub fn series_order(series: &[FeatureSeries], checkpoint: usize, column: usize, descending: bool) -> Vec<usize> {
    let mean = |row: &FeatureSeries, model: usize| row.means.get(model).copied().unwrap_or(f64::NAN);
    let key = |row: &FeatureSeries| match column {
        0 => f64::from(row.feature),
        2 => mean(row, 0),
        3 => mean(row, 1),
        4 => row.moved().abs(),
        5 => mean(row, checkpoint),
        _ => row.back_in(checkpoint).unwrap_or(f64::NAN),
    };
    let mut order: Vec<usize> = (0..series.len()).collect();
    order.sort_by(|a, b| by(key(&series[*a]), key(&series[*b]), descending).then(a.cmp(b)));
    order
}

/// Compares two keys. What is not known is last in either direction.
fn by(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if descending => b.total_cmp(&a),
        (false, false) => a.total_cmp(&b),
        (a, b) => a.cmp(&b),
    }
}

#[cfg(test)]
mod tests;
