//! `sae import`: another tool's autoencoder into a run, where `eval`, `index` and `score` find it like one that was
//! trained there; or another tool's activations into a run of their own.

use super::{Outcome, check_width};
use crate::cli::info;
use crate::cli::terminal::{self, count, counted};
use anyhow::{Result, bail};
use clap::Args;
use harvest::CacheFormat;
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Format, Summary};
use sae_core::store::StoreDtype;
use sae_core::store::{self, Store};
use sae_core::store::{hooks, run};
use serde_json::json;
use std::path::PathBuf;

/// `sae import`
#[derive(Args, Debug)]
#[command(after_help = "\
Autoencoders go into a run that has the activations they are of:
  sae import layer_20/width_16k/average_l0_68 --run run --name gemma --hook layers.20
  sae import --from dictionary-learning trainer_0 --run run --name dl --hook layers.16
  sae eval --run run --sae dl

Activations become a new run, which train, index and score work on:
  sae import --from saelens-cache cache --run run
  sae import --from saev shards/0a1b2c --run run --layer 13
  sae import --from safetensors acts.safetensors --tokens tokens.parquet --run run
  sae import --from npy acts.npy --layer 16 --sample-length 128 --run run
docs/dump_activations.py writes the third kind from any model of transformers.")]
pub struct ImportArgs {
    /// Folder of the autoencoder or of the activations, or a file
    pub path: PathBuf,
    /// Format to read; told by the files if left out
    #[arg(long)]
    pub from: Option<ImportFrom>,
    /// Run folder: of an autoencoder one that is there, of activations a new one
    #[arg(long)]
    pub run: PathBuf,
    /// Autoencoder: name that it gets in the run
    #[arg(long)]
    pub name: Option<String>,
    /// Autoencoder: active features a token, if its files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
    /// Autoencoder: activations that it is of, such as layers.16; activations: their column, or the hook's name
    #[arg(long)]
    pub hook: Option<String>,
    /// Activations: decoder block that they left, from 0; told by the files if left out
    #[arg(long, conflicts_with = "name")]
    pub layer: Option<usize>,
    /// Activations in a plain array: Parquet, a row a position; only its column `sample` is needed
    #[arg(long, value_name = "TABLE", conflicts_with = "name")]
    pub tokens: Option<PathBuf>,
    /// Activations in a plain array without --tokens: positions of a sample; all are one sample if left out
    #[arg(long, value_name = "N", conflicts_with_all = ["name", "tokens"])]
    pub sample_length: Option<usize>,
    /// Activations: the model they are of, where the files do not say
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    pub model_name: Option<String>,
    /// Activations: how they are stored, f32, f16 or bf16; as they come if left out
    #[arg(long, conflicts_with = "name")]
    pub store_dtype: Option<StoreDtype>,
    /// Activations: token positions of one shard; no sample may be longer
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
        name.parse().map(Self::Autoencoder).map_err(|e| format!("{e}; of activations there are {caches}"))
    }
}

/// Runs the command.
pub fn run(args: &ImportArgs, dry: bool) -> Result<Outcome> {
    match (args.from, CacheFormat::detect(&args.path)) {
        (Some(ImportFrom::Activations(format)), _) => activations(args, format, dry),
        (Some(ImportFrom::Autoencoder(format)), _) => autoencoder(args, Some(format), dry),
        (None, Some(format)) if args.name.is_none() => activations(args, format, dry),
        (None, _) => autoencoder(args, None, dry),
    }
}

fn activations(args: &ImportArgs, format: CacheFormat, dry: bool) -> Result<Outcome> {
    if args.name.is_some() {
        bail!("{} are activations, which have no name in a run: no --name", format.name());
    }
    let mut import = harvest::Import {
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
    // A hook's name chooses the column of a cache that has columns; elsewhere it says what the layer is.
    match &args.hook {
        Some(hook) if format == CacheFormat::SaeLens && !hook.starts_with("layers.") => {
            import.column = Some(hook.clone());
        }
        Some(hook) if args.layer.is_none() => {
            let (own, layer) = hooks::of_tool(hook);
            if own != store::hook(layer) {
                bail!("{hook} is no stream behind a decoder block\nhint: --layer L files it as the one behind block L");
            }
            import.layer = Some(layer);
        }
        _ => {}
    }
    // Before the run folder is made: what cannot be imported leaves nothing behind.
    let outlook = import.preview()?;
    if dry {
        return Outcome::plan(json!({ "command": "import", "run": args.run, "plan": outlook }));
    }
    let run = Run::create(&args.run)?;
    let bar = terminal::bar("import", outlook.rows);
    let record = import.run(&run, &mut |rows| bar.set_position(rows))?;
    bar.finish_and_clear();
    let done = record.progress();
    let text = format!(
        "{}, {} behind layers {:?}, {} wide, from {}\n  {}",
        counted(done.samples, "sample"),
        counted(done.rows, "token"),
        record.spec.layers,
        count(record.spec.d_in as u64),
        format.name(),
        args.run.display()
    );
    let json = json!({
        "command": "import", "from": format.name(), "source": args.path, "samples": done.samples, "tokens": done.rows,
        "layers": record.spec.layers, "d_in": record.spec.d_in, "dtype": record.spec.dtype,
    });
    Outcome::new(json, text)
}

fn autoencoder(args: &ImportArgs, from: Option<Format>, dry: bool) -> Result<Outcome> {
    let (Some(name), Some(hook)) = (&args.name, &args.hook) else {
        bail!(
            "an autoencoder needs --name NAME and the --hook that it is of\nhint: activations: --from saelens-cache, saev, safetensors or npy"
        );
    };
    let run = Run::open(&args.run)?;
    run::check_name(name)?;
    if run.sae_dir(name).exists() {
        bail!("the run has an autoencoder {name} already\nhint: another --name, or remove its folder");
    }
    let store = Store::open(&run, hook)?;
    let from = match from {
        Some(format) => format,
        None => formats::detect(&args.path)?,
    };
    let mut saved = formats::load_with(from, &args.path, args.k)?;
    check_width(&saved, &store)?;
    let summary = Summary::new(&saved);
    // What its own file says is kept in the record; the run is the authority on where activations come from.
    let said = (saved.origin.model.clone(), saved.origin.hook.clone());
    let manifest = store.manifest();
    saved.origin.hook.clone_from(&manifest.hook);
    saved.origin.layer = manifest.layer;
    if saved.origin.context_size == 0 {
        saved.origin.context_size = store.longest_sample()?;
    }
    if saved.origin.model.is_empty() {
        saved.origin.model.clone_from(&manifest.model);
    }
    let dir = run.sae_dir(name);
    let json = json!({
        "command": "import", "from": from.name(), "source": args.path, "sae": name, "hook": manifest.hook,
        "is": summary, "said_model": said.0, "said_hook": said.1,
    });
    formats::check(Format::SaeLens, &saved)?;
    if dry {
        return Outcome::plan(json);
    }
    let lock = run.lock()?;
    formats::create(Format::SaeLens, &dir, &saved)?;
    run.write_step(&format!("import/{name}"), &json)?;
    drop(lock);
    let mut text = format!("{name} from {}: {}", from.name(), info::autoencoder(&summary));
    if !said.1.is_empty() && said.1 != manifest.hook {
        text += &format!("  note: its file says that it is of {}, not of {}\n", said.1, manifest.hook);
    }
    Outcome::new(json, text + &format!("  {}", dir.display()))
}
