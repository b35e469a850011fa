//! `sae import`: takes another tool's autoencoder into a run, where it is used like one that was trained there, or another tool's
//! activations into a new run.

use super::info;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted};
use anyhow::{Result, bail};
use clap::Args;
use harvest::CacheFormat;
use sae_core::autoencoder::formats::Format;
use sae_core::store::StoreDtype;
use sae_workbench::import::{ImportActivationsReport, ImportActivationsRequest, ImportSaeReport, ImportSaeRequest};
use std::path::PathBuf;

/// `sae import`
#[derive(Args, Debug)]
#[command(after_help = "\
An autoencoder is added to a run that has activations of its hook:
  sae import layer_20/width_16k/average_l0_68 --run run --name gemma --hook layers.20
  sae import --from dictionary-learning trainer_0 --run run --name dl --hook layers.16
  sae import published --run base --with chat --name theirs --hook layers.13
  sae eval --run run --sae dl

Activations become a new run for train, index and score:
  sae import --from saelens-cache cache --run run
  sae import --from saev shards/0a1b2c --run run --layer 13
  sae import --from safetensors acts.safetensors --tokens tokens.parquet --run run
  sae import --from npy acts.npy --layer 16 --sample-length 128 --run run
docs/dump_activations.py writes the third kind from any model of transformers.")]
pub struct ImportArgs {
    /// Folder of the autoencoder or of the activations, or a file
    pub path: PathBuf,
    /// Format to read; recognized from the files if left out
    #[arg(long)]
    pub from: Option<ImportFrom>,
    /// Run folder: an existing one for an autoencoder, a new one for activations
    #[arg(long)]
    pub run: PathBuf,
    /// Crosscoder: the runs of its other models, in its order
    #[arg(long, value_name = "RUN", requires = "name")]
    pub with: Vec<PathBuf>,
    /// Autoencoder: its name in the run
    #[arg(long)]
    pub name: Option<String>,
    /// Autoencoder: active features per token, if its files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
    /// Autoencoder: activations that it is of, such as layers.16; activations: their column, or the hook's name
    #[arg(long)]
    pub hook: Option<String>,
    /// Activations: decoder block after which they were captured, from 0; taken from the files if left out
    #[arg(long, conflicts_with = "name")]
    pub layer: Option<usize>,
    /// Activations in a plain array: Parquet, one row per position; only its column `sample` is needed
    #[arg(long, value_name = "TABLE", conflicts_with = "name")]
    pub tokens: Option<PathBuf>,
    /// Activations in a plain array without --tokens: positions of a sample; all are one sample if left out
    #[arg(long, value_name = "N", conflicts_with_all = ["name", "tokens"])]
    pub sample_length: Option<usize>,
    /// Activations: the model that they were captured from, if the files do not say
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    pub model_name: Option<String>,
    /// Activations: number type to store, f32, f16 or bf16; that of the files if left out
    #[arg(long, conflicts_with = "name")]
    pub store_dtype: Option<StoreDtype>,
    /// Activations: token positions in one file; no sample may be longer
    #[arg(long, default_value_t = 65_536)]
    pub shard_tokens: usize,
}

/// What `sae import --from` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFrom {
    /// An autoencoder.
    Autoencoder(Format),
    /// Activations.
    Activations(CacheFormat),
}

impl std::str::FromStr for ImportFrom {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Ok(format) = name.parse() {
            return Ok(Self::Activations(format));
        }
        let caches = CacheFormat::ALL.map(CacheFormat::name).join(", ");
        name.parse().map(Self::Autoencoder).map_err(|e| format!("{e}; formats of activations are {caches}"))
    }
}

/// Runs the command.
pub fn run(args: &ImportArgs, invocation: &mut Invocation) -> Result<Outcome> {
    match (args.from, CacheFormat::detect(&args.path)) {
        (Some(ImportFrom::Activations(format)), _) => activations(args, format, invocation),
        (Some(ImportFrom::Autoencoder(format)), _) => autoencoder(args, Some(format), invocation),
        (None, Some(format)) if args.name.is_none() => activations(args, format, invocation),
        (None, _) => autoencoder(args, None, invocation),
    }
}

fn activations(args: &ImportArgs, format: CacheFormat, invocation: &mut Invocation) -> Result<Outcome> {
    if args.name.is_some() {
        bail!("--name is for autoencoders, but {} holds activations\nhint: leave --name out", format.name());
    }
    let import = harvest::Import {
        format,
        path: args.path.clone(),
        layer: args.layer,
        column: None,
        tokens: args.tokens.clone(),
        sample_length: args.sample_length,
        model: args.model_name.clone(),
        store_dtype: args.store_dtype,
        part_rows: args.shard_tokens,
    };
    let request = ImportActivationsRequest { import, hook: args.hook.clone(), run: args.run.clone() };
    let describe = |report: &ImportActivationsReport| {
        Ok(format!(
            "{}, {} after layers {:?}, {} wide, from {}\n  {}",
            counted(report.samples, "sample"),
            counted(report.tokens, "token"),
            report.layers,
            count(report.d_in as u64),
            report.from,
            args.run.display()
        ))
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), describe)
}

fn autoencoder(args: &ImportArgs, from: Option<Format>, invocation: &mut Invocation) -> Result<Outcome> {
    let (Some(name), Some(hook)) = (args.name.clone(), args.hook.clone()) else {
        bail!(
            "an autoencoder needs --name and --hook, the hook that it was trained on\nhint: for activations, set --from to saelens-cache, saev, safetensors or npy"
        );
    };
    let (path, run) = (args.path.clone(), args.run.clone());
    let request = ImportSaeRequest { path, from, k: args.k, run, others: args.with.clone(), name, hook };
    let describe = |report: &ImportSaeReport| {
        let mut text = format!("{} from {}: {}", report.sae, report.from, info::autoencoder(&report.is));
        if !report.said_hook.is_empty() && report.said_hook != report.hook {
            let (said, hook) = (&report.said_hook, &report.hook);
            text += &format!("  note: its file says that it is of {said}, not of {hook}\n");
        }
        Ok(text + &format!("  {}", report.folder.display()))
    };
    invocation.outcome(|_| request.plan(), |_| request.run(), describe)
}
