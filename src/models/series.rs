//! One autoencoder on the states of several models: how well it reconstructs each, how features differ, and, for a base, an aligned
//! model and checkpoints that were tuned further, how far these are back. Trains nothing.

use super::checkpoints::Checkpoints;
use super::distances::{BaseDistance, Distances};
use super::fits::Fits;
use super::{ModelFit, ModelsChoice, ModelsPlan, ModelsReport, has_same_states};
use crate::control::{Control, Stage};
use crate::error::ModelsError;
use crate::sae::LoadedSae;
use crate::{Result, crosscoder, transcoder, unknown};
use harvest::Plan;
use sae_core::analysis::rebound::{BucketMeans, CheckpointMean, half_way, rebound, write_rebound};
use sae_core::store::{PositionFilter, Store};
use serde::{Deserialize, Serialize};

/// Above this difference of FVU, an autoencoder misses too much of another model.
pub const UNSEEN: f64 = 0.05;

/// How does one autoencoder see several models?
#[derive(Clone, Debug)]
pub struct SeriesRequest {
    /// The models. With three or more, the second is the aligned model, and the others are checkpoints that were tuned further.
    pub models: ModelsChoice,
    /// The number of samples that each checkpoint after the aligned model was tuned on; empty if it is not known.
    pub tuned_on: Vec<u64>,
    /// The models themselves, for distances of weights and predictions; `None` compares activations only.
    pub checkpoints: Option<Checkpoints>,
}

/// What one autoencoder shows of several models.
pub type SeriesReport = ModelsReport<SeriesFound>;

/// What is particular to a series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeriesFound {
    /// Models whose FVU exceeds that of the first by more than [`UNSEEN`]: they may have features that the autoencoder lacks.
    pub unseen: Vec<usize>,
    /// Models with the same states as the first, bit by bit.
    pub same_model: Vec<usize>,
    /// The checkpoints after the aligned model.
    pub rebound: Vec<CheckpointReport>,
    /// After how many samples the checkpoints are half-way back.
    pub half_way: HalfWay,
    /// How far each model after the first is from it.
    pub distances: Vec<BaseDistance>,
}

/// The number of samples after which checkpoints are half-way back to the base by each measure of [`CheckpointReport`]; none if they
/// never are, or if the numbers of samples or the measure are not known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HalfWay {
    /// By features.
    pub features: Option<f64>,
    /// By the mean hidden state.
    pub hidden_states: Option<f64>,
    /// By the distance of hidden states.
    pub state_distance: Option<f64>,
    /// By the distance of weights.
    pub weight_distance: Option<f64>,
    /// By the divergence of predictions.
    pub kl: Option<f64>,
}

/// How far a checkpoint is back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// The number of the model.
    pub model: usize,
    /// Samples that it was tuned on.
    pub tuned_on: Option<u64>,
    /// `r` of the features, with its 95 % interval: 0 as the aligned model, 1 as the base.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub features: [f64; 3],
    /// The same of the mean hidden state, without an autoencoder.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub hidden_states: [f64; 3],
    /// `1 - |x - x_0| / |x_1 - x_0|` of the hidden states at the same positions of base 0 and aligned model 1, with its interval.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub state_distance: [f64; 3],
    /// `1 - |W - W_0| / |W_1 - W_0|` of all weights.
    pub weight_distance: Option<f64>,
    /// `1 - KL(0 || checkpoint) / KL(0 || 1)` of the next token, with its interval over samples.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub kl: Option<[f64; 3]>,
}

impl SeriesRequest {
    /// What [`SeriesRequest::run`] would do.
    ///
    /// # Errors
    /// No such runs or autoencoder; runs that differ; a number of samples that is missing.
    pub fn plan(&self) -> Result<ModelsPlan> {
        let (sae, joined) = self.open()?;
        self.plans(&sae, None)?;
        let models = std::iter::once(&sae.store).chain(joined.others()).map(|store| store.manifest().model.clone());
        self.models.plan(&sae, models.collect())
    }

    /// Shows the models to the autoencoder, and writes `rebound.parquet` and `contrast.json`.
    ///
    /// # Errors
    /// As [`SeriesRequest::plan`]; files that cannot be read or written; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<SeriesReport> {
        let (sae, joined) = self.open()?;
        let plans = self.plans(&sae, Some(control))?;
        let (weights, rule) = (&sae.saved.weights, crate::eval::trained_without(&sae)?);
        let buckets = self.models.buckets(&sae)?;
        let (mut fits, mut means, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for store in std::iter::once(&sae.store).chain(joined.others()) {
            let filter = PositionFilter::new(store, rule)?;
            let mut fit = Fits::new(weights, 1, filter.clone());
            let mut features = BucketMeans::of_features(weights.d_sae, filter.clone(), &buckets);
            let mut hidden = BucketMeans::of_states(weights.d_in, filter, &buckets);
            sae.observe_store(store, Stage::Features, &mut [&mut fit, &mut features, &mut hidden], control)?;
            fits.push(ModelFit { model: store.manifest().model.clone(), fvu: fit.fvu()[0] });
            means.push(features);
            states.push(hidden);
        }
        let distances = Distances::measure(&joined, &PositionFilter::new(&joined, rule)?, &buckets, &plans, control)?;
        let mut rows: Vec<CheckpointMean> = Vec::new();
        let mut checkpoints = Vec::new();
        for (model, mean) in means.iter().enumerate() {
            let back = (model >= 2).then(|| rebound(&means[0], &means[1], mean));
            rows.extend((0..weights.d_sae).map(|feature| CheckpointMean {
                feature: feature as u32,
                model: model as u32,
                mean: mean.mean_of(feature),
                rebound: back.as_ref().map(|back| back.features[feature]),
            }));
            checkpoints.extend(back.map(|back| CheckpointReport {
                model,
                tuned_on: self.tuned_on.get(model - 2).copied(),
                features: back.all.triple(),
                hidden_states: rebound(&states[0], &states[1], &states[model]).all.triple(),
                state_distance: distances.states_back(model),
                weight_distance: distances.weights_back(model),
                kl: distances.kl_back(model),
            }));
        }
        let found = SeriesFound {
            unseen: (1..fits.len()).filter(|model| fits[*model].fvu > fits[0].fvu + UNSEEN).collect(),
            same_model: (1..fits.len()).filter(|model| has_same_states(&joined, 0, *model)).collect(),
            half_way: HalfWay::new(&checkpoints),
            distances: (1..means.len()).map(|model| distances.of(model)).collect(),
            rebound: checkpoints,
        };
        self.models.write(&sae, fits, found, |folder, _| write_rebound(&folder.join("rebound.parquet"), &rows))
    }

    /// How the models read the data, or nothing if only activations are compared.
    fn plans(&self, sae: &LoadedSae, control: Option<&mut Control>) -> Result<Vec<Plan>> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(Vec::new()) };
        checkpoints.plans(&self.models.runs, sae.store.hook(), control)
    }

    /// The autoencoder with the states of the first model, and the runs that were checked against each other.
    fn open(&self) -> Result<(LoadedSae, Store)> {
        let sae = self.models.load(&self.models.sae)?;
        crosscoder::check_single(&sae.saved.origin)?;
        transcoder::check_autoencoder(&sae.saved)?;
        let runs = &self.models.runs;
        let checkpoints = runs.len().saturating_sub(2);
        if !self.tuned_on.is_empty() && (self.tuned_on.len() != checkpoints || !self.tuned_on.is_sorted()) {
            return Err(ModelsError::OtherSeries { numbers: self.tuned_on.clone(), checkpoints }.into());
        }
        let joined = crosscoder::join(&sae.run, &runs[1..], &sae.store.manifest().hook)?;
        Ok((sae, joined))
    }
}

impl HalfWay {
    fn new(checkpoints: &[CheckpointReport]) -> Self {
        let by = |measure: &dyn Fn(&CheckpointReport) -> Option<f64>| {
            let points = checkpoints.iter().filter_map(|at| Some((at.tuned_on? as f64, measure(at)?)));
            half_way(&points.collect::<Vec<_>>())
        };
        Self {
            features: by(&|at| Some(at.features[0])),
            hidden_states: by(&|at| Some(at.hidden_states[0])),
            state_distance: by(&|at| Some(at.state_distance[0])),
            weight_distance: by(&|at| at.weight_distance),
            kl: by(&|at| Some(at.kl?[0])),
        }
    }
}
