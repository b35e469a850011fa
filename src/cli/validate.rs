//! `sae validate`: tries which score or baseline finds errors of known kinds and rates; prints a report and draws a plot.

use super::arguments::{ReadingArgs, SaeArgs, Share, ThresholdArg};
use super::score::interval;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, table};
use crate::plots::{self, Interval, Panel};
use anyhow::Result;
use clap::Args;
use harvest::data::CorruptionKind;
use sae_workbench::numbers::percent;
use sae_workbench::validate::TrialReport;
use sae_workbench::{ValidateReport, ValidateRequest};
use std::path::{Path, PathBuf};

/// `sae validate`
#[derive(Args, Debug)]
#[command(after_help = "\
Some of the rows are corrupted, and the model reads all of them. Every score and baseline is then judged by how well it tells \
corrupted rows from the others: AUC with 95 % bootstrap intervals, rank correlations of the scores, and how well `--keep auto` \
estimates the share of good rows. Which rows were corrupted is used only for this judgment. The captured runs stay in RUN/validate, \
and a second call uses them again.

Examples:
  sae validate --run run --sae base --model llava-1.5 --data data.jsonl
  sae validate --run run --sae base --model llava-1.5 --data data.jsonl --corruption swapped-answers --share 0%,10%,25%,50%")]
pub struct ValidateArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Checkpoint that the run was captured from
    #[arg(long, group = "reader")]
    pub model: PathBuf,
    /// Data set whose rows are assumed to be good
    #[arg(long)]
    pub data: PathBuf,
    /// Rows of the data to use
    #[arg(long, default_value_t = 1000)]
    pub limit: u64,
    /// Kinds of corruption: swapped-images, swapped-answers, near-answers, wrong-word, shuffled-words, truncated-answers, spliced-images, blurred-images, noisy-images; all of them if none is named
    #[arg(long, value_delimiter = ',')]
    pub corruption: Vec<CorruptionKind>,
    /// Shares of the rows to corrupt
    #[arg(long, value_delimiter = ',', default_value = "25%")]
    pub share: Vec<Share>,
    /// Runs that cross-modal weights and pmi are fitted to, together with the corrupted rows
    #[arg(long, value_name = "RUN")]
    pub calibrate: Vec<PathBuf>,
    /// Other autoencoders of the run, of other layers, to whose features the pmi columns are fitted as well
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub beside: Vec<String>,
    #[command(flatten)]
    pub threshold: ThresholdArg,
    /// Seed of the choice of rows to corrupt
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

impl ValidateArgs {
    fn request(&self) -> ValidateRequest {
        let tried = || CorruptionKind::TRIED.to_vec();
        ValidateRequest {
            sae: self.sae.choice(),
            model: self.reading.plan(&self.model, &self.data, Some(self.limit), self.sae.device),
            corruptions: if self.corruption.is_empty() { tried() } else { self.corruption.clone() },
            shares: self.share.iter().map(|share| share.0).collect(),
            calibrate: self.calibrate.clone(),
            beside: self.beside.clone(),
            threshold: self.threshold.value,
            seed: self.seed,
        }
    }
}

/// Runs the command.
pub fn run(args: &ValidateArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request();
    let report = |report: &ValidateReport| {
        let plot = report.file.with_extension("png");
        draw(report, &plot)?;
        Ok(format!("{}\n  {}\n  {}", describe(report), report.file.display(), plot.display()))
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), report)
}

fn draw(report: &ValidateReport, path: &Path) -> Result<()> {
    let names = report.names();
    let panels = report.trials.iter().filter(|trial| !trial.scores.is_empty()).map(|trial| {
        let row = |name: &&String| {
            let auc = trial.scores.get(*name)?;
            Some(((*name).clone(), Interval { value: auc.auc, low: auc.low, high: auc.high }))
        };
        let title = format!("{} ({} %)", trial.corruption.name().replace('-', " "), percent(trial.share));
        Panel { title, rows: names.iter().filter_map(row).collect() }
    });
    plots::intervals(path, "AUC: good rows against corrupted rows", 0.5, &panels.collect::<Vec<_>>())
}

/// A table with a row for each score and a column for each trial; then what would be kept, and the rank correlations of the first
/// trial.
fn describe(report: &ValidateReport) -> String {
    let mut text = format!("{} on {}: AUC [95 %], 0.5 is chance\n", report.sae, report.model);
    let names = report.names();
    for trials in report.trials.chunks(3) {
        let title = |t: &TrialReport| format!("{} ({} of {})", t.corruption.name(), count(t.altered), count(t.samples));
        let mut lines = vec![std::iter::once("score".into()).chain(trials.iter().map(title)).collect::<Vec<_>>()];
        for name in &names {
            let cell = |t: &TrialReport| {
                t.scores.get(*name).map_or("-".into(), |a| format!("{:.3} [{:.3}, {:.3}]", a.auc, a.low, a.high))
            };
            lines.push(std::iter::once((*name).clone()).chain(trials.iter().map(cell)).collect());
        }
        text += &format!("\n{}", table(&lines));
    }
    let header = ["how much to keep, by", "corruption", "corrupted", "estimated [95 %]", "kept", "good among the kept"];
    let mut lines = vec![header.map(String::from).to_vec()];
    for trial in &report.trials {
        let really = trial.altered as f64 / trial.samples.max(1) as f64;
        for (column, kept) in &trial.keep {
            let percent = |share: f64| format!("{:.1} %", 100.0 * share);
            let mut shares = [really, kept.mismatched, kept.share_kept, kept.right_among_kept].map(percent);
            shares[1] += &interval(kept.interval);
            lines.push([vec![column.clone(), trial.corruption.name().into()], shares.to_vec()].concat());
        }
    }
    text += &format!("\n{}", table(&lines));
    if let Some(trial) = report.trials.first() {
        text += &format!("\nrank correlations, {}\n{}", trial.corruption.name(), agreement(trial));
    }
    text
}

fn agreement(trial: &TrialReport) -> String {
    let numbers = (1..=trial.names.len()).map(|n| n.to_string());
    let mut lines = vec![std::iter::once(String::new()).chain(numbers).collect::<Vec<_>>()];
    for (n, (name, row)) in trial.names.iter().zip(&trial.agreement).enumerate() {
        let cells = row.iter().take(n + 1).map(|r| r.map_or("-".into(), |r| format!("{r:.2}")));
        lines.push(std::iter::once(format!("{} {name}", n + 1)).chain(cells).collect());
    }
    table(&lines)
}
