//! `sae demo`: the full pipeline on the bundled model and data, and a report. What an earlier run has captured and trained
//! is kept.
//!
//! The data has wrong captions on purpose. Nothing that is learned, scored or filtered is told which; the report tells it
//! to judge the scores. Nothing in the report is fixed beforehand: where a score does no better than chance, it says so.

mod captions;
mod recognized;
mod report;

use super::arguments::{DeviceArg, SaeArgs};
use super::interrupt::{self, Interrupted};
use super::{Outcome, SaeReader, eval, filter, harvest, index, score, train};
use crate::plots::{self, Distribution};
use ::harvest::Plan;
use anyhow::{Context, Result, bail};
use captions::Captions;
use clap::Args;
use filters::definition::Definition;
use filters::scores::Scores;
use filters::select::Keep;
use report::{DemoReport, Recipe};
use sae_core::autoencoder::Architecture;
use sae_core::store::run::Run;
use sae_core::store::{Store, load_samples};
use sae_core::train::TrainConfig;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// `sae demo`
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Folder for everything the demo makes
    #[arg(long, default_value = "demo-run")]
    pub run: PathBuf,
    /// Folder of the bundled model and data
    #[arg(long, default_value = "assets")]
    pub assets: PathBuf,
    /// Training steps of each autoencoder
    #[arg(long, default_value_t = 1600)]
    pub steps: u64,
    /// Autoencoders to train, each with its own seed; the report is about the first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// The decoder block whose output is used, of 8: half-way, as in the paper.
const LAYER: usize = 4;
/// Scores that the report compares, the one that it filters by first.
const SCORES: [&str; 6] = [score::PMI_BLANK, score::PMI, "cosine_paper", "l0_paper", "co_l0_paper", "random"];

/// Runs the command.
pub fn run(args: &DemoArgs, dry: bool) -> Result<Outcome> {
    let (model, data) = (args.assets.join("demo-mllm"), args.assets.join("demo-data"));
    let seeds: Vec<u64> = (0..args.seeds).collect();
    if dry {
        let steps = json!({ "model": model, "data": data, "layer": LAYER, "train": recipe(args.steps, 0) });
        return Outcome::plan(json!({ "command": "demo", "run": args.run, "seeds": seeds, "plan": steps }));
    }
    if !model.is_dir() {
        bail!("the bundled model is not in {}\nhint: run from the repository, or say --assets", args.assets.display());
    }
    let mut clock = Clock { last: Instant::now(), seconds: Vec::new() };

    let plan = Plan::new(&model, data.join("constructed-swapped.jsonl"), vec![LAYER]);
    let plan = Plan { device: args.device.device, part_rows: 16_384, ..plan };
    harvest::capture(&plan, &args.run)?;
    harvest::capture_blank(&plan, &args.run)?;
    clock.lap("capture");

    let run = Run::open(&args.run)?;
    train_all(args, &run, &seeds)?;
    clock.lap("train");

    let first = open(args, seeds[0])?;
    let threshold = filters::Threshold::Auto.for_width(first.saved.weights.d_in);
    index::build(&first, threshold, index::lens(&first, Some(&model))?.as_ref())?;
    let evaluation = eval::build(&first)?;
    clock.lap("index");

    let samples = load_samples(&run)?;
    let recognized = recognized::recognize(&first, &samples)?;
    let sheet = recognized.draw(&first, &samples)?;
    clock.lap("words");

    let mut scores: Vec<Scores> = Vec::new();
    let mut estimate = None;
    for seed in &seeds {
        let opened = open(args, *seed)?;
        let request =
            score::Request { modes: &Definition::ALL, threshold, seed: *seed, calibrate: &[], rejected: None };
        let built = score::build(&opened, &request)?;
        estimate = estimate.or(built.keep.get(SCORES[0]).copied());
        scores.push(built.scores);
    }
    let estimate = estimate.context("too few samples have a score to say how many to keep")?;
    clock.lap("score");

    let captions = Captions::judge(&samples, &scores, &data.join("data.jsonl"), estimate)?;
    let filtered = if estimate.share_kept > 0.0 { Some(filter_by_score(args, &run, &name(seeds[0]))?) } else { None };
    let distributions = args.run.join("scores.png");
    draw_scores(&distributions, &captions, &samples, &scores[0])?;
    clock.lap("filter");

    let manifest = first.store.manifest();
    let report = DemoReport {
        run: args.run.clone(),
        sae: name(seeds[0]),
        seeds: args.seeds,
        samples: manifest.samples,
        tokens: manifest.rows,
        recipe: Recipe::new(&recipe(args.steps, seeds[0]), manifest.d_in),
        evaluation,
        recognized,
        captions,
        filtered,
        pictures: [Some(distributions), Some(run.sae_dir(&name(seeds[0])).join("curves.png")), sheet]
            .into_iter()
            .flatten()
            .collect(),
        seconds: clock.seconds,
    };
    let text = report.describe();
    Outcome::new(report, text)
}

/// How the autoencoder is trained. Chosen among the architectures, numbers of features and of active features and steps that
/// take less than a minute, by how many words of the data have a feature in patches and one in words.
fn recipe(steps: u64, seed: u64) -> TrainConfig {
    let config = TrainConfig::for_architecture(Architecture::Matryoshka);
    TrainConfig { features: 2048, k: 20, batch: 512, lr: 1e-3, buffer: 65_536, seed, ..config }.with_steps(steps)
}

fn name(seed: u64) -> String {
    format!("seed-{seed}")
}

/// Trains the autoencoders that the run does not have yet.
fn train_all(args: &DemoArgs, run: &Run, seeds: &[u64]) -> Result<()> {
    let store = Store::open(run, &sae_core::store::hook(LAYER))?;
    let device = args.device.device.open()?;
    for seed in seeds {
        let (name, config) = (name(*seed), recipe(args.steps, *seed));
        if !run.saes().contains(&name) {
            train::train_and_save(run, &store, &name, &config, &device)?;
            if interrupt::asked() {
                let hint = "hint: the same command continues there";
                return Err(Interrupted(format!("interrupted behind the training of {name}\n{hint}")).into());
            }
        } else if train::read_config(&run.sae_dir(&name).join("train.toml"))? != config {
            bail!("{} holds a demo with other settings\nhint: use another --run", run.root().display());
        }
    }
    Ok(())
}

/// The activations of the run, with an autoencoder.
fn open(args: &DemoArgs, seed: u64) -> Result<SaeReader> {
    SaeReader::new(&SaeArgs { run: args.run.clone(), sae: Some(name(seed)), device: args.device })
}

/// Writes the rows that the score keeps and those that it drops, in place of those of an earlier demo.
fn filter_by_score(args: &DemoArgs, run: &Run, sae: &str) -> Result<filter::Filtered> {
    let folders: [PathBuf; 2] = ["kept", "dropped"].map(|side| args.run.join(side));
    for folder in folders.iter().filter(|folder| folder.exists()) {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let [kept, dropped] = folders.each_ref().map(PathBuf::as_path);
    filter::plain(run, sae, SCORES[0], Keep::Auto, [kept, dropped], args.device)
}

fn draw_scores(
    path: &Path,
    captions: &Captions,
    samples: &[sae_core::store::sample::Sample],
    scores: &Scores,
) -> Result<()> {
    let distribution = |judged: &captions::Judged| {
        let [right, swapped] = captions::split(scores, &judged.score, samples);
        Distribution { title: format!("{}   AUC {:.3}", judged.score, judged.auc), right, swapped }
    };
    plots::distributions(path, &captions.scores.iter().map(distribution).collect::<Vec<_>>())
}

struct Clock {
    last: Instant,
    seconds: Vec<(&'static str, f64)>,
}

impl Clock {
    fn lap(&mut self, stage: &'static str) {
        self.seconds.push((stage, self.last.elapsed().as_secs_f64()));
        self.last = Instant::now();
    }
}
