//! `sae train`: arguments to checked configurations, training with a progress bar and checkpoints, autoencoders and their
//! logs saved.

use super::arguments::{DeviceArg, ReadingArgs, pair};
use super::harvest::{print_notes, reading};
use super::{Outcome, model};
use crate::cli::interrupt::{Interrupt, Interrupted};
use crate::cli::terminal::{self, count, counted};
use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::Args;
use harvest::{OnlineActivations, Plan};
use sae_core::autoencoder::Architecture;
use sae_core::autoencoder::formats::{self, Format, Origin, Saved};
use sae_core::store::PositionRule;
use sae_core::store::Store;
use sae_core::store::run;
use sae_core::store::stream::{Source, StoreRows, Stream};
use sae_core::train::{Session, StepLog, TrainConfig, checkpoint};
use sae_core::{Run, file};
use serde_json::{Value, json};
use std::path::Path;
use std::path::PathBuf;

/// `sae train`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae train --run run --hook layers.16 --name base --preset sae-v
  sae train --run run --hook layers.16 --name topk --arch topk --k 64 --steps 10000
  sae train --run run --hook layers.16 --name sweep --arch batch-topk --sweep k=16,32,64
  sae train --run run --hook layers.16 --name base --resume          after Ctrl-C, a kill or a full disk
  sae train --run new --model llava-1.5-7b-hf --data train.jsonl --hook layers.16 --name live")]
pub struct TrainArgs {
    /// Run folder with activations; with --model it may be new
    #[arg(long)]
    pub run: PathBuf,
    /// Activations to train on, such as layers.16
    #[arg(long)]
    pub hook: String,
    /// Name of the new autoencoder
    #[arg(long)]
    pub name: String,
    /// Checkpoint, as for `sae harvest`: activations straight from the model, without storing them
    #[arg(long, requires = "data")]
    pub model: Option<PathBuf>,
    /// Data set that the model reads
    #[arg(long, requires = "model")]
    pub data: Option<PathBuf>,
    /// Read only the first rows of the data
    #[arg(long, requires = "model")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// A published recipe; every other flag overrules it
    #[arg(long, value_parser = ["sae-v"])]
    pub preset: Option<String>,
    /// A train.toml to start from; every other flag overrules it
    #[arg(long, conflicts_with = "preset")]
    pub config: Option<PathBuf>,
    /// Architecture: relu, topk, batch-topk, jumprelu, gated or matryoshka
    #[arg(long)]
    pub arch: Option<Architecture>,
    /// Features for every dimension of the residual stream
    #[arg(long, conflicts_with = "features")]
    pub expansion: Option<usize>,
    /// Number of features
    #[arg(long)]
    pub features: Option<usize>,
    /// Active features a token (topk, batch-topk, matryoshka)
    #[arg(long)]
    pub k: Option<usize>,
    /// Weight of the sparsity penalty (relu, gated)
    #[arg(long)]
    pub l1: Option<f64>,
    /// Weight of the sparsity penalty (jumprelu)
    #[arg(long)]
    pub l0: Option<f64>,
    /// Learning rate
    #[arg(long)]
    pub lr: Option<f64>,
    /// Tokens a step
    #[arg(long)]
    pub batch: Option<usize>,
    /// Steps; warm-up and decay keep their shares
    #[arg(long)]
    pub steps: Option<u64>,
    /// Rows of the mixing buffer
    #[arg(long)]
    pub buffer: Option<usize>,
    /// Decides initial weights and the order of the data
    #[arg(long)]
    pub seed: Option<u64>,
    /// Positions to leave out: special (template, begin, newline), first (of every sample)
    #[arg(long, value_delimiter = ',', value_parser = ["special", "first"])]
    pub exclude: Vec<String>,
    /// Leave out positions whose norm is over so many times the median: sinks
    #[arg(long, value_name = "TIMES")]
    pub max_norm: Option<f64>,
    /// Any field of train.toml, such as decoder=unit or aux=0.03
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Several autoencoders in one pass over the data, one a value: k=16,32,64
    #[arg(long, value_name = "FIELD=V1,V2", value_parser = pair)]
    pub sweep: Vec<(String, String)>,
    /// Steps between two checkpoints
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_every: u64,
    /// Go on from the newest checkpoint, to the bit
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// Autoencoders that are trained in one pass: where they go, and how checkpoints are kept.
pub struct Job<'a> {
    /// The run they belong to.
    pub run: &'a Run,
    /// Their names, each with its configuration.
    pub saes: Vec<(String, TrainConfig)>,
    /// Where their activations come from.
    pub origin: Origin,
    /// How a model reads the data, for activations that come straight from it.
    pub arguments: Option<Value>,
    /// Steps between two checkpoints.
    pub every: u64,
    /// Go on from the newest checkpoint.
    pub resume: bool,
}

/// Runs the command.
pub fn run(args: &TrainArgs, dry: bool) -> Result<Outcome> {
    let saes = sweep(&args.name, &config(args)?, &args.sweep)?;
    let layer = args.hook.strip_prefix("layers.").and_then(|n| n.parse().ok());
    let layer: usize = layer.with_context(|| format!("{} is no hook; hooks are called layers.16", args.hook))?;
    let model = args.model.as_ref().map(|model| model::folder(model, dry)).transpose()?;
    let plan = model.as_ref().zip(args.data.as_ref()).map(|(model, data)| Plan {
        limit: args.limit,
        device: args.device.device,
        ..reading(&args.reading, Plan::new(model, data, vec![layer]))
    });
    let outlook = plan.as_ref().map(Plan::preview).transpose()?;
    let store = match &plan {
        Some(_) => None,
        None => Some(Store::open(&Run::open(&args.run)?, &args.hook)?),
    };
    let d_in = store.as_ref().map(|s| s.manifest().d_in).or(outlook.as_ref().map(|o| o.d_in)).unwrap_or_default();
    for (name, config) in &saes {
        run::check_name(name)?;
        config.check(d_in)?;
    }
    let first = &saes[0];
    let unfinished = checkpoint::newest(&args.run.join("saes").join(&first.0).join("checkpoint"));
    if let Some(outcome) = finished(args, &saes, unfinished.is_some())? {
        return Ok(outcome);
    }
    match (&unfinished, args.resume) {
        (Some(at), false) => bail!("{} was interrupted\nhint: --resume goes on from {}", first.0, at.display()),
        (None, true) => bail!("there is no checkpoint of {} to go on from\nhint: leave --resume out", first.0),
        _ => (),
    }
    if dry {
        let configs: Vec<_> = saes.iter().map(|(name, config)| json!({ "name": name, "config": config })).collect();
        let features = first.1.d_sae(d_in);
        return Outcome::plan(json!({
            "command": "train", "d_in": d_in, "d_sae": features, "config": first.1, "autoencoders": configs,
            "data": outlook, "resume": unfinished,
        }));
    }
    let run = if plan.is_some() { Run::create(&args.run)? } else { Run::open(&args.run)? };
    let device = args.device.device.open()?;
    let (every, resume) = (args.checkpoint_every, args.resume);
    let last = match (&plan, &store) {
        (Some(plan), _) => {
            print_notes(outlook.as_ref().map_or(&[], |outlook| &outlook.notes));
            let live = OnlineActivations::open(plan, first.1.exclude)?;
            let model = harvest::hub::model_name(&plan.model);
            let origin = Origin { model, hook: args.hook.clone(), layer, ..Origin::default() };
            let arguments = Some(live.arguments());
            let last = Job { run: &run, saes, origin, arguments, every, resume }.train(live, &device)?;
            print_notes(&plan.notes.take());
            last
        }
        (None, Some(store)) => {
            let origin = origin(store)?;
            let rows = StoreRows::new(store, first.1.exclude, first.1.seed)?;
            Job { run: &run, saes, origin, arguments: None, every, resume }.train(rows, &device)?
        }
        (None, None) => bail!("there is nothing to train on"),
    };
    let mut text = String::new();
    for (name, last) in &last {
        text += &format!(
            "{name}: {} features on {}, {} tokens\n  loss {:.4}  L0 {:.1}  FVU {:.4}  dead {:.1} %\n  {}\n",
            count(d_sae(&run, name)? as u64),
            args.hook,
            count(last.tokens),
            last.loss,
            last.l0,
            last.fvu,
            100.0 * last.dead,
            run.sae_dir(name).display(),
        );
    }
    Outcome::new(results(last.iter().map(|(name, last)| (name.clone(), summary(last))).collect()), text)
}

/// Where the activations of a store come from.
fn origin(store: &Store) -> Result<Origin> {
    let manifest = store.manifest();
    Ok(Origin {
        model: manifest.model.clone(),
        hook: manifest.hook.clone(),
        layer: manifest.layer,
        context_size: store.longest_sample()?,
        ..Origin::default()
    })
}

/// What to say where the autoencoders are in the run already: with `--resume` and the same settings there is nothing left to
/// do. Nothing if they are still to be trained, or were being saved when the training was interrupted.
fn finished(args: &TrainArgs, saes: &[(String, TrainConfig)], unfinished: bool) -> Result<Option<Outcome>> {
    let folder = |name: &str| args.run.join("saes").join(name);
    // The weights come last: without them it is an autoencoder that was being saved.
    let there: Vec<_> = saes.iter().filter(|(name, _)| folder(name).join("sae_weights.safetensors").exists()).collect();
    let Some((first, _)) = there.first() else { return Ok(None) };
    if args.resume && unfinished {
        return Ok(None);
    }
    if !args.resume || there.len() < saes.len() {
        bail!(
            "the run has an autoencoder {first} already\nhint: another --name, or remove {}",
            folder(first).display()
        );
    }
    let run = Run::open(&args.run)?;
    let mut last = Vec::new();
    for (name, config) in saes {
        let Some(done) = run.read_step::<Value>(&format!("train/{name}"))? else {
            bail!("{name} was not trained in this run, so that there is nothing to resume\nhint: another --name");
        };
        let trained: TrainConfig = read_config(&folder(name).join("train.toml"))?;
        let mut differ = config.differences(&trained);
        if done["hook"] != args.hook.as_str() {
            differ.push(format!("hook = {}, not {}", args.hook, done["hook"]));
        }
        if !differ.is_empty() {
            bail!("{name} is finished, but with other settings: {}\nhint: another --name", differ.join(", "));
        }
        last.push((name.clone(), done["last"].clone()));
    }
    let names: Vec<_> = saes.iter().map(|(name, _)| name.as_str()).collect();
    let text = format!("finished already, with the same settings: {}\n  {}", names.join(", "), args.run.display());
    Ok(Some(Outcome::new(results(last), text)?))
}

/// What `--json` tells of autoencoders, given what the last step of each measured.
fn results(mut last: Vec<(String, Value)>) -> Value {
    match last.len() {
        1 => last.remove(0).1,
        _ => json!({ "autoencoders": last.into_iter().collect::<serde_json::Map<_, _>>() }),
    }
}

fn d_sae(run: &Run, name: &str) -> Result<usize> {
    Ok(formats::load(&run.sae_dir(name))?.weights.d_sae)
}

/// Trains one autoencoder on a store, shows how it goes, and writes weights, configuration and log. Returns what the
/// last step measured.
pub fn train_and_save(run: &Run, store: &Store, name: &str, config: &TrainConfig, device: &Device) -> Result<StepLog> {
    let origin = origin(store)?;
    let unfinished = checkpoint::newest(&run.sae_dir(name).join("checkpoint")).is_some();
    let saes = vec![(name.to_string(), config.clone())];
    let rows = StoreRows::new(store, config.exclude, config.seed)?;
    let mut last = Job { run, saes, origin, arguments: None, every: 1_000, resume: unfinished }.train(rows, device)?;
    Ok(last.remove(0).1)
}

impl Job<'_> {
    /// Trains, and writes weights, configurations and logs. Returns what the last step measured, by name.
    pub fn train<'s>(&self, rows: impl Source + 's, device: &Device) -> Result<Vec<(String, StepLog)>> {
        let _lock = self.run.lock()?;
        let (first, config) = &self.saes[0];
        let folder = self.run.sae_dir(first).join("checkpoint");
        let stream = Stream::new(rows, config.buffer, config.seed)?;
        let configs: Vec<TrainConfig> = self.saes.iter().map(|(_, config)| config.clone()).collect();
        let mut session = Session::new(stream, &configs, device)?;
        if self.resume
            && let Some(path) = checkpoint::newest(&folder)
        {
            checkpoint::read(&path, &mut session)?;
        }
        self.steps(&mut session, &folder)?;
        let skipped = session.skipped().filter(|skipped| skipped.rows() > 0);
        if let Some((rows, first)) = skipped.and_then(|skipped| Some((skipped.rows(), skipped.first().first()?))) {
            let of = format!("row {} ({}): {}", first.row, first.key, first.reason);
            eprintln!("warning: {} of the data could not be used, such as {of}", counted(rows, "row"));
        }
        let mut all = Vec::new();
        self.write_logs(&session)?;
        for ((name, config), trainer) in self.saes.iter().zip(session.trainers()) {
            let dir = self.run.sae_dir(name);
            let text = toml::to_string_pretty(config).context("the configuration cannot be written")?;
            file::write_bytes(&dir.join("train.toml"), text.as_bytes())?;
            let origin = Origin { training: serde_json::to_value(config)?, ..self.origin.clone() };
            let saved = Saved { architecture: config.arch, weights: trainer.weights()?, origin };
            formats::save(Format::SaeLens, &dir, &saved)?;
            let last = *trainer.log().last().context("no step was made")?;
            let (kept, left_out) = session.counts();
            let positions = json!({ "read": kept, "left_out": left_out });
            let mut entry =
                json!({ "config": config, "hook": self.origin.hook, "last": summary(&last), "positions": positions });
            if let Some(arguments) = &self.arguments {
                entry["arguments"] = arguments.clone();
            }
            if let Some(skipped) = skipped {
                entry["skipped"] = json!({ "rows": skipped.rows(), "first": skipped.first() });
            }
            self.run.write_step(&format!("train/{name}"), &entry)?;
            all.push((name.clone(), last));
        }
        // Only now is nothing lost without it.
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(all)
    }

    /// What was measured so far.
    fn write_logs(&self, session: &Session) -> sae_core::Result<()> {
        let logs = self.saes.iter().zip(session.trainers());
        logs.into_iter()
            .try_for_each(|((name, _), trainer)| trainer.log().write(&self.run.sae_dir(name).join("log.parquet")))
    }

    /// The steps that are left, with checkpoints in between.
    fn steps(&self, session: &mut Session, folder: &Path) -> Result<()> {
        let interrupt = Interrupt::expect();
        let steps = self.saes[0].1.steps;
        let bar = terminal::bar("train", steps);
        bar.set_position(session.steps());
        bar.reset_eta();
        while !session.is_done() {
            let entries = match session.step() {
                Ok(entries) => entries,
                Err(error) => {
                    let kept = checkpoint::newest(folder);
                    let kept = kept.map_or("there is no checkpoint yet".into(), |path| {
                        format!("the last good checkpoint is {}", path.display())
                    });
                    return Err(error).context(kept);
                }
            };
            let entry = &entries[0];
            let speed = entries.len() as f64 / entries.iter().map(|e| 1.0 / e.tokens_per_s).sum::<f64>();
            bar.set_position(entry.step);
            bar.set_message(format!(
                "loss {:.3} L0 {:.1} FVU {:.4} dead {:.1} % {speed:.0} tokens/s",
                entry.loss,
                entry.l0,
                entry.fvu,
                100.0 * entry.dead,
            ));
            let stop = interrupt.asked() && !session.is_done();
            if stop || entry.step.is_multiple_of(self.every) && !session.is_done() {
                match checkpoint::write(folder, session) {
                    Ok(path) if stop => {
                        let at = format!("interrupted behind step {}: {}", entry.step, path.display());
                        let hint = "hint: the same command with --resume goes on";
                        return Err(Interrupted(format!("{at}\n{hint}")).into());
                    }
                    Ok(_) => {
                        // For those who watch; the next one may succeed again.
                        if let Err(error) = self.write_logs(session) {
                            bar.suspend(|| eprintln!("warning: no log at step {}: {error}", entry.step));
                        }
                    }
                    Err(error) if stop => return Err(error).context("interrupted, and no checkpoint could be written"),
                    // Room may be made before the next one; until then the old one stands.
                    Err(error) => bar.suspend(|| eprintln!("warning: no checkpoint at step {}: {error}", entry.step)),
                }
            }
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// The configuration that the arguments ask for.
fn config(args: &TrainArgs) -> Result<TrainConfig> {
    for (flag, value) in [("--features", args.features), ("--expansion", args.expansion), ("--k", args.k)] {
        if value == Some(0) {
            bail!("{flag} 0: an autoencoder has at least one feature, and at least one that is active");
        }
    }
    let mut config = match &args.config {
        Some(path) => read_config(path)?,
        None if args.preset.is_some() => TrainConfig { arch: args.arch.unwrap_or_default(), ..TrainConfig::default() },
        None => TrainConfig::for_architecture(args.arch.unwrap_or_default()),
    };
    config.arch = args.arch.unwrap_or(config.arch);
    if let Some(steps) = args.steps {
        config = config.with_steps(steps);
    }
    if let Some(expansion) = args.expansion {
        (config.expansion, config.features) = (expansion, 0);
    }
    let set = |field: &mut f64, value: Option<f64>| *field = value.unwrap_or(*field);
    set(&mut config.l1_coefficient, args.l1);
    set(&mut config.l0_coefficient, args.l0);
    set(&mut config.lr, args.lr);
    set(&mut config.exclude.norm, args.max_norm);
    config.features = args.features.unwrap_or(config.features);
    config.k = args.k.unwrap_or(config.k);
    config.batch = args.batch.unwrap_or(config.batch);
    config.buffer = args.buffer.unwrap_or(config.buffer);
    config.seed = args.seed.unwrap_or(config.seed);
    if !args.exclude.is_empty() {
        let asked = |what: &str| args.exclude.iter().any(|e| e == what);
        config.exclude = PositionRule { special: asked("special"), first: asked("first"), ..config.exclude };
    }
    args.set.iter().try_fold(config, |config, (field, value)| with(&config, field, value))
}

/// Reads a `train.toml`.
pub fn read_config(path: &Path) -> Result<TrainConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("this is no training configuration: {}", path.display()))
}

/// The configuration with one field replaced by a value as `train.toml` would have it; text needs no quotes.
fn with(config: &TrainConfig, field: &str, value: &str) -> Result<TrainConfig> {
    let mut table = toml::Table::try_from(config).context("the configuration cannot be written")?;
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let mut parsed = parsed.unwrap_or_else(|| toml::Value::String(value.into()));
    if field == "features" && parsed.as_integer() == Some(0) {
        bail!("features=0: an autoencoder has at least one feature");
    }
    if let (Some(toml::Value::Float(_)), Some(whole)) = (table.get(field), parsed.as_integer()) {
        parsed = toml::Value::Float(whole as f64);
    }
    table.insert(field.into(), parsed);
    table.try_into().with_context(|| format!("{field}={value} is no field of train.toml, or no value for it"))
}

/// The configurations of a sweep with their names: every combination of the values.
fn sweep(name: &str, config: &TrainConfig, sweeps: &[(String, String)]) -> Result<Vec<(String, TrainConfig)>> {
    let mut all = vec![(name.to_string(), config.clone())];
    for (field, values) in sweeps {
        let mut next = Vec::new();
        for (name, config) in &all {
            for value in values.split(',').map(str::trim) {
                next.push((format!("{name}-{field}{value}"), with(config, field, value)?));
            }
        }
        all = next;
    }
    Ok(all)
}

fn summary(last: &StepLog) -> Value {
    json!({
        "steps": last.step, "tokens": last.tokens, "loss": last.loss, "mse": last.mse, "l0": last.l0,
        "fvu": last.fvu, "dead": last.dead,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::autoencoder::Architecture;

    #[test]
    fn fields_and_sweeps_are_read_as_train_toml_has_them() {
        let config = TrainConfig::for_architecture(Architecture::TopK);
        assert_eq!(with(&config, "clip", "0").unwrap().clip, 0.0);
        assert_eq!(with(&config, "decoder", "unit").unwrap().decoder, sae_core::train::Decoder::Unit);
        assert_eq!(with(&config, "prefixes", "[4, 8]").unwrap().prefixes, [4, 8]);
        for wrong in [("clipp", "1"), ("k", "many")] {
            let error = format!("{:#}", with(&config, wrong.0, wrong.1).unwrap_err());
            assert!(error.contains("is no field of train.toml"), "{error}");
        }
        let all = sweep("a", &config, &[("k".into(), "8,16".into()), ("arch".into(), "topk,relu".into())]).unwrap();
        let names: Vec<_> = all.iter().map(|(name, config)| (name.as_str(), config.k, config.arch)).collect();
        let expected = [("a-k8-archtopk", 8), ("a-k8-archrelu", 8), ("a-k16-archtopk", 16), ("a-k16-archrelu", 16)];
        assert!(names.iter().zip(expected).all(|(found, (name, k))| (found.0, found.1) == (name, k)), "{names:?}");
        assert_eq!(names[3].2, Architecture::Relu);
    }
}
