//! `sae score`: a score a sample and method, in `scores/<name>.parquet`, and beside it what the scores rest on.

mod build;
mod explain;

pub(super) use build::{PMI, PMI_BLANK, PMI_TOKEN, Request, build};

use super::arguments::{SaeArgs, ThresholdArg};
use super::{Outcome, SaeReader};
use crate::cli::terminal::{count, table};
use anyhow::Result;
use clap::Args;
use filters::definition::Definition;
use serde_json::json;
use std::path::PathBuf;

/// `sae score`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae score --run run --sae base                          every mode, pmi fitted to the run itself
  sae score --run new --sae base --calibrate run          weights and pmi fitted to another run
  sae score --run chosen --rejected rejected              answers of preference data apart, and their margin
  sae score --run run --explain row-17                    why a sample scores what it scores")]
pub struct ScoreArgs {
    #[command(flatten)]
    pub of: SaeArgs,
    /// Whose definitions of the scores: paper, release, corrected or all
    #[arg(long, default_value = "all", value_parser = ["paper", "release", "corrected", "all"])]
    pub mode: String,
    /// Run whose samples weights (of the first) and pmi are fitted to, without labels; the scored run itself if this is left
    /// out. Several are fitted together, and the scored run may be named among them
    #[arg(long, value_name = "RUN")]
    pub calibrate: Vec<PathBuf>,
    /// Run of the same data harvested with --answers rejected: adds the columns SCORE_rejected and SCORE_margin
    #[arg(long, value_name = "RUN")]
    pub rejected: Option<PathBuf>,
    /// Score nothing; say which components and features make up the pmi of the sample of this key, id or number
    #[arg(long, value_name = "KEY", conflicts_with_all = ["calibrate", "rejected"])]
    pub explain: Option<String>,
    #[command(flatten)]
    pub threshold: ThresholdArg,
    /// Seed of the column `random`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Runs the command.
pub fn run(args: &ScoreArgs, dry: bool) -> Result<Outcome> {
    let opened = SaeReader::new(&args.of)?;
    if dry {
        let more = json!({ "mode": args.mode, "calibrate": args.calibrate, "rejected": args.rejected, "explain": args.explain });
        return opened.plan("score", more);
    }
    if let Some(key) = &args.explain {
        return explain::run(&opened, key);
    }
    let modes = match args.mode.as_str() {
        "all" => Definition::ALL.to_vec(),
        mode => vec![mode.parse().map_err(anyhow::Error::msg)?],
    };
    let request = Request {
        modes: &modes,
        threshold: args.threshold.value.for_width(opened.saved.weights.d_in),
        seed: args.seed,
        calibrate: &args.calibrate,
        rejected: args.rejected.as_deref(),
    };
    let built = build(&opened, &request)?;
    let scores = &built.scores;
    let skipped = scores.rows.iter().filter(|r| r.reason.is_some()).count() as u64;
    let mut lines =
        vec![["score", "samples", "min", "median", "max", "rank corr. with tokens"].map(String::from).to_vec()];
    for name in scores.names() {
        let mut values: Vec<f64> = scores.columns[name].iter().copied().flatten().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((share * (values.len() as f64 - 1.0)) as usize).copied().unwrap_or(f64::NAN);
        let cell = |share: f64| format!("{:.3}", at(share));
        let length = built.lengths.get(name).map_or("-".into(), |r| format!("{r:.3}"));
        lines.push(vec![name.into(), count(values.len() as u64), cell(0.0), cell(0.5), cell(1.0), length]);
    }
    let path = opened.run.scores(&opened.name);
    let mut text = format!("{}  samples that lack scores (column reason says why): {skipped}\n", table(&lines));
    for (mode, few) in Definition::ALL.iter().zip(built.weights.too_few).filter(|(mode, _)| modes.contains(mode)) {
        text += &format!("  features with too few tokens for a {} weight: {}\n", mode.name(), count(few));
    }
    for (column, why) in &built.without {
        text += &format!("  no {column}: {why}\n");
    }
    for (column, auto) in &built.keep {
        text += &format!(
            "  by {column} about {:.0} % of the pairs are mismatched; --keep auto would keep {:.0} %\n",
            100.0 * auto.mismatched,
            100.0 * auto.share_kept
        );
    }
    text += &format!("  {}", path.display());
    let json = json!({
        "samples": scores.rows.len(), "without_score": skipped, "columns": scores.names(), "file": path,
        "too_few_tokens": built.weights.too_few, "without": built.without, "keep": built.keep,
        "rank_correlation_with_tokens": built.lengths,
    });
    Outcome::new(json, text)
}
