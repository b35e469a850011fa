//! `sae merge`: checks the shards of a job and joins them into one run, together with their passes with blank images.

use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted};
use anyhow::Result;
use clap::Args;
use sae_workbench::{MergeReport, MergeRequest};
use std::path::PathBuf;

/// `sae merge`
#[derive(Args, Debug)]
#[command(after_help = "\
All shards must be finished, each present once, and captured from one model and one data set with the same arguments. Every \
byte of their activations is compared with its hash. If something is wrong, it is listed and nothing is written. On the same file \
system, the new run shares the files of its shards (hard links) rather than copying them; the shards may be removed afterwards.

Examples:
  sae merge run-* --run run
  sae merge run-* --run run --dry-run        only look at them
  sae merge s3://lab/job/ --run run          all that were pushed below this address")]
pub struct MergeArgs {
    /// Run folders of the shards, in any order; or s3://BUCKET/FOLDER/, where `sae push` has put one or several
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<PathBuf>,
    /// New run folder
    #[arg(long)]
    pub run: PathBuf,
}

/// Runs the command.
pub fn run(args: &MergeArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = MergeRequest { shards: args.shards.clone(), run: args.run.clone() };
    invocation.outcome(
        |control| request.plan(control),
        |control| request.run(control),
        |report| Ok(describe(report, args)),
    )
}

fn describe(report: &MergeReport, args: &MergeArgs) -> String {
    let also = if report.merged.blank_images { ", and the same with blank images" } else { "" };
    format!(
        "{}, {} of {}{also}; {} of activations shared with them, {} copied\n  {}",
        counted(report.merged.samples, "sample"),
        counted(report.merged.tokens, "token"),
        counted(args.shards.len() as u64, "shard"),
        counted(report.linked as u64, "file"),
        count(report.copied as u64),
        args.run.display()
    )
}
