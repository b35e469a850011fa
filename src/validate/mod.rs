//! Validation: corruptions of known kinds and rates, and which score or baseline finds them. No labels are used but to judge. What
//! is captured is kept in the run, so that a second call only scores again. Writes `validate/<sae>.json`.

mod trial;

use crate::control::Control;
use crate::sae::{SaeChoice, SaePlan};
use crate::{Error, Result, model};
use filters::Threshold;
use harvest::Plan;
use harvest::data::CorruptionKind;
use sae_core::file;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use trial::Trial;

/// What to try on which data.
#[derive(Clone, Debug)]
pub struct ValidateRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The model that the run was captured from, and a data set that is good, as far as is known. Its layer is that of the
    /// autoencoder, its limit the rows to use.
    pub model: Plan,
    /// What is done to rows.
    pub corruptions: Vec<CorruptionKind>,
    /// To which shares of the rows, 0 to 1.
    pub shares: Vec<f64>,
    /// Runs that weights and `pmi` are fitted to, together with the corrupted rows.
    pub calibrate: Vec<PathBuf>,
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
    pub model: PathBuf,
}

/// A corruption at a rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TrialPlan {
    /// What is done.
    pub fault: CorruptionKind,
    /// To which share of the rows.
    pub share: f64,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct ValidateReport {
    /// Name of the autoencoder.
    pub sae: String,
    /// Name of the model.
    pub model: String,
    /// The trials, in the order asked for.
    pub trials: Vec<TrialReport>,
    /// The file of the report.
    #[serde(skip)]
    pub file: PathBuf,
}

/// What was found with one corruption at one rate.
#[derive(Clone, Debug, Serialize)]
pub struct TrialReport {
    /// What was done.
    pub fault: CorruptionKind,
    /// To which share of the rows.
    pub share: f64,
    /// Samples.
    pub samples: u64,
    /// Samples that it changed.
    pub altered: u64,
    /// By score or baseline; those that no sample of a kind has are missing.
    pub scores: BTreeMap<String, Auc>,
    /// What keeping the estimated share would do, by score.
    pub keep: BTreeMap<String, Kept>,
    /// Names of the rows and columns of `agreement`.
    pub names: Vec<String>,
    /// Rank correlation of every score with every other.
    pub agreement: Vec<Vec<Option<f64>>>,
}

/// How well a score tells good from bad; 0.5 is chance. The ends hold 95 % of the bootstrap.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Auc {
    /// The share of pairs of a good and a bad sample in which the good one scores higher.
    pub auc: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// An estimate of how much to keep, and how good what it keeps is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Kept {
    /// Estimated share of mismatched pairs.
    pub mismatched: f64,
    /// Share that is kept.
    pub share_kept: f64,
    /// Share of good samples in what is kept.
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
            threshold: Threshold::Auto,
            seed: 0,
        }
    }

    /// What [`ValidateRequest::run`] would do.
    ///
    /// # Errors
    /// Whatever would keep it from beginning; a model that has not been downloaded.
    pub fn plan(&self) -> Result<ValidatePlan> {
        let sae = self.sae.load()?;
        let trials = self.trials()?;
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
        let (plan, _) = model::resolve_for(&self.model, &sae, Some(control))?;
        let folder = sae.run.root().join("validate");
        let trials = trials.into_iter().map(|trial| {
            let trial = Trial { request: self, sae: &sae, plan: &plan, folder: &folder, what: trial };
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
        let of = |fault: &CorruptionKind| {
            let fault = *fault;
            self.shares.iter().map(move |share| TrialPlan { fault, share: *share })
        };
        Ok(self.corruptions.iter().flat_map(of).collect())
    }
}

impl ValidateReport {
    /// Scores and baselines, the most telling over all trials first.
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

/// A share in percent, in as many digits as it takes to tell it from others: 0.07 is `7`, although 100 x 0.07 is not 7.
pub fn percent(share: f64) -> f64 {
    (share * 1e10).round() / 1e8
}
