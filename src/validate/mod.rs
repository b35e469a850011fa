//! Validation: corrupts data in known ways and at known rates, and measures which score or baseline finds the corrupted
//! rows. Labels are used only to measure. Captured activations stay in the run, so that a second call only scores again.
//! Writes `validate/<sae>.json`.

mod trial;

use crate::control::Control;
use crate::sae::{SaeChoice, SaePlan};
use crate::{Error, Result, model};
use filters::Threshold;
use harvest::Plan;
use harvest::data::CorruptionKind;
use sae_core::file;
use sae_core::store::Hook;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use trial::Trial;

/// Which corruptions to try on which data.
#[derive(Clone, Debug)]
pub struct ValidateRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The model that the run was captured from, and a data set without known errors. The layer of the plan is replaced by
    /// that of the autoencoder; its limit is the number of rows to use.
    pub model: Plan,
    /// Kinds of corruption.
    pub corruptions: Vec<CorruptionKind>,
    /// Shares of the rows that are corrupted, 0 to 1.
    pub shares: Vec<f64>,
    /// Runs that weights and `pmi` are fitted to, together with the corrupted rows.
    pub calibrate: Vec<PathBuf>,
    /// Other autoencoders of the run, whose features `pmi` is fitted to as well.
    pub beside: Vec<String>,
    /// A feature counts as active on a token above this activation.
    pub threshold: Threshold,
    /// Decides which rows are corrupted.
    pub seed: u64,
}

/// What a validation would do.
pub type ValidatePlan = SaePlan<ValidateDetails>;

/// What is particular to a validation.
#[derive(Clone, Debug, Serialize)]
pub struct ValidateDetails {
    /// The trials.
    pub trials: Vec<TrialPlan>,
    /// Rows of the data to use.
    pub limit: Option<u64>,
    /// The checkpoint folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub model: PathBuf,
}

/// A corruption at a rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TrialPlan {
    /// The kind of corruption.
    pub corruption: CorruptionKind,
    /// The share of the rows that is corrupted.
    pub share: f64,
}

/// The results of a validation.
#[derive(Clone, Debug, Serialize)]
pub struct ValidateReport {
    /// Name of the autoencoder.
    pub sae: String,
    /// Name of the model.
    pub model: String,
    /// The trials, in the order of the request.
    pub trials: Vec<TrialReport>,
    /// The file of the report.
    #[serde(skip)]
    pub file: PathBuf,
}

/// The results for one corruption at one rate.
#[derive(Clone, Debug, Serialize)]
pub struct TrialReport {
    /// The kind of corruption.
    pub corruption: CorruptionKind,
    /// The share of the rows that is corrupted.
    pub share: f64,
    /// Samples.
    pub samples: u64,
    /// Samples that were corrupted.
    pub altered: u64,
    /// The AUC of each score or baseline that has values for both good and corrupted samples.
    pub scores: BTreeMap<String, Auc>,
    /// What keeping the estimated share would do, by score.
    pub keep: BTreeMap<String, Kept>,
    /// Names of the rows and columns of `agreement`.
    pub names: Vec<String>,
    /// Rank correlation of every score with every other.
    pub agreement: Vec<Vec<Option<f64>>>,
}

/// How well a score separates good from corrupted samples; 0.5 is chance. The interval has 95 % of the bootstrap.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Auc {
    /// The share of pairs of a good and a corrupted sample in which the good one scores higher.
    pub auc: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// An estimate of how much to keep, and the quality of what it keeps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Kept {
    /// Estimated share of mismatched pairs.
    pub mismatched: f64,
    /// Its 95 % interval ([`filters::keep::KeepEstimate::interval`]).
    pub interval: Option<[f64; 2]>,
    /// Share that is kept.
    pub share_kept: f64,
    /// Share of good samples among those that are kept.
    pub right_among_kept: f64,
}

impl ValidateRequest {
    /// Tries every kind of corruption on a quarter of the rows.
    pub fn new(sae: SaeChoice, model: Plan) -> Self {
        Self {
            sae,
            model,
            corruptions: CorruptionKind::TRIED.to_vec(),
            shares: vec![0.25],
            calibrate: Vec::new(),
            beside: Vec::new(),
            threshold: Threshold::Auto,
            seed: 0,
        }
    }

    /// What [`ValidateRequest::run`] would do.
    ///
    /// # Errors
    /// Whatever would prevent it; a model that has not been downloaded.
    pub fn plan(&self) -> Result<ValidatePlan> {
        let sae = self.sae.load()?;
        let trials = self.trials()?;
        sae.beside(&self.beside)?;
        let (plan, _) = model::resolve_for(&self.model, &sae, None)?;
        Ok(sae.plan("validate", ValidateDetails { trials, limit: plan.limit, model: plan.model }))
    }

    /// Runs the trials.
    ///
    /// # Errors
    /// As [`ValidateRequest::plan`]; activations that an earlier call captured with other settings; a full disk; a request to
    /// stop.
    pub fn run(&self, control: &mut Control) -> Result<ValidateReport> {
        let sae = self.sae.load()?;
        let trials = self.trials()?;
        let beside = sae.beside(&self.beside)?;
        let (mut plan, _) = model::resolve_for(&self.model, &sae, Some(control))?;
        for other in &beside {
            let more: Vec<Hook> = other.hooks()?.into_iter().filter(|hook| !plan.hooks.contains(hook)).collect();
            plan.hooks.extend(more);
        }
        let folder = sae.run.root().join("validate");
        let trials = trials.into_iter().map(|trial| {
            let trial = Trial { request: self, sae: &sae, beside: &beside, plan: &plan, folder: &folder, what: trial };
            trial.run(control)
        });
        let report = ValidateReport {
            sae: sae.name.clone(),
            model: harvest::hub::model_name(&plan.model),
            trials: trials.collect::<Result<_>>()?,
            file: folder.join(format!("{}.json", sae.name)),
        };
        file::write_json(&report.file, &report)?;
        Ok(report)
    }

    fn trials(&self) -> Result<Vec<TrialPlan>> {
        if self.shares.is_empty() || self.model.limit == Some(0) {
            return Err(Error::NothingToTry);
        }
        let trials_of = |corruption: &CorruptionKind| {
            let corruption = *corruption;
            self.shares.iter().map(move |share| TrialPlan { corruption, share: *share })
        };
        Ok(self.corruptions.iter().flat_map(trials_of).collect())
    }
}

impl ValidateReport {
    /// Scores and baselines, those with the largest AUC over all trials first.
    pub fn names(&self) -> Vec<&String> {
        let names: BTreeSet<&String> = self.trials.iter().flat_map(|trial| trial.scores.keys()).collect();
        let mean = |name: &String| {
            let of: Vec<f64> = self.trials.iter().filter_map(|t| t.scores.get(name)).map(|auc| auc.auc).collect();
            of.iter().sum::<f64>() / of.len().max(1) as f64
        };
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        names
    }
}
