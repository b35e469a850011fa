//! One autoencoder on the states of several models: how well it reconstructs each, how features differ, and, for a base, an aligned
//! model and checkpoints that were tuned further, how far these are back. Trains nothing.

use crate::control::{Control, Stage};
use crate::error::ModelsError;
use crate::models::{Fits, ModelFit, buckets, has_same_states};
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
use crate::{Result, crosscoder};
use sae_core::analysis::latent_scaling::Ratio;
use sae_core::analysis::rebound::{BucketMeans, CheckpointMean, half_way, rebound, write_rebound};
use sae_core::device::DeviceChoice;
use sae_core::store::run::check_name;
use sae_core::store::{PositionFilter, Store};
use sae_core::{file, path_text};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

/// Above this difference of FVU, an autoencoder misses too much of another model.
pub const UNSEEN: f64 = 0.05;

/// Which models to show to an autoencoder of the first.
#[derive(Clone, Debug)]
pub struct SeriesRequest {
    /// The runs of the models on the same samples, the one with the autoencoder first. With three or more, the second is the aligned
    /// model, and the others are checkpoints that were tuned further.
    pub runs: Vec<PathBuf>,
    /// The autoencoder; `None` chooses the only one of the first run.
    pub sae: Option<String>,
    /// The number of samples that each checkpoint after the aligned model was tuned on; empty if it is not known.
    pub tuned_on: Vec<u64>,
    /// The name of the contrast in the run; `None` is `models`.
    pub name: Option<String>,
    /// Field of clusters: samples of one value may depend on each other. `None` is each sample by itself.
    pub cluster: Option<String>,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// What a comparison would do.
pub type SeriesPlan = SaePlan<SeriesDetails>;

/// What is particular to a series.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesDetails {
    /// The name of the contrast.
    pub name: String,
    /// The checkpoints, the base first.
    pub models: Vec<String>,
}

/// What one autoencoder shows of several models: `contrast.json`.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesReport {
    /// The version of the files.
    pub schema_version: u32,
    /// The name of the contrast.
    pub name: String,
    /// The runs, in the order of the models.
    #[serde(serialize_with = "path_text::serialize")]
    pub runs: Vec<PathBuf>,
    /// The autoencoder.
    pub sae: String,
    /// The models, the first being the one whose autoencoder it is.
    pub models: Vec<ModelFit>,
    /// Models whose FVU exceeds that of the first by more than [`UNSEEN`]: they may have features that the autoencoder lacks.
    pub unseen: Vec<usize>,
    /// Models with the same states as the first, bit by bit.
    pub same_model: Vec<usize>,
    /// The checkpoints after the aligned model.
    pub rebound: Vec<CheckpointReport>,
    /// The number of samples after which the features are half-way back to the base, if they ever are.
    pub half_way: Option<f64>,
    /// The folder with the table.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// How far a checkpoint is back.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointReport {
    /// The number of the model.
    pub model: usize,
    /// Samples that it was tuned on.
    pub tuned_on: Option<u64>,
    /// `r` of the features, with its 95 % interval: 0 as the aligned model, 1 as the base.
    pub features: [f64; 3],
    /// The same of the mean hidden state, without an autoencoder.
    pub hidden_states: [f64; 3],
}

impl SeriesRequest {
    /// What [`SeriesRequest::run`] would do.
    ///
    /// # Errors
    /// No such runs or autoencoder; runs that differ; a number of samples that is missing.
    pub fn plan(&self) -> Result<SeriesPlan> {
        let (name, sae, others) = self.open()?;
        let models = std::iter::once(&sae.store).chain(others.others()).map(|store| store.manifest().model.clone());
        let details = SeriesDetails { name, models: models.collect() };
        Ok(sae.plan("contrast", details))
    }

    /// Shows the models to the autoencoder, and writes `rebound.parquet` and `contrast.json`.
    ///
    /// # Errors
    /// As [`SeriesRequest::plan`]; files that cannot be read or written; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<SeriesReport> {
        let (name, sae, joined) = self.open()?;
        let (weights, rule) = (&sae.saved.weights, crate::eval::trained_without(&sae)?);
        let buckets = buckets(&sae, self.cluster.as_deref())?;
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
        let triple = |ratio: Ratio| [ratio.value, ratio.lo, ratio.hi];
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
                features: triple(back.all),
                hidden_states: triple(rebound(&states[0], &states[1], &states[model]).all),
            }));
        }
        let points: Vec<(f64, f64)> =
            checkpoints.iter().filter_map(|at| Some((at.tuned_on? as f64, at.features[0]))).collect();
        let folder = sae.run.root().join("contrasts").join(&name);
        let _lock = sae.run.lock()?;
        std::fs::create_dir_all(&folder).map_err(sae_core::Error::io("make the folder", &folder))?;
        write_rebound(&folder.join("rebound.parquet"), &rows)?;
        let report = SeriesReport {
            schema_version: sae_core::store::run::SCHEMA_VERSION,
            name,
            runs: self.runs.clone(),
            sae: sae.name.clone(),
            unseen: (1..fits.len()).filter(|model| fits[*model].fvu > fits[0].fvu + UNSEEN).collect(),
            same_model: (1..fits.len()).filter(|model| has_same_states(&joined, 0, *model)).collect(),
            models: fits,
            half_way: half_way(&points),
            rebound: checkpoints,
            folder,
        };
        file::write_json(&report.folder.join("contrast.json"), &report)?;
        let step = json!({ "sae": report.sae, "models": report.models, "rebound": report.rebound });
        sae.run.write_step(&format!("contrast/{}", report.name), &step)?;
        Ok(report)
    }

    /// The name, the autoencoder with the states of the first model, and the runs that were checked against each other.
    fn open(&self) -> Result<(String, LoadedSae, Store)> {
        let name = self.name.clone().unwrap_or_else(|| "models".into());
        check_name(&name)?;
        let run = self.runs.first().cloned().unwrap_or_default();
        let sae = SaeChoice { run, sae: self.sae.clone(), device: self.device }.load()?;
        crosscoder::check_single(&sae.saved.origin)?;
        let checkpoints = self.runs.len().saturating_sub(2);
        if !self.tuned_on.is_empty() && (self.tuned_on.len() != checkpoints || !self.tuned_on.is_sorted()) {
            return Err(ModelsError::OtherSeries { numbers: self.tuned_on.clone(), checkpoints }.into());
        }
        let joined = crosscoder::join(&sae.run, &self.runs[1..], &sae.store.manifest().hook)?;
        Ok((name, sae, joined))
    }
}
