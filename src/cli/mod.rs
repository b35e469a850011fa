//! The command line: a file for each command with its arguments and its report. What several of them need is here.

mod arguments;
mod bench;
mod convert;
mod demo;
mod eval;
mod export;
mod failure;
mod filter;
mod harvest;
mod hint;
mod import;
mod index;
mod info;
mod interrupt;
mod label;
mod merge;
mod model;
mod patches;
mod sample_images;
mod score;
pub mod terminal;
mod train;
mod validate;

use anyhow::{Context, Result, bail};
use arguments::{FeatureArgs, SaeArgs};
use bench::Bench;
use burn::tensor::Device;
use clap::{Parser, Subcommand};
use convert::ConvertArgs;
use demo::DemoArgs;
use eval::EvalArgs;
use export::ExportArgs;
use filter::FilterArgs;
use harvest::HarvestArgs;
use import::ImportArgs;
use index::IndexArgs;
use info::InfoArgs;
use label::LabelArgs;
use merge::MergeArgs;
use patches::PatchesArgs;
use sae_core::Run;
use sae_core::analysis::index::{FeatureRow, Index};
use sae_core::analysis::pass::{self, Observer};
use sae_core::autoencoder::formats::{self, Saved};
use sae_core::store::Store;
use sae_core::store::run;
use sae_core::train::checkpoint;
use score::ScoreArgs;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;
use train::TrainArgs;
use validate::ValidateArgs;

/// What has this model learned across images and text, and which of my data is worth training on?
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  sae demo                                  the whole way on the bundled model and data
  sae harvest --model llava-1.5-7b-hf --data train.jsonl --layers 16 --run run
  sae train   --run run --hook layers.16 --name base --preset sae-v
  sae index   --run run --sae base
  sae score   --run run --sae base
  sae filter  --run run --by cosine_paper --keep 50% --out kept --dropped dropped
  sae-gui run
  sae bench train                           this machine's speed beside its floor"
)]
pub struct Args {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print what would be done, and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// The whole way on the bundled model and data, with a report at the end
    Demo(DemoArgs),
    /// Capture a model's activations on a data set
    Harvest(HarvestArgs),
    /// Check the shards that several machines captured, and join them into one run
    Merge(MergeArgs),
    /// Train an autoencoder on captured activations
    Train(Box<TrainArgs>),
    /// Measure an autoencoder, text and image apart; with a model and data, what it costs the model
    Eval(Box<EvalArgs>),
    /// Index the features: counts, examples, neighbors, cross-modal weights
    Index(IndexArgs),
    /// Ask a model behind an OpenAI-compatible endpoint what features fire on, and try its answers
    Label(LabelArgs),
    /// Score every sample by the features it activates
    Score(ScoreArgs),
    /// Try the scores on faults of known kinds: which tell good samples from bad ones?
    Validate(ValidateArgs),
    /// Write the samples worth keeping, and those that are not
    Filter(FilterArgs),
    /// Blacken the patches of images that carry fewest features
    #[command(after_help = "\
Examples:
  sae patches --run run --sae base --model llava-1.5-7b-hf --data train.jsonl --out dark
  sae patches --run run --sae base --model m --data d --method l0,co_l0,cosine,random --keep 25% --limit 100 --out dark")]
    Patches(PatchesArgs),
    /// Say what a file or folder is: an autoencoder of any format, a run, activations
    Info(InfoArgs),
    /// Rewrite an autoencoder of any known format as another
    Convert(ConvertArgs),
    /// Write an autoencoder of a run for another tool, or its features for SAEDashboard, Neuronpedia or a browser
    Export(ExportArgs),
    /// Take another tool's autoencoder into a run, or make a run of another tool's activations
    Import(ImportArgs),
    /// Measure this machine: our speed beside its floor
    #[command(subcommand)]
    Bench(Bench),
}

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

/// Reads the arguments, runs the command, prints its outcome.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let ran = match interrupt::listen() {
        Ok(()) => run(&args),
        Err(e) => Err(anyhow::Error::new(e).context("cannot listen for Ctrl-C")),
    };
    let printed = ran.and_then(|outcome| match print(&outcome, args.json) {
        // Whoever closes the pipe has read enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(anyhow::anyhow!("cannot write to stdout: {e}")),
        _ => Ok(()),
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", failure::message(&error));
            ExitCode::from(failure::status(&error))
        }
    }
}

fn print(outcome: &Outcome, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json { writeln!(out, "{:#}", outcome.json) } else { writeln!(out, "{}", outcome.text.trim_end()) }
}

/// Runs the command that was asked for.
fn run(args: &Args) -> Result<Outcome> {
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
        Command::Bench(Bench::Train(a)) => bench::train(a, dry),
        Command::Bench(Bench::Harvest(a)) => bench::harvest(a, dry),
        Command::Bench(Bench::Score(a)) => bench::score(a, dry),
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
    fn new(of: &SaeArgs) -> Result<Self> {
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
fn chosen(chosen: &FeatureArgs, index: &Index) -> Result<Vec<u32>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use filters::select::Keep;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn filters_and_devices_are_understood() {
        let args = ["sae", "filter", "--run", "r", "--by", "co_l0_paper", "--keep", "25%", "--out", "o"];
        let Command::Filter(filter) = Args::parse_from(args).command else { panic!("a filter") };
        assert_eq!(filter.keep, Some(Keep::Share(0.25)));
        let bad = [
            ["--dedup", "0"],
            ["--dedup", "1.5"],
            ["--format", "csv"],
            ["--images", "burn"],
            ["--quota", "category"],
            ["--quota", "category=many"],
            ["--decisions", "d.csv"],
        ];
        for bad in bad {
            assert!(Args::try_parse_from(args.iter().chain(&bad)).is_err(), "{bad:?}");
        }
        let decided = ["sae", "filter", "--run", "r", "--out", "o"];
        assert!(Args::try_parse_from(decided).is_err());
        assert!(Args::try_parse_from(decided.iter().chain(&["--decisions", "d.csv"])).is_ok());
        assert!(Args::try_parse_from(decided.iter().chain(&["--by", "pmi", "--quota", "category=20"])).is_ok());
        assert!(Args::try_parse_from(["sae", "eval", "--run", "r", "--device", "tpu"]).is_err());
        assert!(Args::try_parse_from(["sae", "eval", "--run", "r", "--model", "m"]).is_err(), "a model without data");
    }
}
