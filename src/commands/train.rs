//! `sae train`: arguments to a checked configuration, training with a progress bar, the autoencoder and its log saved.

use super::Outcome;
use crate::args::Train;
use crate::terminal::{self, count};
use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use sae_core::formats::{self, Format, Origin, Saved};
use sae_core::store::Store;
use sae_core::train::{self, Log, StepLog, TrainConfig};
use sae_core::{Run, file, run};
use serde_json::json;

/// Runs the command.
pub fn run(args: &Train, dry: bool) -> Result<Outcome> {
    let config = config(args)?;
    let run = Run::open(&args.run)?;
    let store = Store::open(&run, &args.hook)?;
    let d_in = store.manifest().d_in;
    config.check(d_in)?;
    run::check_name(&args.name)?;
    if run.sae(&args.name).exists() {
        bail!("the run has an autoencoder {} already\nhint: another --name, or remove its folder", args.name);
    }
    if dry {
        let features = config.d_sae(d_in);
        return Outcome::plan(json!({ "command": "train", "d_in": d_in, "d_sae": features, "config": config }));
    }
    let last = train_and_save(&run, &store, &args.name, &config, &args.device.device.open()?)?;
    let text = format!(
        "{}: {} features on {}, {} tokens\n  loss {:.4}  L0 {:.1}  FVU {:.4}  dead {:.1} %\n  {}",
        args.name,
        count(config.d_sae(d_in) as u64),
        args.hook,
        count(last.tokens),
        last.loss,
        last.l0,
        last.fvu,
        100.0 * last.dead,
        run.sae(&args.name).display(),
    );
    Outcome::new(summary(&last), text)
}

/// Trains, shows how it goes, and writes weights, configuration and log. Returns what the last step measured.
pub fn train_and_save(run: &Run, store: &Store, name: &str, config: &TrainConfig, device: &Device) -> Result<StepLog> {
    let _lock = run.lock()?;
    let bar = terminal::bar("train", config.steps);
    let (mut log, mut last) = (Log::new(config.steps), StepLog::default());
    let weights = train::train(store, config, device, &mut |entry| {
        log.push(entry);
        last = *entry;
        bar.set_position(entry.step);
        bar.set_message(format!(
            "loss {:.3} L0 {:.1} FVU {:.4} dead {:.1} % {:.0} tokens/s",
            entry.loss,
            entry.l0,
            entry.fvu,
            100.0 * entry.dead,
            entry.tokens_per_s
        ));
    })?;
    bar.finish_and_clear();
    let manifest = store.manifest();
    let origin = Origin {
        model: manifest.model.clone(),
        hook: manifest.hook.clone(),
        layer: manifest.layer,
        context_size: 0,
        training: serde_json::to_value(config)?,
    };
    let dir = run.sae(name);
    let text = toml::to_string_pretty(config).context("the configuration cannot be written")?;
    file::write_bytes(&dir.join("train.toml"), text.as_bytes())?;
    log.write(&dir.join("log.parquet"))?;
    formats::save(Format::SaeLens, &dir, &Saved { architecture: config.arch, weights, origin })?;
    run.note(&format!("train/{name}"), &json!({ "config": config, "hook": manifest.hook, "last": summary(&last) }))?;
    Ok(last)
}

fn config(args: &Train) -> Result<TrainConfig> {
    let mut config = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            toml::from_str(&text).with_context(|| format!("{} is no training configuration", path.display()))?
        }
        None => TrainConfig::default(),
    };
    if let Some(steps) = args.steps {
        config = config.with_steps(steps);
    }
    if let Some(expansion) = args.expansion {
        (config.expansion, config.features) = (expansion, 0);
    }
    let set = |field: &mut f64, value: Option<f64>| *field = value.unwrap_or(*field);
    set(&mut config.l1, args.l1);
    set(&mut config.lr, args.lr);
    config.arch = args.arch.unwrap_or(config.arch);
    config.features = args.features.unwrap_or(config.features);
    config.batch = args.batch.unwrap_or(config.batch);
    config.buffer = args.buffer.unwrap_or(config.buffer);
    config.seed = args.seed.unwrap_or(config.seed);
    Ok(config)
}

fn summary(last: &StepLog) -> serde_json::Value {
    json!({
        "steps": last.step, "tokens": last.tokens, "loss": last.loss, "mse": last.mse, "l0": last.l0,
        "fvu": last.fvu, "dead": last.dead,
    })
}
