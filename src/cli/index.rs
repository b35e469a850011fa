//! `sae index`: one pass that writes what every feature responds to, as `features/<name>/*.parquet`.

use super::arguments::{SaeArgs, ThresholdArg};
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, table};
use anyhow::Result;
use clap::Args;
use sae_workbench::index::LensChoice;
use sae_workbench::{IndexReport, IndexRequest};
use std::path::PathBuf;

/// `sae index`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae index --run run                                     words by the model that the run was captured from, if it is there
  sae index --run run --model llava-1.5-7b-hf             by this one
  sae index --run run --no-words                          no model is looked for")]
pub struct IndexArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Checkpoint, as for `sae harvest`, through whose output head the tokens that each feature promotes are computed; the one that the run names if left out
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Leave the words out
    #[arg(long, conflicts_with = "model")]
    pub no_words: bool,
    #[command(flatten)]
    pub threshold: ThresholdArg,
}

impl IndexArgs {
    fn request(&self) -> IndexRequest {
        let lens = match &self.model {
            Some(model) => LensChoice::Model(model.clone()),
            None if self.no_words => LensChoice::None,
            None => LensChoice::Recorded,
        };
        IndexRequest { sae: self.sae.choice(), lens, threshold: self.threshold.value }
    }
}

/// Runs the command.
pub fn run(args: &IndexArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request();
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe(report, args)))
}

fn describe(report: &IndexReport, args: &IndexArgs) -> String {
    let mut lines: Vec<_> = report.classes.iter().map(|(class, n)| vec![class.clone(), count(*n)]).collect();
    lines.push(vec!["with a cross-modal weight".into(), count(report.weighted as u64)]);
    let words = match &report.words_by {
        Some(folder) => format!("promoted and suppressed tokens by {}", folder.display()),
        None if args.no_words => "no words, as asked".into(),
        None => "no words: the model is not where the run says\nhint: say where with --model".into(),
    };
    let features = count(report.features as u64);
    format!("{features} features\n{}  {}\n{words}", table(&lines), report.folder.display())
}
