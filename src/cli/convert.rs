//! `sae convert`: writes an autoencoder of any known format in another one.

use super::arguments::written;
use super::info;
use super::{Invocation, Outcome};
use anyhow::Result;
use clap::Args;
use sae_core::autoencoder::formats::Format;
use sae_workbench::{ConvertReport, ConvertRequest};
use std::path::PathBuf;

/// `sae convert`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae convert trainer_0 base --to sae-lens            from dictionary_learning to SAELens
  sae convert llava-sae/layers.24 new --to sae-lens --from sparsify
  sae convert run/saes/topk for-delphi --to sparsify --dry-run

The new autoencoder has the same activations and reconstructions. If the format cannot express the autoencoder, the error says \
why, and nothing is written: sparsify has TopK only. A transcoder becomes one in either; SAELens has none with TopK or gates, which only this program reads then.")]
pub struct ConvertArgs {
    /// Folder of the autoencoder, or a file in it
    pub from_path: PathBuf,
    /// New folder
    pub to_path: PathBuf,
    /// Format to write: sae-lens, sparsify, or crosscoder
    #[arg(long, value_parser = written)]
    pub to: Format,
    /// Format to read; recognized from the files if left out
    #[arg(long)]
    pub from: Option<Format>,
    /// Active features per token, if the files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
}

/// Runs the command.
pub fn run(args: &ConvertArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = ConvertRequest {
        from_path: args.from_path.clone(),
        from: args.from,
        k: args.k,
        to_path: args.to_path.clone(),
        to: args.to,
    };
    let describe = |report: &ConvertReport| {
        let sae = info::autoencoder(&report.sae);
        Ok(format!("{} -> {}: {sae}  {}", report.from, report.to, report.out.display()))
    };
    invocation.outcome(|_| request.plan(), |_| request.run(), describe)
}
