//! `sae export`: an autoencoder of a run for another tool, or its features for people elsewhere.

mod features;
mod samples;

use super::arguments::{FeatureArgs, SaeArgs, written};
use super::{Outcome, sae_name};
use crate::cli::info;
use anyhow::{Result, bail};
use clap::Args;
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Format, Summary};
use serde_json::json;
use std::path::PathBuf;

/// `sae export`
#[derive(Args, Debug)]
#[command(after_help = "\
Autoencoders:
  sae export --run run --sae base --to sae-lens --out base
  sae export --run run --sae topk --to sparsify --out sparse/layers.16

Features, with their examples, from the index; pictures come along:
  sae export --run run --to html --features 12,705 --out pages
  sae export --run run --to saedashboard --class cross --limit 1000 --out dashboards
  sae export --run run --to neuronpedia --limit 65536 --out exports

Which features fire in which sample, for SQL and data frames:
  sae export --run run --to samples-features --out fires.parquet")]
pub struct ExportArgs {
    #[command(flatten)]
    pub of: SaeArgs,
    /// What to write: an autoencoder as sae-lens or sparsify, features as saedashboard, neuronpedia or html, or
    /// samples-features, a Parquet table
    #[arg(long, value_parser = target)]
    pub to: Target,
    /// New folder; of samples-features a new file
    #[arg(long)]
    pub out: PathBuf,
    #[command(flatten)]
    pub chosen: FeatureArgs,
}

/// What `sae export --to` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An autoencoder.
    Autoencoder(Format),
    /// SAEDashboard's batches of features.
    SaeDashboard,
    /// Files of Neuronpedia's bulk import.
    Neuronpedia,
    /// A page a feature.
    Html,
    /// A table with a row for each feature that fires in a sample.
    SamplesFeatures,
}

impl Target {
    /// Targets that are made of features.
    const FEATURES: [(&str, Self); 4] = [
        ("saedashboard", Self::SaeDashboard),
        ("neuronpedia", Self::Neuronpedia),
        ("html", Self::Html),
        ("samples-features", Self::SamplesFeatures),
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Autoencoder(format) => format.name(),
            other => Self::FEATURES.iter().find(|(_, target)| *target == other).map_or("", |(name, _)| name),
        }
    }
}

fn target(name: &str) -> Result<Target, String> {
    if let Some((_, target)) = Target::FEATURES.iter().find(|(known, _)| *known == name) {
        return Ok(*target);
    }
    let features = Target::FEATURES.map(|(name, _)| name).join(", ");
    written(name).map(Target::Autoencoder).map_err(|e| format!("{e}; features go to {features}"))
}

/// Runs the command.
pub fn run(args: &ExportArgs, dry: bool) -> Result<Outcome> {
    match args.to {
        Target::Autoencoder(format) => autoencoder(format, args, dry),
        Target::SamplesFeatures => samples::run(args, dry),
        _ => features::run(args, dry),
    }
}

fn autoencoder(format: Format, args: &ExportArgs, dry: bool) -> Result<Outcome> {
    if !args.chosen.features.is_empty() || args.chosen.class.is_some() {
        bail!("{} is a format of autoencoders, which are written whole", format.name());
    }
    let run = Run::open(&args.of.run)?;
    let name = sae_name(&args.of.sae, &run)?;
    let saved = formats::load(&run.sae_dir(&name))?;
    let summary = Summary::new(&saved);
    let text = format!("{name} as {}: {}  {}", format.name(), info::autoencoder(&summary), args.out.display());
    let json = json!({ "command": "export", "sae": name, "to": format.name(), "is": summary, "out": args.out });
    formats::check(format, &saved)?;
    formats::check_empty(&args.out)?;
    if dry {
        return Outcome::plan(json);
    }
    formats::create(format, &args.out, &saved)?;
    Outcome::new(json, text)
}
