//! Evaluation: how well an autoencoder reconstructs the activations of its run, separately for text and image tokens; and,
//! with a model and data, how the predictions of the model change. Writes `eval.json` next to the weights. How well models predict
//! text at all is measured without an autoencoder, and autoencoders are tried on models that they were not trained on.

mod losses;
mod models;
mod transfer;

pub use losses::ModelEffect;
pub use models::{EvalModelsPlan, EvalModelsReport, EvalModelsRequest, TextLikelihood};
pub use transfer::{Transfer, TransferPlan, TransferReport, TransferRequest};

use crate::control::{Control, Stage};
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
use crate::{Error, Result, model, transcoder};
use harvest::{ComputeDtype, Plan, Preview};
use sae_core::analysis::eval::{Evaluator, Firing, Report};
use sae_core::analysis::saebench::Core;
use sae_core::file;
use sae_core::store::{PositionFilter, PositionRule, run};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What to evaluate, and how.
#[derive(Clone, Debug)]
pub struct EvalRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// Whether special positions are left out; `None` does as training did. So do the next two fields.
    pub special: Option<bool>,
    /// Whether the first position of every sample is left out.
    pub first: Option<bool>,
    /// Positions whose norm is over this many times the median are left out; 0 keeps all.
    pub max_norm: Option<f64>,
    /// A model and its data set, whose predictions are compared with and without the reconstruction. The hooks of the plan are
    /// replaced by those of the autoencoder.
    pub model: Option<Plan>,
    /// Where to write a result file of SAEBench's `core` evaluation.
    pub saebench: Option<PathBuf>,
}

/// What an evaluation would do.
pub type EvalPlan = SaePlan<EvalDetails>;

/// What is particular to an evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct EvalDetails {
    /// The positions to leave out.
    pub exclude: PositionRule,
    /// The model and its data.
    pub model: Option<Preview>,
}

/// What an evaluation found: `eval.json`.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// The autoencoder.
    pub sae: String,
    /// The activations.
    pub hook: String,
    /// The activations that a transcoder reconstructs, which the measurements are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// When, in UTC.
    pub created: String,
    /// The positions that were left out.
    pub exclude: PositionRule,
    /// The largest norm that `exclude` allows in this store.
    pub max_norm: Option<f64>,
    /// How well the autoencoder reconstructs.
    #[serde(flatten)]
    pub report: Report,
    /// How the predictions of a model change.
    pub model: Option<ModelEffect>,
    /// The folder of the autoencoder.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Whether `eval.json` was written. A read-only run can be evaluated as well.
    #[serde(skip)]
    pub written: bool,
}

impl EvalRequest {
    /// Evaluates on the activations of the run, without a model, on the positions that training used.
    pub fn new(sae: SaeChoice) -> Self {
        Self { sae, special: None, first: None, max_norm: None, model: None, saebench: None }
    }

    /// What [`EvalRequest::run`] would do.
    ///
    /// # Errors
    /// Whatever would prevent the evaluation; a model that has not been downloaded.
    pub fn plan(&self) -> Result<EvalPlan> {
        let sae = self.sae.load_with_pieces()?;
        transcoder::check_target(&sae.run, &sae.name, &sae.saved, &sae.store)?;
        let exclude = self.exclude(&sae)?;
        let model = self.model(&sae, None)?.map(|(_, preview)| preview);
        Ok(sae.plan("eval", EvalDetails { exclude, model }))
    }

    /// Evaluates.
    ///
    /// # Errors
    /// Files that cannot be read or written, a model of another width, no position that is left; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<EvalReport> {
        let sae = self.sae.load_with_pieces()?;
        transcoder::check_target(&sae.run, &sae.name, &sae.saved, &sae.store)?;
        let exclude = self.exclude(&sae)?;
        let model = self.model(&sae, Some(control))?;
        let filter = PositionFilter::new(&sae.store, exclude)?;
        let evaluator = measure(&sae, filter.clone(), control)?;
        let at = (&filter, &evaluator.mean()[..]);
        let model = model.map(|(plan, preview)| losses::measure(&plan, &preview, &sae, at, control)).transpose()?;
        let report = write(&sae, &filter, evaluator.report(), model)?;
        if let Some(path) = &self.saebench {
            self.write_saebench(path, &sae, &report, &evaluator.firing())?;
        }
        Ok(report)
    }

    /// The positions to leave out: those that training left out, unless the request says otherwise.
    fn exclude(&self, sae: &LoadedSae) -> Result<PositionRule> {
        let trained = trained_without(sae)?;
        let exclude = PositionRule {
            special: self.special.unwrap_or(trained.special),
            first: self.first.unwrap_or(trained.first),
            norm: self.max_norm.unwrap_or(trained.norm),
        };
        if !(exclude.norm >= 0.0 && exclude.norm.is_finite()) {
            return Err(Error::MaxNorm { value: exclude.norm });
        }
        Ok(exclude)
    }

    /// The model with its data. Downloads the model only with a `control`.
    fn model(&self, sae: &LoadedSae, control: Option<&mut Control>) -> Result<Option<(Plan, Preview)>> {
        self.model.as_ref().map(|plan| model::resolve_spliced(plan, sae, control)).transpose()
    }

    fn write_saebench(&self, path: &Path, sae: &LoadedSae, report: &EvalReport, firing: &[Firing]) -> Result<()> {
        let config: Value = file::read_json(&report.folder.join("cfg.json"), 1 << 24)?;
        let model = report.model.as_ref();
        let dtype = match self.model.as_ref().map(|plan| plan.dtype).unwrap_or_default() {
            ComputeDtype::F32 => "float32",
            ComputeDtype::Bf16 => "bfloat16",
        };
        let core = Core {
            name: &sae.name,
            model: model.map_or(&sae.store.manifest().model, |model| &model.name),
            dtype,
            dataset: model.map_or("the activations of the run", |model| &model.data),
            weights: &sae.saved.weights,
            config,
            report: &report.report,
            firing,
            losses: model.map(|model| &model.text),
            exclude_special: report.exclude.special,
        };
        Ok(file::write_json(path, &core.result())?)
    }
}

/// Measures an autoencoder without a model on the positions that training used, and writes what was found.
pub(crate) fn evaluate(sae: &LoadedSae, control: &mut Control) -> Result<EvalReport> {
    transcoder::check_target(&sae.run, &sae.name, &sae.saved, &sae.store)?;
    let filter = PositionFilter::new(&sae.store, trained_without(sae)?)?;
    let report = measure(sae, filter.clone(), control)?.report();
    write(sae, &filter, report, None)
}

fn measure<'a>(sae: &'a LoadedSae, filter: PositionFilter, control: &mut Control) -> Result<Evaluator<'a>> {
    let mut evaluator = Evaluator::without(&sae.saved.weights, filter);
    sae.observe(Stage::Evaluate, &mut [&mut evaluator], control)?;
    if evaluator.report().all.tokens == 0 { Err(Error::NoPositions) } else { Ok(evaluator) }
}

fn write(sae: &LoadedSae, filter: &PositionFilter, report: Report, model: Option<ModelEffect>) -> Result<EvalReport> {
    let mut found = EvalReport {
        sae: sae.name.clone(),
        hook: sae.store.manifest().hook.clone(),
        target: sae.store.target().map(|target| target.manifest().hook.clone()),
        created: run::now(),
        exclude: filter.rule(),
        max_norm: filter.limit(),
        report,
        model,
        folder: sae.run.sae_dir(&sae.name),
        written: true,
    };
    let written = sae.run.lock().and_then(|_lock| file::write_json(&found.folder.join("eval.json"), &found));
    match written {
        Err(error) if error.is_read_only() => found.written = false,
        written => written?,
    }
    Ok(found)
}

/// The positions that training left out.
pub(crate) fn trained_without(sae: &LoadedSae) -> Result<PositionRule> {
    /// The only part of `train.toml` that is needed, so that files of other versions can be read.
    #[derive(Deserialize)]
    struct Trained {
        #[serde(default)]
        exclude: PositionRule,
    }
    let path = sae.run.sae_dir(&sae.name).join("train.toml");
    if !path.exists() {
        return Ok(PositionRule::default());
    }
    let text = std::fs::read_to_string(&path).map_err(sae_core::Error::io("read", &path))?;
    let trained: Trained =
        toml::from_str(&text).map_err(|source| Error::TrainConfig { source: Box::new(source), path })?;
    Ok(trained.exclude)
}
