//! `sae reduce`: puts the parts of a pass together.

use super::arguments::DeviceArg;
use super::{Invocation, Outcome, index, score};
use crate::cli::terminal::counted;
use anyhow::Result;
use clap::Args;
use filters::definition::Definition;
use sae_workbench::index::LensChoice;
use sae_workbench::parts::Reduced;
use sae_workbench::{ReduceReport, ReduceRequest};
use std::path::PathBuf;

/// `sae reduce`
#[derive(Args, Debug)]
#[command(after_help = "\
The parts say what they are of: a run, an autoencoder, an operation and its arguments. Parts that do not belong together are rejected, \
and so are two different states of one part; a part that was made twice is read once. If parts are missing, the commands that make them \
are printed. The files that are written have the same bytes as those of `sae index`, `sae score` or a first question, whatever the number of parts.

Examples:
  sae reduce --run run                                   all parts in run/parts
  sae reduce --run run run/parts/index-base-*            those of an index")]
pub struct ReduceArgs {
    /// Part files, or folders of them (default: parts in the run); or s3://BUCKET/FOLDER/, the --out of `sae pass`
    #[arg(value_name = "PART")]
    pub parts: Vec<PathBuf>,
    /// Run folder
    #[arg(long)]
    pub run: PathBuf,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// Runs the command.
pub fn run(args: &ReduceArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = ReduceRequest { run: args.run.clone(), parts: args.parts.clone(), device: args.device.device };
    let describe = |report: &ReduceReport| Ok(describe(report));
    invocation.outcome(|control| request.plan(control), |control| request.run(control), describe)
}

fn describe(report: &ReduceReport) -> String {
    match &report.result {
        Reduced::Index(report) => index::describe(report, &LensChoice::Recorded),
        Reduced::Score(report) => score::describe(report, &Definition::ALL),
        Reduced::Summaries(report) => {
            let (positions, bytes) = (report.positions, counted(report.bytes, "byte"));
            format!("summaries of every sample over the positions {positions}: {bytes}\n  {}", report.file.display())
        }
    }
}
