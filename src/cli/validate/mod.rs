//! `sae validate`: faults of known kinds and rates, and which score or baseline finds them; a report, a JSON file, a picture.

mod experiment;
mod report;

use super::arguments::{ReadingArgs, SaeArgs, Share, ThresholdArg};
use super::{Outcome, SaeReader};
use crate::plots::{self, Interval, Panel};
use anyhow::{Result, bail};
use clap::Args;
use harvest::data::CorruptionKind;
use report::Report;
use sae_core::file;
use serde_json::json;
use std::path::PathBuf;

/// `sae validate`
#[derive(Args, Debug)]
#[command(after_help = "\
A part of the rows is given a fault, the model reads them, and every score and baseline has to tell them from the others: AUC
with 95 % bootstrap intervals, how alike the rankings are, and how well `--keep auto` guesses the share. No labels are used
but to judge. Runs are kept in RUN/validate, so that a second call only scores again.

Examples:
  sae validate --run run --sae base --model llava-1.5 --data data.jsonl
  sae validate --run run --sae base --model llava-1.5 --data data.jsonl --fault swapped-answers --share 0%,10%,25%,50%")]
pub struct ValidateArgs {
    #[command(flatten)]
    pub of: SaeArgs,
    /// Checkpoint that the run was captured from
    #[arg(long)]
    pub model: PathBuf,
    /// Data set that is good, as far as is known
    #[arg(long)]
    pub data: PathBuf,
    /// Rows of the data to use
    #[arg(long, default_value_t = 1000)]
    pub limit: u64,
    /// Faults: swapped-images, swapped-answers, near-answers, wrong-word, shuffled-words, truncated-answers, blurred-images,
    /// noisy-images; all of them if none is named
    #[arg(long, value_delimiter = ',')]
    pub fault: Vec<harvest::data::CorruptionKind>,
    /// Shares of the rows that get one
    #[arg(long, value_delimiter = ',', default_value = "25%")]
    pub share: Vec<Share>,
    /// Runs that weights and pmi are fitted to, together with the rows with faults
    #[arg(long, value_name = "RUN")]
    pub calibrate: Vec<PathBuf>,
    #[command(flatten)]
    pub threshold: ThresholdArg,
    /// Decides which rows get a fault
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// Runs the command.
pub fn run(args: &ValidateArgs, dry: bool) -> Result<Outcome> {
    let opened = SaeReader::new(&args.of)?;
    let faults = if args.fault.is_empty() { CorruptionKind::TRIED.to_vec() } else { args.fault.clone() };
    let trials: Vec<(CorruptionKind, f64)> =
        faults.iter().flat_map(|fault| args.share.iter().map(|share| (*fault, share.0))).collect();
    if args.share.is_empty() || args.limit == 0 {
        bail!("at least one share of at least one row is needed");
    }
    let plan = experiment::plan(args, &opened, dry)?;
    if dry {
        let trials: Vec<_> = trials.iter().map(|(fault, share)| json!({ "fault": fault, "share": share })).collect();
        return opened.plan("validate", json!({ "trials": trials, "limit": args.limit, "model": plan.model }));
    }
    let folder = opened.run.root().join("validate");
    let mut report = Report::new(&opened.name, &plan);
    for (fault, share) in trials {
        report.add(experiment::run(args, &opened, &plan, &folder, fault, share)?);
    }
    let (path, drawn) = (folder.join(format!("{}.json", opened.name)), folder.join(format!("{}.png", opened.name)));
    file::write_json(&path, &report)?;
    let names = report.names();
    let panels = report.trials.iter().filter(|trial| !trial.scores.is_empty()).map(|trial| Panel {
        title: format!("{} ({} %)", trial.fault.name().replace('-', " "), experiment::percent(trial.share)),
        rows: names
            .iter()
            .filter_map(|name| Some(((*name).clone(), Interval::from(*trial.scores.get(*name)?))))
            .collect(),
    });
    plots::intervals(&drawn, "AUC: good rows against rows with a fault", 0.5, &panels.collect::<Vec<_>>())?;
    let text = format!("{}\n  {}\n  {}", report.describe(), path.display(), drawn.display());
    Outcome::new(&report, text)
}
