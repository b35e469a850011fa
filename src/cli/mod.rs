//! The command line: a file for each command, with its arguments, its request, and its report in words. Computes nothing.

mod arguments;
mod bench;
mod completions;
mod contrast;
mod convert;
mod demo;
mod eval;
mod export;
mod failure;
mod filter;
mod generate;
mod harvest;
mod hint;
mod import;
mod index;
mod info;
mod label;
mod launch;
mod man;
mod merge;
mod models;
mod pairs;
mod pass;
mod patches;
mod probe;
mod push;
mod reduce;
mod saes;
mod score;
mod serve;
mod signals;
mod terminal;
mod train;
mod upload;
mod validate;
mod version;

use anyhow::{Context, Result};
use bench::Bench;
use clap::{Parser, Subcommand};
use completions::CompletionsArgs;
use contrast::ContrastArgs;
use convert::ConvertArgs;
use demo::DemoArgs;
use eval::EvalArgs;
use export::ExportArgs;
use filter::FilterArgs;
use generate::GenerateArgs;
use harvest::HarvestArgs;
use import::ImportArgs;
use index::IndexArgs;
use info::InfoArgs;
use label::LabelArgs;
use launch::LaunchArgs;
use man::ManArgs;
use merge::MergeArgs;
use pairs::PairsArgs;
use pass::Pass;
use patches::PatchesArgs;
use probe::ProbeArgs;
use push::{PullArgs, PushArgs};
use reduce::ReduceArgs;
use sae_workbench::Control;
use saes::Saes;
use score::ScoreArgs;
use serde::Serialize;
use serde_json::Value;
use serve::ServeArgs;
use std::io::{self, Write};
use std::process::ExitCode;
use terminal::Terminal;
use train::TrainArgs;
use upload::UploadArgs;
use validate::ValidateArgs;

/// What has this model learned across images and text, and which of my data is worth training on?
#[derive(Parser, Debug)]
#[command(name = "sae", version,
    long_version = version::long(),
    max_term_width = 100,
    after_help = "\
Examples:
  sae demo                                  run the full pipeline on the bundled model and data
  sae harvest --model llava-1.5-7b-hf --data train.jsonl --layers 16 --run run
  sae train   --run run --hook layers.16 --name base --preset sae-v
  sae index   --run run --sae base
  sae score   --run run --sae base
  sae filter  --run run --by cosine_paper --keep 50% --out kept --dropped dropped
  sae-gui run
  sae bench train                           this machine's speed compared with a lower bound"
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
    /// Run the full pipeline on the bundled model and data, with a report at the end
    Demo(DemoArgs),
    /// Capture a model's activations on a data set
    Harvest(HarvestArgs),
    /// Check the shards that several machines captured, and join them into one run
    Merge(MergeArgs),
    /// Make a part of the passes of an index or a scoring, so that several machines share them
    #[command(subcommand)]
    Pass(Pass),
    /// Put the parts of a pass together, into what one machine would have written
    Reduce(ReduceArgs),
    /// Run a harvest or a pass in parts: on this machine, or as a script for a cluster
    Launch(LaunchArgs),
    /// Train an autoencoder on captured activations
    Train(Box<TrainArgs>),
    /// Measure an autoencoder, separately for text and image tokens, and what its reconstruction costs the model
    Eval(Box<EvalArgs>),
    /// Index the features: firing rates, strongest examples, neighbors, cross-modal weights
    Index(IndexArgs),
    /// Ask a model behind an OpenAI-compatible endpoint what features fire on, and test its answers
    Label(LabelArgs),
    /// Score every sample by the features it activates
    Score(ScoreArgs),
    /// Corrupt some samples in known ways, and measure which scores find them
    Validate(ValidateArgs),
    /// Find the features that differ between groups of samples, along an order, or with a target
    Contrast(Box<ContrastArgs>),
    /// Learn from labels which features say that a sample has a property, and score all samples by it
    Probe(Box<ProbeArgs>),
    /// Choose the pairs of answers that people should compare next, in a run of trees
    Pairs(PairsArgs),
    /// Write the samples that are worth keeping, and those that are not, as data sets
    Filter(FilterArgs),
    /// Show features, samples and scores of a run in the browser, and label features there
    Serve(ServeArgs),
    /// Have the model answer prompts, with a probe as the guard of what it writes
    Generate(Box<GenerateArgs>),
    /// Blacken the image patches on which the fewest features fire
    #[command(after_help = "\
Examples:
  sae patches --run run --sae base --model llava-1.5-7b-hf --data train.jsonl --out dark
  sae patches --run run --sae base --model m --data d --method l0,co_l0,cosine,random --keep 25% --limit 100 --out dark")]
    Patches(PatchesArgs),
    /// Describe a file or folder: an autoencoder of any format, a run, activations, a data set
    Info(InfoArgs),
    /// Rewrite an autoencoder of any known format as another
    Convert(ConvertArgs),
    /// Write an autoencoder of a run for another tool, or its features for SAEDashboard, Neuronpedia or a browser
    Export(ExportArgs),
    /// Import another tool's autoencoder into a run, or its activations as a run
    Import(ImportArgs),
    /// Upload an autoencoder, or a filtered data set, to the hub
    Upload(UploadArgs),
    /// Write a folder into a bucket, where others see it complete or not at all
    Push(PushArgs),
    /// Read a folder from a bucket
    Pull(PullArgs),
    /// Find released autoencoders of others
    #[command(subcommand)]
    Saes(Saes),
    /// Measure the speed of this machine compared with a lower bound
    #[command(subcommand)]
    Bench(Bench),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Write the manual pages of all commands
    Man(ManArgs),
}

/// The result of a command, for programs and for people.
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

    /// The outcome of a command that has printed what there was to say.
    fn printed() -> Self {
        Self { json: Value::Null, text: String::new() }
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
    let ran = match signals::listen() {
        Ok(cancel) => run(&args, &mut Control::new(Terminal::default(), cancel)),
        Err(e) => Err(anyhow::Error::new(e).context("cannot listen for Ctrl-C")),
    };
    let printed = ran.and_then(|outcome| match print(&outcome, args.json) {
        // A closed pipe, as of `head`, is not an error.
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
    if outcome.json.is_null() {
        return Ok(());
    }
    if json { writeln!(out, "{:#}", outcome.json) } else { writeln!(out, "{}", outcome.text.trim_end()) }
}

/// How a command is run.
pub struct Invocation<'a> {
    /// Whether it only prints its plan.
    pub dry_run: bool,
    /// Whether results are printed as JSON.
    pub json: bool,
    /// What follows it and can stop it.
    pub control: &'a mut Control,
}

impl Invocation<'_> {
    /// The outcome of a request: with `--dry-run` its plan, otherwise its report, which `describe` puts into words.
    fn outcome<P: Serialize, R: Serialize>(
        &mut self,
        plan: impl FnOnce(&mut Control) -> sae_workbench::Result<P>,
        run: impl FnOnce(&mut Control) -> sae_workbench::Result<R>,
        describe: impl FnOnce(&R) -> Result<String>,
    ) -> Result<Outcome> {
        if self.dry_run {
            return Outcome::plan(plan(self.control)?);
        }
        let report = run(self.control)?;
        let text = describe(&report)?;
        Outcome::new(report, text)
    }
}

/// Runs the command that was asked for.
fn run(args: &Args, control: &mut Control) -> Result<Outcome> {
    let invocation = &mut Invocation { dry_run: args.dry_run, json: args.json, control };
    match &args.command {
        Command::Demo(args) => demo::run(args, invocation),
        Command::Harvest(args) => harvest::run(args, invocation),
        Command::Merge(args) => merge::run(args, invocation),
        Command::Pass(pass) => pass::run(pass, invocation),
        Command::Reduce(args) => reduce::run(args, invocation),
        Command::Launch(args) => launch::run(args, invocation),
        Command::Train(args) => train::run(args, invocation),
        Command::Eval(args) => eval::run(args, invocation),
        Command::Index(args) => index::run(args, invocation),
        Command::Label(args) => label::run(args, invocation),
        Command::Score(args) => score::run(args, invocation),
        Command::Validate(args) => validate::run(args, invocation),
        Command::Contrast(args) if args.compares_models() => models::run(args, invocation),
        Command::Contrast(args) => contrast::run(args, invocation),
        Command::Probe(args) => probe::run(args, invocation),
        Command::Pairs(args) => pairs::run(args, invocation),
        Command::Filter(args) => filter::run(args, invocation),
        Command::Serve(args) => serve::run(args, invocation),
        Command::Generate(args) => generate::run(args, invocation),
        Command::Patches(args) => patches::run(args, invocation),
        Command::Bench(bench) => bench::run(bench, invocation),
        Command::Info(args) => info::run(args, invocation),
        Command::Convert(args) => convert::run(args, invocation),
        Command::Export(args) => export::run(args, invocation),
        Command::Import(args) => import::run(args, invocation),
        Command::Upload(args) => upload::run(args, invocation),
        Command::Push(args) => push::run(args, invocation),
        Command::Pull(args) => push::pull(args, invocation),
        Command::Saes(saes) => saes::run(saes, invocation),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args, invocation),
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
        assert_eq!(filter.keep, [Keep::Share(0.25)]);
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
