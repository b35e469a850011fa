//! What the trials found, as data and as text.

use crate::cli::terminal::{count, table};
use crate::plots::Interval;
use harvest::Plan;
use harvest::data::CorruptionKind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that was found.
#[derive(Serialize)]
pub(super) struct Report {
    /// Name of the autoencoder.
    sae: String,
    /// Name of the model.
    model: String,
    /// The trials, in the order asked for.
    pub trials: Vec<FaultResult>,
}

/// One fault at one rate.
#[derive(Serialize)]
pub(super) struct FaultResult {
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
    /// What `--keep auto` would do, by score.
    pub keep: BTreeMap<String, Kept>,
    /// Of the rows and columns of `agreement`.
    pub names: Vec<String>,
    /// Rank correlation of every score with every other.
    pub agreement: Vec<Vec<Option<f64>>>,
}

/// How well a score tells good from bad; 0.5 is chance. The ends hold 95 % of the bootstrap.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Auc {
    /// The share of pairs of a good and a bad sample in which the good one scores higher.
    pub auc: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl From<Auc> for Interval {
    fn from(of: Auc) -> Self {
        Self { value: of.auc, low: of.low, high: of.high }
    }
}

/// An estimate of how much to keep, and how good what it keeps is.
#[derive(Serialize)]
pub(super) struct Kept {
    /// Estimated share of mismatched pairs.
    pub mismatched: f64,
    /// Share that is kept.
    pub share_kept: f64,
    /// Share of good samples in what is kept.
    pub right_among_kept: f64,
}

impl Report {
    pub(super) fn new(sae: &str, plan: &Plan) -> Self {
        Self { sae: sae.into(), model: harvest::hub::model_name(&plan.model), trials: Vec::new() }
    }

    pub(super) fn add(&mut self, trial: FaultResult) {
        self.trials.push(trial);
    }

    /// Scores and baselines, the most telling over all trials first.
    pub(super) fn names(&self) -> Vec<&String> {
        let names: BTreeSet<&String> = self.trials.iter().flat_map(|trial| trial.scores.keys()).collect();
        let mean = |name: &String| {
            let of: Vec<f64> = self.trials.iter().filter_map(|t| t.scores.get(name)).map(|auc| auc.auc).collect();
            of.iter().sum::<f64>() / of.len().max(1) as f64
        };
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        names
    }

    /// A row a score and a column a trial; then what would be kept, and how alike the rankings of the first trial are.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{} on {}: AUC [95 %], 0.5 is chance\n", self.sae, self.model);
        let names = self.names();
        for trials in self.trials.chunks(3) {
            let title = |t: &FaultResult| format!("{} ({} of {})", t.fault.name(), count(t.altered), count(t.samples));
            let mut lines = vec![std::iter::once("score".into()).chain(trials.iter().map(title)).collect::<Vec<_>>()];
            for name in &names {
                let cell = |t: &FaultResult| {
                    t.scores.get(*name).map_or("-".into(), |a| format!("{:.3} [{:.3}, {:.3}]", a.auc, a.low, a.high))
                };
                lines.push(std::iter::once((*name).clone()).chain(trials.iter().map(cell)).collect());
            }
            text += &format!("\n{}", table(&lines));
        }
        let header = ["how much to keep, by", "fault", "really", "estimated", "kept", "good among the kept"];
        let mut lines = vec![header.map(String::from).to_vec()];
        for trial in &self.trials {
            let really = trial.altered as f64 / trial.samples.max(1) as f64;
            for (column, kept) in &trial.keep {
                let percent = |share: f64| format!("{:.1} %", 100.0 * share);
                let shares = [really, kept.mismatched, kept.share_kept, kept.right_among_kept].map(percent);
                lines.push([vec![column.clone(), trial.fault.name().into()], shares.to_vec()].concat());
            }
        }
        text += &format!("\n{}", table(&lines));
        if let Some(trial) = self.trials.first() {
            text += &format!("\nrank correlations, {}\n{}", trial.fault.name(), agreement(trial));
        }
        text
    }
}

fn agreement(trial: &FaultResult) -> String {
    let numbers = (1..=trial.names.len()).map(|n| n.to_string());
    let mut lines = vec![std::iter::once(String::new()).chain(numbers).collect::<Vec<_>>()];
    for (n, (name, row)) in trial.names.iter().zip(&trial.agreement).enumerate() {
        let cells = row.iter().take(n + 1).map(|r| r.map_or("-".into(), |r| format!("{r:.2}")));
        lines.push(std::iter::once(format!("{} {name}", n + 1)).chain(cells).collect());
    }
    table(&lines)
}
