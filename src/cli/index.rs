//! `sae index`: one pass that writes what every feature responds to, as `features/<name>/*.parquet`.

use super::arguments::{SaeArgs, ThresholdArg};
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, table};
use anyhow::Result;
use clap::Args;
use filters::definition::Sides;
use sae_workbench::index::LensChoice;
use sae_workbench::{IndexReport, IndexRequest};
use std::path::PathBuf;

/// `sae index`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae index --run run                                     promoted tokens by the model that the run was captured from, if it is found
  sae index --run run --model llava-1.5-7b-hf             promoted tokens by this model
  sae index --run run --no-promoted-tokens                no model is used
  sae index --run run --sides action:image,text           classes of an agent's actions and what it sees and reads")]
pub struct IndexArgs {
    #[command(flatten)]
    pub options: IndexOptions,
}

/// What decides an index, made at once or in parts.
#[derive(Args, Debug)]
pub struct IndexOptions {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Checkpoint, as for `sae harvest`, whose output head shows which tokens each feature promotes; the model of the run if left out
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Leave the promoted tokens out
    #[arg(long, conflicts_with = "model")]
    pub no_promoted_tokens: bool,
    #[command(flatten)]
    pub threshold: ThresholdArg,
    /// The modalities whose features are compared: a feature has the class of one side, or cross
    #[arg(long, value_name = "A:B", default_value_t)]
    pub sides: Sides,
}

impl IndexOptions {
    /// The request.
    pub fn request(&self) -> IndexRequest {
        let lens = match &self.model {
            Some(model) => LensChoice::Model(model.clone()),
            None if self.no_promoted_tokens => LensChoice::None,
            None => LensChoice::Recorded,
        };
        IndexRequest { sae: self.sae.choice(), lens, threshold: self.threshold.value, sides: self.sides.clone() }
    }
}

/// Runs the command.
pub fn run(args: &IndexArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.options.request();
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe(report, &request.lens)))
}

/// The report in words.
pub fn describe(report: &IndexReport, lens: &LensChoice) -> String {
    let mut lines: Vec<_> = report.classes.iter().map(|(class, n)| vec![class.clone(), count(*n)]).collect();
    lines.push(vec!["with a cross-modal weight".into(), count(report.weighted as u64)]);
    let words = match &report.words_by {
        Some(folder) => format!("promoted and suppressed tokens by {}", folder.display()),
        None if *lens == LensChoice::None => "without promoted tokens, as requested".into(),
        None if !report.is_in_stream => {
            "without promoted tokens: the features are not of the residual stream, or of what is added to it".into()
        }
        None => {
            "without promoted tokens: the model is no longer where the run says\nhint: name its folder with --model"
                .into()
        }
    };
    let features = count(report.features as u64);
    format!("{features} features\n{}  {}\n{words}", table(&lines), report.folder.display())
}
