//! The commands, a file each: arguments in, an [`Outcome`] out. What several of them need is here.

mod bench;
mod convert;
mod demo;
mod eval;
mod export;
mod filter;
mod harvest;
mod import;
mod index;
mod info;
mod label;
mod merge;
mod model;
mod patches;
mod sample_images;
mod score;
mod train;
mod validate;

use crate::args::{Args, Chosen, Command, OfSae};
use crate::terminal;
use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use sae_core::Run;
use sae_core::analysis::index::{FeatureRow, Index};
use sae_core::analysis::pass::{self, Observer};
use sae_core::autoencoder::formats::{self, Saved};
use sae_core::store::Store;
use sae_core::store::run;
use sae_core::train::checkpoint;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a command found, for programs and for people.
pub struct Outcome {
    /// For `--json`.
    pub json: Value,
    /// For a terminal.
    pub text: String,
}

impl Outcome {
    fn new(json: impl Serialize, text: String) -> Result<Self> {
        Ok(Self { json: serde_json::to_value(json).context("the result cannot be written as JSON")?, text })
    }

    /// The plan of `--dry-run`.
    fn plan(plan: impl Serialize) -> Result<Self> {
        let json = serde_json::to_value(plan).context("the plan cannot be written as JSON")?;
        Ok(Self { text: format!("{json:#}"), json })
    }
}

/// Runs the command that was asked for.
pub fn run(args: &Args) -> Result<Outcome> {
    let dry = args.dry_run;
    match &args.command {
        Command::Demo(a) => demo::run(a, dry),
        Command::Harvest(a) => harvest::run(a, dry),
        Command::Merge(a) => merge::run(a, dry),
        Command::Train(a) => train::run(a, dry),
        Command::Eval(a) => eval::run(a, dry),
        Command::Index(a) => index::run(a, dry),
        Command::Label(a) => label::run(a, dry),
        Command::Score(a) => score::run(a, dry),
        Command::Validate(a) => validate::run(a, dry),
        Command::Filter(a) => filter::run(a, dry),
        Command::Patches(a) => patches::run(a, dry),
        Command::Bench(crate::args::Bench::Train(a)) => bench::train(a, dry),
        Command::Bench(crate::args::Bench::Harvest(a)) => bench::harvest(a, dry),
        Command::Bench(crate::args::Bench::Score(a)) => bench::score(a, dry),
        Command::Info(a) => info::run(a, dry),
        Command::Convert(a) => convert::run(a, dry),
        Command::Export(a) => export::run(a, dry),
        Command::Import(a) => import::run(a, dry),
    }
}

/// A run's autoencoder with the activations it belongs to.
struct SaeReader {
    run: Run,
    name: String,
    saved: Saved,
    store: Store,
    device: Device,
}

impl SaeReader {
    fn new(of: &OfSae) -> Result<Self> {
        let run = Run::open(&of.run)?;
        let name = sae_name(&of.sae, &run)?;
        let saved = formats::load(&run.sae_dir(&name))?;
        let store = Store::open(&run, &saved.origin.hook)?;
        check_width(&saved, &store)?;
        Ok(Self { run, name, saved, store, device: of.device.device.open()? })
    }

    /// One pass over the activations, with a progress bar.
    fn pass(&self, what: &str, observers: &mut [&mut dyn Observer]) -> Result<()> {
        let bar = terminal::bar(what, self.store.manifest().rows);
        let mut progress = |rows| bar.set_position(rows);
        pass::run(&self.store, &self.saved.weights, &self.device, observers, &mut progress)?;
        bar.finish_and_clear();
        Ok(())
    }

    /// The plan of `--dry-run`, with what else the command would do.
    fn plan(&self, what: &str, more: Value) -> Result<Outcome> {
        let manifest = self.store.manifest();
        let mut plan = serde_json::json!({
            "command": what, "run": self.run.root(), "sae": self.name, "hook": manifest.hook,
            "tokens": manifest.rows, "samples": manifest.samples, "features": self.saved.weights.d_sae,
        });
        if let (Value::Object(plan), Value::Object(more)) = (&mut plan, more) {
            plan.extend(more);
        }
        Outcome::plan(plan)
    }
}

/// An autoencoder of other activations would only compute nonsense.
fn check_width(saved: &Saved, store: &Store) -> Result<()> {
    let (own, there) = (saved.weights.d_in, store.manifest().d_in);
    if own != there {
        bail!("the autoencoder is {own} wide, the activations of {} are {there}", store.manifest().hook);
    }
    Ok(())
}

/// The features that were named, or the living ones of a class, those with the largest cross-modal weight first.
fn chosen(chosen: &Chosen, index: &Index) -> Result<Vec<u32>> {
    let rows = index.features();
    if let Some(feature) = chosen.features.iter().find(|feature| **feature as usize >= rows.len()) {
        bail!("there is no feature {feature}; the index has {}", rows.len());
    }
    if !chosen.features.is_empty() {
        return Ok(chosen.features.iter().copied().collect::<BTreeSet<_>>().into_iter().collect());
    }
    let fits = |row: &&FeatureRow| row.fires > 0 && chosen.class.as_ref().is_none_or(|class| row.class == *class);
    let weight = |row: &FeatureRow| row.weight_corrected.or(row.weight_paper).unwrap_or(f64::NEG_INFINITY);
    let mut fitting: Vec<&FeatureRow> = rows.iter().filter(fits).collect();
    fitting.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(b.fires.cmp(&a.fires)).then(a.feature.cmp(&b.feature)));
    Ok(fitting.into_iter().take(chosen.limit).map(|row| row.feature).collect())
}

/// The autoencoder that was named, or the only one that can be used.
fn sae_name(asked: &Option<String>, run: &Run) -> Result<String> {
    let (whole, unfinished) = (run.saes(), run.unfinished_saes());
    let wanted = match asked {
        Some(name) => unfinished.iter().find(|other| *other == name),
        None => unfinished.first().filter(|_| whole.is_empty()),
    };
    if let Some(name) = wanted {
        bail!("{name} is {}\nhint: the same `sae train` with --resume continues", progress(run, name));
    }
    only(asked, whole, "autoencoder", "sae train")
}

/// How far a training is that has not been finished.
fn progress(run: &Run, name: &str) -> String {
    let newest = checkpoint::newest(&run.sae_dir(name).join("checkpoint"));
    let step = newest.and_then(|path| checkpoint::step_of(&path));
    step.map_or("unfinished".into(), |step| format!("unfinished, step {}", terminal::count(step)))
}

/// The name asked for, or the only one there is.
fn only(asked: &Option<String>, mut there: Vec<String>, what: &str, maker: &str) -> Result<String> {
    if let Some(name) = asked {
        run::check_name(name)?;
        if !there.contains(name) {
            bail!("there is no {what} {name}; the run has: {}", there.join(", "));
        }
        return Ok(name.clone());
    }
    match there.len() {
        0 => bail!("the run has no {what}\nhint: run `{maker}` first"),
        1 => Ok(there.remove(0)),
        _ => bail!("the run has several: {}\nhint: choose one with --sae", there.join(", ")),
    }
}
