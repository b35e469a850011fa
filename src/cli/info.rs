//! `sae info`: what a file or folder is - a run, a store of activations, an autoencoder of any known format.

use super::{Outcome, progress};
use crate::cli::failure;
use crate::cli::terminal::{count, counted};
use anyhow::{Result, bail};
use clap::Args;
use sae_core::autoencoder::formats::{self, Range, Summary};
use sae_core::store::run::SCHEMA_VERSION;
use sae_core::store::{Manifest, Store};
use sae_core::{Run, file};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `sae info`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae info gemma-scope-9b-pt-res/layer_20/width_16k/average_l0_68
  sae info trainer_0/ae.pt
  sae info run                              what a run holds
  sae info run/activations/layers.16        what a store holds
  sae info run/saes/base --json")]
pub struct InfoArgs {
    /// Folder, or a file in it
    pub path: PathBuf,
    /// Active features a token, of an autoencoder whose files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
}

const MANIFEST: &str = "manifest.json";

/// Runs the command. It only reads, so that its plan is its work.
pub fn run(args: &InfoArgs, _dry: bool) -> Result<Outcome> {
    let path = &args.path;
    // A file may stand for its folder: `run.json`, `manifest.json`, `ae.pt`.
    let folder = match path.parent() {
        Some(parent) if path.is_file() => parent.to_path_buf(),
        _ => path.clone(),
    };
    match () {
        () if !path.exists() => bail!("there is nothing at {}", path.display()),
        () if folder.join("run.json").is_file() => of_run(&folder),
        () if folder.join(MANIFEST).is_file() => of_store(&folder.join(MANIFEST)),
        () => of_autoencoder(path, args.k),
    }
}

fn of_autoencoder(path: &Path, k: Option<usize>) -> Result<Outcome> {
    let format = match formats::detect(path) {
        Ok(format) => format,
        Err(error) => return several(path).unwrap_or(Err(error.into())),
    };
    let summary = Summary::new(&formats::load_with(format, path, k)?);
    let mut json = json!({ "kind": "autoencoder", "format": format.name(), "path": path });
    if let (Value::Object(json), Value::Object(more)) = (&mut json, serde_json::to_value(&summary)?) {
        json.extend(more);
    }
    Outcome::new(json, format!("{}: {}", format.name(), autoencoder(&summary)))
}

/// The autoencoders in the folders below, if there are some.
fn several(path: &Path) -> Option<Result<Outcome>> {
    let found = formats::below(path);
    if found.is_empty() {
        return None;
    }
    let mut text = format!("{} in this folder\n", counted(found.len() as u64, "autoencoder"));
    for (at, format) in &found {
        text += &format!("  {:<20} {}\n", format.name(), at.strip_prefix(path).unwrap_or(at).display());
    }
    let found: Vec<_> = found.iter().map(|(at, format)| json!({ "path": at, "format": format.name() })).collect();
    Some(Outcome::new(json!({ "kind": "autoencoders", "path": path, "autoencoders": found }), text))
}

/// An autoencoder for people, a line for each thing to know.
pub fn autoencoder(summary: &Summary) -> String {
    let range = |r: &Range| format!("{:.4} to {:.4} (mean {:.4})", r.min, r.max, r.mean);
    let trained = summary.architecture.name();
    let used = match (summary.k, &summary.threshold) {
        (Some(k), _) => format!("topk, the {k} largest of a token"),
        (_, Some(threshold)) => format!("jumprelu, thresholds {}", range(threshold)),
        _ => summary.activation.to_string(),
    };
    let inputs = serde_json::to_value(summary.normalization).ok();
    let inputs = inputs.as_ref().and_then(Value::as_str).unwrap_or_default();
    let known = |text: &str| if text.is_empty() { "not stated".to_string() } else { text.to_string() };
    let mut lines = vec![
        ("trained as", trained.to_string()),
        ("used as", used),
        ("inputs normalized", inputs.to_string()),
        ("decoder norms", range(&summary.decoder_norms)),
        ("norm of b_dec", format!("{:.4}", summary.b_dec_norm)),
        ("model", known(&summary.model)),
        ("hook", known(&summary.hook)),
    ];
    if summary.skip {
        lines.push(("skip connection", "yes".into()));
    }
    let mut text = format!("{} features of {} dimensions\n", count(summary.d_sae as u64), count(summary.d_in as u64));
    lines.extend(summary.notes.iter().map(|note| ("note", note.clone())));
    lines.into_iter().for_each(|(what, is)| text += &format!("  {what:<18} {is}\n"));
    text
}

fn of_store(path: &Path) -> Result<Outcome> {
    let manifest: Manifest = file::read_json(path, 1 << 28)?;
    if manifest.schema_version != SCHEMA_VERSION {
        bail!("the store has layout {}, not {SCHEMA_VERSION}: {}", manifest.schema_version, path.display());
    }
    let text = format!(
        "activations of {}: {} tokens of {} samples, {} wide, {:?}, {} shards\n  mean norm  {:.4}\n  model      {}\n  made       {}",
        manifest.hook,
        count(manifest.rows),
        count(manifest.samples),
        count(manifest.d_in as u64),
        manifest.dtype,
        manifest.shards.len(),
        manifest.mean_norm,
        manifest.model,
        manifest.created,
    );
    let mut json = json!({ "kind": "activations", "path": path });
    if let (Value::Object(json), Value::Object(mut more)) = (&mut json, serde_json::to_value(&manifest)?) {
        more.insert("shards".into(), manifest.shards.len().into());
        json.extend(more);
    }
    Outcome::new(json, text)
}

fn of_run(folder: &PathBuf) -> Result<Outcome> {
    let run = Run::open(folder)?;
    let record = run.record()?;
    let mut text = format!("a run of {}, begun {}\n", record.program, record.created);
    let (mut hooks, mut saes) = (Vec::new(), Vec::new());
    for hook in run.list("activations") {
        // One that a harvest has not finished is no reason to say nothing about the rest.
        let Ok(store) = Store::open(&run, &hook) else {
            text += &format!("  activations  {hook} (unfinished)\n");
            continue;
        };
        let m = store.manifest();
        text += &format!("  activations  {hook}: {} tokens, {} wide\n", count(m.rows), count(m.d_in as u64));
        hooks.push(json!({ "hook": hook, "tokens": m.rows, "samples": m.samples, "d_in": m.d_in, "dtype": m.dtype }));
    }
    for name in run.saes() {
        match formats::load(&run.sae_dir(&name)) {
            Ok(saved) => {
                let (f, hook) = (saved.weights.d_sae, &saved.origin.hook);
                text += &format!(
                    "  autoencoder  {name}: {} {} features of {hook}\n",
                    count(f as u64),
                    saved.architecture.name()
                );
                saes.push(json!({ "name": name, "features": f, "architecture": saved.architecture, "hook": hook }));
            }
            Err(e) => text += &format!("  autoencoder  {name}: {}\n", failure::message(&e.into())),
        }
    }
    for name in run.unfinished_saes() {
        let progress = progress(&run, &name);
        text += &format!("  autoencoder  {name}: {progress}; --resume continues\n");
        saes.push(json!({ "name": name, "unfinished": progress }));
    }
    let (indices, mut scores) = (run.list("features"), run.list("scores"));
    // What lies beside a table is not listed apart.
    scores.retain(|file| file.ends_with(".parquet"));
    let list = |what: &str, names: &[String]| match names.is_empty() {
        true => String::new(),
        false => format!("  {what:<12} {}\n", names.join(", ")),
    };
    text += &(list("index of", &indices) + &list("scores", &scores));
    let steps: Vec<_> = record.steps.keys().collect();
    let json = json!({
        "kind": "run", "path": folder, "program": record.program, "created": record.created, "steps": steps,
        "activations": hooks, "saes": saes, "features": indices, "scores": scores,
    });
    Outcome::new(json, text)
}
