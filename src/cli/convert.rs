//! `sae convert`: an autoencoder of any known format, written as another.

use super::Outcome;
use super::arguments::written;
use crate::cli::info;
use anyhow::Result;
use clap::Args;
use sae_core::autoencoder::formats::Format;
use sae_core::autoencoder::formats::{self, Summary};
use serde_json::json;
use std::path::PathBuf;

/// `sae convert`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae convert trainer_0 base --to sae-lens            dictionary_learning's for SAELens
  sae convert llava-sae/layers.24 new --to sae-lens --from sparsify
  sae convert run/saes/topk for-delphi --to sparsify --dry-run

Activations stay the same, and so do reconstructions. What a format cannot express is named and nothing is written:
sparsify has TopK only, SAELens no skip connections.")]
pub struct ConvertArgs {
    /// Folder of the autoencoder, or a file in it
    pub from_path: PathBuf,
    /// New folder
    pub to_path: PathBuf,
    /// Format to write: sae-lens or sparsify
    #[arg(long, value_parser = written)]
    pub to: Format,
    /// Format to read; told by the files if left out
    #[arg(long)]
    pub from: Option<Format>,
    /// Active features a token, of an autoencoder whose files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
}

/// Runs the command.
pub fn run(args: &ConvertArgs, dry: bool) -> Result<Outcome> {
    let from = match args.from {
        Some(format) => format,
        None => formats::detect(&args.from_path)?,
    };
    let saved = formats::load_with(from, &args.from_path, args.k)?;
    let summary = Summary::new(&saved);
    let text =
        format!("{} -> {}: {}  {}", from.name(), args.to.name(), info::autoencoder(&summary), args.to_path.display());
    let json =
        json!({ "command": "convert", "from": from.name(), "to": args.to.name(), "sae": summary, "out": args.to_path });
    // The plan finds out whatever the work would: a format that cannot express it, a folder in the way.
    formats::check(args.to, &saved)?;
    formats::check_empty(&args.to_path)?;
    if dry {
        return Outcome::plan(json);
    }
    formats::create(args.to, &args.to_path, &saved)?;
    Outcome::new(json, text)
}
