//! `sae export`: writes an autoencoder of a run for another tool, or its features for other viewers.

use super::arguments::{FeatureArgs, SaeArgs, written};
use super::info;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted};
use anyhow::{Result, bail};
use clap::Args;
use sae_core::autoencoder::formats::Format;
use sae_workbench::export::{
    ExportFeaturesReport, ExportFeaturesRequest, ExportSaeReport, ExportSaeRequest, ExportTableReport,
    ExportTableRequest, ExportVectorsReport, ExportVectorsRequest, FeatureFormat,
};
use std::path::PathBuf;

/// `sae export`
#[derive(Args, Debug)]
#[command(after_help = "\
Autoencoders:
  sae export --run run --sae base --to sae-lens --out base
  sae export --run run --sae topk --to sparsify --out sparse/layers.16

Features of the index with their examples (images are copied):
  sae export --run run --to html --features 12,705 --out pages
  sae export --run run --to saedashboard --class cross --limit 1000 --out dashboards
  sae export --run run --to neuronpedia --limit 65536 --out exports

Directions of features, to be added to hidden states by other programs:
  sae export --run run --to steering-vector --features 12,705 --out vectors.safetensors

Which features fire in which sample, for SQL and data frames:
  sae export --run run --to samples-features --out fires.parquet")]
pub struct ExportArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// What to write: the autoencoder (sae-lens or sparsify), its features (saedashboard, neuronpedia or html), their directions (steering-vector), or a Parquet table of the features that fire in each sample (samples-features)
    #[arg(long, value_parser = target)]
    pub to: Target,
    /// New folder; for steering-vector and samples-features, a new file
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
    /// Features with their examples.
    Features(FeatureFormat),
    /// Directions of features.
    SteeringVector,
    /// A table with a row for each feature that fires in a sample.
    SamplesFeatures,
}

/// The name of [`Target::SteeringVector`].
const STEERING_VECTOR: &str = "steering-vector";
/// The name of [`Target::SamplesFeatures`].
const SAMPLES_FEATURES: &str = "samples-features";

fn target(name: &str) -> Result<Target, String> {
    match name {
        STEERING_VECTOR => return Ok(Target::SteeringVector),
        SAMPLES_FEATURES => return Ok(Target::SamplesFeatures),
        _ => {}
    }
    if let Some(format) = FeatureFormat::ALL.into_iter().find(|format| format.name() == name) {
        return Ok(Target::Features(format));
    }
    let features = FeatureFormat::ALL.map(FeatureFormat::name).join(", ");
    let more = |e| format!("{e}; features go to {features}, {STEERING_VECTOR}, {SAMPLES_FEATURES}");
    written(name).map(Target::Autoencoder).map_err(more)
}

/// Runs the command.
pub fn run(args: &ExportArgs, invocation: &mut Invocation) -> Result<Outcome> {
    match args.to {
        Target::Autoencoder(format) => autoencoder(format, args, invocation),
        Target::Features(format) => features(format, args, invocation),
        Target::SteeringVector => vectors(args, invocation),
        Target::SamplesFeatures => table(args, invocation),
    }
}

fn vectors(args: &ExportArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let features = args.chosen.features.clone();
    if features.is_empty() {
        bail!("steering vectors need the features that they are of\nhint: --features 12,705");
    }
    let request = ExportVectorsRequest { sae: args.sae.choice(), features, out: args.out.clone() };
    let describe = |report: &ExportVectorsReport| {
        Ok(format!("{}  {}", counted(report.features.len() as u64, "vector"), report.out.display()))
    };
    invocation.outcome(|_| request.plan(), |_| request.run(), describe)
}

fn autoencoder(format: Format, args: &ExportArgs, invocation: &mut Invocation) -> Result<Outcome> {
    if !args.chosen.features.is_empty() || args.chosen.class.is_some() {
        bail!("{} is a format of autoencoders, which are written whole", format.name());
    }
    let request = ExportSaeRequest { sae: args.sae.choice(), format, out: args.out.clone() };
    let describe = |report: &ExportSaeReport| {
        let is = info::autoencoder(&report.is);
        Ok(format!("{} as {}: {is}  {}", report.sae, report.to, report.out.display()))
    };
    invocation.outcome(|_| request.plan(), |_| request.run(), describe)
}

fn features(format: FeatureFormat, args: &ExportArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let (sae, features, out) = (args.sae.choice(), args.chosen.choice(), args.out.clone());
    let request = ExportFeaturesRequest { sae, features, format, out };
    let describe = |report: &ExportFeaturesReport| {
        let mut text = format!("{} features for {}  {}", count(report.features as u64), report.to, report.at.display());
        report.without_images.iter().for_each(|why| text += &format!("\nwithout images: {why}"));
        Ok(text)
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), describe)
}

fn table(args: &ExportArgs, invocation: &mut Invocation) -> Result<Outcome> {
    if args.chosen.class.is_some() {
        bail!("--class is for features with their examples\nhint: --features N,.. limits the table");
    }
    let features = args.chosen.features.clone();
    let request = ExportTableRequest { sae: args.sae.choice(), features, out: args.out.clone() };
    let describe = |report: &ExportTableReport| {
        let (rows, samples) = (count(report.rows), count(report.samples));
        Ok(format!("{rows} rows of {samples} samples  {}", report.out.display()))
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), describe)
}
