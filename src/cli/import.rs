//! `sae import`: takes another tool's autoencoder into a run, where it is used like one that was trained there, or another tool's
//! activations into a new run.

use super::info;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted};
use anyhow::{Result, anyhow, bail};
use clap::Args;
use harvest::CacheFormat;
use sae_core::autoencoder::formats::Format;
use sae_core::store::{Hook, StoreDtype, hooks};
use sae_workbench::import::{
    ImportActivationsReport, ImportActivationsRequest, ImportSaeReport, ImportSaeRequest, SaeSource,
};
use sae_workbench::published::{HUB, HubSae};
use std::path::{Path, PathBuf};

/// `sae import`
#[derive(Args, Debug)]
#[command(after_help = "\
A published autoencoder is downloaded from the hub into a run that has activations of its model and hook; `sae saes search` finds some:
  sae import --from hub:google/gemma-scope-2-4b-it/resid_post/layer_17_width_16k_l0_medium --run run --index
  sae import --from hub:Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50/layer18.sae.pt --run run --name qwen
  sae import --from hub:OWNER/REPO@REVISION/PATH --run run

An autoencoder in files is added to a run that has activations of its hook:
  sae import layer_20/width_16k/average_l0_68 --run run --name gemma --hook layers.20
  sae import --from dictionary-learning trainer_0 --run run --name dl --hook layers.16
  sae import published --run base --with chat --name theirs --hook layers.13
  sae eval --run run --sae dl

Activations become a new run for train, index and score:
  sae import --from saelens-cache cache --run run
  sae import --from saev shards/0a1b2c --run run --layer 13
  sae import --from safetensors acts.safetensors --tokens tokens.parquet --run run
  sae import --from npy acts.npy --layer 16 --sample-length 128 --run run
  sae import --from vllm hidden-states --state-layers 2,17,32 --checkpoint llava-1.5-7b-hf --run run
docs/dump_activations.py writes the third kind from any model of transformers.")]
pub struct ImportArgs {
    /// Folder of the autoencoder or of the activations, or a file
    #[arg(required_unless_present = "from")]
    pub path: Option<PathBuf>,
    /// Format to read, or a published autoencoder. (Its name as help would be a link here.)
    #[arg(
        long,
        help = "Format to read; recognized from the files if left out. Or a published autoencoder: hub:OWNER/REPO[@REVISION][/PATH], or hub:RELEASE/ID by the names of SAELens"
    )]
    pub from: Option<ImportFrom>,
    /// Run folder: an existing one for an autoencoder, a new one for activations
    #[arg(long)]
    pub run: PathBuf,
    /// Crosscoder: the runs of its other models, in its order
    #[arg(long, value_name = "RUN", requires = "name")]
    pub with: Vec<PathBuf>,
    /// Autoencoder: its name in the run; made of its path if a published one has none
    #[arg(long)]
    pub name: Option<String>,
    /// Autoencoder: active features per token, if its files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
    /// Autoencoder: activations that it is of, such as layers.16, where its files do not say; activations: their column, or the hook's name
    #[arg(long)]
    pub hook: Option<String>,
    /// Transcoder: activations of the run that it reconstructs, where its files do not name them as the run does
    #[arg(long, value_name = "HOOK", conflicts_with = "with")]
    pub target: Option<String>,
    /// Published autoencoder: accept one that was trained on another model than the run was captured from
    #[arg(long)]
    pub any_model: bool,
    /// Autoencoder: index its features at once, as `sae index` does
    #[arg(long)]
    pub index: bool,
    /// Activations: decoder block after which they were captured, from 0; taken from the files if left out
    #[arg(long, conflicts_with = "name")]
    pub layer: Option<usize>,
    /// Activations in a plain array: Parquet, one row per position; only its column `sample` is needed
    #[arg(long, value_name = "TABLE", conflicts_with = "name")]
    pub tokens: Option<PathBuf>,
    /// Activations in a plain array without --tokens: positions of a sample; all are one sample if left out
    #[arg(long, value_name = "N", conflicts_with_all = ["name", "tokens"])]
    pub sample_length: Option<usize>,
    /// Hidden states of vLLM: the layers that it wrote, in the order of eagle_aux_hidden_state_layer_ids. Its layer 17 is the input of block 17, which is the hook layers.16
    #[arg(long, value_name = "L1,L2", value_delimiter = ',', conflicts_with = "name")]
    pub state_layers: Vec<usize>,
    /// Hidden states of vLLM: folder of the checkpoint, whose tokenizer says what tokens are, and which are positions of images
    #[arg(long, value_name = "MODEL", conflicts_with = "name")]
    pub checkpoint: Option<PathBuf>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportFrom {
    /// An autoencoder.
    Autoencoder(Format),
    /// Activations.
    Activations(CacheFormat),
    /// A published autoencoder.
    Hub(HubSae),
}

impl std::str::FromStr for ImportFrom {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name.starts_with(HUB) {
            return name.parse().map(Self::Hub);
        }
        if let Ok(format) = name.parse() {
            return Ok(Self::Activations(format));
        }
        let caches = CacheFormat::ALL.map(CacheFormat::name).join(", ");
        let more =
            |e| format!("{e}; formats of activations are {caches}; a published autoencoder is {HUB}OWNER/REPO/PATH");
        name.parse().map(Self::Autoencoder).map_err(more)
    }
}

/// Runs the command.
pub fn run(args: &ImportArgs, invocation: &mut Invocation) -> Result<Outcome> {
    if let Some(ImportFrom::Hub(sae)) = &args.from {
        if let Some(path) = &args.path {
            bail!("--from names a published autoencoder, so there is no path to read: {}", path.display());
        }
        return autoencoder(args, SaeSource::Hub(sae.clone()), None, invocation);
    }
    let path = args.path.as_deref().ok_or_else(|| anyhow!("--from names a format, but no path was given to read"))?;
    let files = || SaeSource::Files(path.to_path_buf());
    match (&args.from, CacheFormat::detect(path)) {
        (Some(ImportFrom::Activations(format)), _) => activations(args, path, *format, invocation),
        (Some(ImportFrom::Autoencoder(format)), _) => autoencoder(args, files(), Some(*format), invocation),
        (_, Some(format)) if args.name.is_none() => activations(args, path, format, invocation),
        _ => autoencoder(args, files(), None, invocation),
    }
}

fn activations(args: &ImportArgs, path: &Path, format: CacheFormat, invocation: &mut Invocation) -> Result<Outcome> {
    if args.name.is_some() {
        bail!("--name is for autoencoders, but {} holds activations\nhint: leave --name out", format.name());
    }
    let import = harvest::Import {
        format,
        path: path.to_path_buf(),
        hook: args.layer.map(Hook::block),
        column: None,
        tokens: args.tokens.clone(),
        sample_length: args.sample_length,
        state_layers: args.state_layers.clone(),
        checkpoint: args.checkpoint.clone(),
        model: args.model_name.clone(),
        store_dtype: args.store_dtype,
        part_rows: args.shard_tokens,
    };
    let request = ImportActivationsRequest { import, hook: args.hook.clone(), run: args.run.clone() };
    let describe = |report: &ImportActivationsReport| {
        Ok(format!(
            "{}, {} at {}, {} wide, from {}\n  {}",
            counted(report.samples, "sample"),
            counted(report.tokens, "token"),
            hooks::in_words(&report.hooks),
            count(report.d_in as u64),
            report.from,
            args.run.display()
        ))
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), describe)
}

fn autoencoder(
    args: &ImportArgs,
    source: SaeSource,
    from: Option<Format>,
    invocation: &mut Invocation,
) -> Result<Outcome> {
    if args.name.is_none() && matches!(source, SaeSource::Files(_)) {
        bail!(
            "an autoencoder in files needs --name\nhint: for activations, set --from to saelens-cache, saev, safetensors, npy or vllm"
        );
    }
    let request = ImportSaeRequest {
        from,
        k: args.k,
        others: args.with.clone(),
        name: args.name.clone(),
        hook: args.hook.clone(),
        target: args.target.clone(),
        any_model: args.any_model,
        index: args.index,
        ..ImportSaeRequest::new(source, &args.run)
    };
    let describe = |report: &ImportSaeReport| {
        let mut text = format!("{} from {}: {}", report.sae, report.from, info::autoencoder(&report.is));
        if let Some(name) = &report.published {
            text += &format!("  {name}\n");
        }
        if !report.said_hook.is_empty() && report.said_hook != report.hook {
            let (said, hook) = (&report.said_hook, &report.hook);
            text += &format!("  note: its file says that it is of {said}, not of {hook}\n");
        }
        if let Some(index) = &report.index {
            let classes: Vec<_> = index.classes.iter().map(|(class, n)| format!("{class} {}", count(*n))).collect();
            text += &format!("  {} features are indexed: {}\n", count(index.features as u64), classes.join(", "));
        }
        Ok(text + &format!("  {}", report.folder.display()))
    };
    invocation.outcome(|_| request.plan(), |control| request.run(control), describe)
}
