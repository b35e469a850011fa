//! `sae demo`: the whole way on the bundled model and data, and a report. Finished steps of an earlier run are kept.
//!
//! Nothing in the report is fixed beforehand: also where a score does no better than chance, that is what it says.

use super::arguments::{DeviceArg, SaeArgs};
use super::{Outcome, SaeReader, filter, harvest, index, score, train};
use crate::cli::eval;
use crate::cli::interrupt::{self, Interrupted};
use crate::cli::terminal::{count, table};
use crate::plots::{self, Distribution};
use ::harvest::Plan;
use anyhow::{Context, Result, bail};
use clap::Args;
use filters::auc::auc;
use filters::definition::Definition;
use filters::scores::Scores;
use filters::select::Keep;
use filters::top_tokens::TopTokens;
use sae_core::analysis::eval::Report;
use sae_core::analysis::index::FeatureRow;
use sae_core::autoencoder::formats::{self, Format};
use sae_core::store::run::Run;
use sae_core::store::{Store, load_samples, token_texts};
use sae_core::train::TrainConfig;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
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
    #[arg(long, default_value_t = 800)]
    pub steps: u64,
    /// Autoencoders to train, each with its own seed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// The decoder block whose output is used, of 8: half-way, as in the paper.
const LAYER: usize = 4;
/// Rows kept by the filter of the constructed data.
const KEEP: Keep = Keep::Share(0.75);
/// Scores that the report compares.
const SCORES: [&str; 6] = ["cosine_paper", "l0_paper", "co_l0_paper", "pmi", "pmi_blank", "random"];

/// Everything the demo measured.
#[derive(Serialize)]
struct Findings {
    tokens: u64,
    samples: u64,
    classes: BTreeMap<String, u64>,
    evaluation: Report,
    cross_modal: Vec<CrossModal>,
    /// AUC at telling right from swapped captions, by score, a value a seed.
    auc: BTreeMap<String, Vec<f64>>,
    /// Share of swapped captions in the constructed data, and in what the filter kept.
    swapped: (f64, f64),
    filtered: filter::Filtered,
    /// Seconds by stage.
    seconds: Vec<(&'static str, f64)>,
    picture: PathBuf,
}

#[derive(Serialize)]
struct CrossModal {
    feature: u32,
    weight: f64,
    fires_text: u64,
    fires_image: u64,
    words: Vec<String>,
}

/// Runs the command.
pub fn run(args: &DemoArgs, dry: bool) -> Result<Outcome> {
    let config = |seed| TrainConfig { seed, ..recipe(args.steps) };
    let seeds: Vec<u64> = (0..args.seeds).collect();
    let data = args.assets.join("demo-data");
    let constructed = args.run.join("constructed");
    if dry {
        let steps = json!({ "model": args.assets.join("demo-mllm"), "data": data, "layer": LAYER, "train": config(0) });
        return Outcome::plan(json!({ "command": "demo", "run": args.run, "seeds": seeds, "plan": steps }));
    }
    if !args.assets.join("demo-mllm").is_dir() {
        bail!("the bundled model is not in {}\nhint: run from the repository, or say --assets", args.assets.display());
    }
    let mut clock = Clock { last: Instant::now(), seconds: Vec::new() };

    capture(args, &data.join("data.jsonl"), &args.run)?;
    let plan = capture(args, &data.join("constructed-swapped.jsonl"), &constructed)?;
    harvest::capture_blank(&plan, &constructed)?;
    clock.lap("harvest");

    let run = Run::open(&args.run)?;
    let companion = Run::open(&constructed)?;
    let store = Store::open(&run, &sae_core::store::hook(LAYER))?;
    let device = args.device.device.open()?;
    let threshold = filters::Threshold::Auto.for_width(store.manifest().d_in);
    for seed in &seeds {
        let (name, config) = (name(*seed), config(*seed));
        if !run.saes().contains(&name) {
            train::train_and_save(&run, &store, &name, &config, &device)?;
            if interrupt::asked() {
                let hint = "hint: the same command goes on there";
                return Err(Interrupted(format!("interrupted behind the training of {name}\n{hint}")).into());
            }
        } else if trained(&run, &name)? != config {
            bail!("{} holds a demo with other settings\nhint: another --run", run.root().display());
        }
    }
    clock.lap("train");

    let first = open(args, &args.run, &run, seeds[0])?;
    let lens = index::lens(&first, Some(&args.assets.join("demo-mllm")))?;
    let (features, tops) = index::build(&first, threshold, lens.as_ref())?;
    clock.lap("index");
    let evaluation = eval::build(&first)?;
    clock.lap("eval");
    let request = |seed| score::Request { modes: &Definition::ALL, threshold, seed, calibrate: &[], rejected: None };
    score::build(&first, &request(0))?;

    let samples = load_samples(&companion)?;
    let swapped: Vec<bool> = samples.iter().map(|s| s.meta["swapped"].as_bool().unwrap_or(false)).collect();
    let mut aucs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut shown = None;
    for seed in &seeds {
        let opened = open(args, &constructed, &run, *seed)?;
        let scores = score::build(&opened, &request(*seed))?.scores;
        for name in SCORES {
            let (right, wrong) = split(&scores, name, &swapped);
            aucs.entry(name.into()).or_default().push(auc(&right, &wrong).context("no swapped captions")?);
        }
        shown.get_or_insert(scores);
    }
    clock.lap("score");

    let by = SCORES[0];
    let (kept, dropped) = (args.run.join("kept"), args.run.join("dropped"));
    for folder in [&kept, &dropped].into_iter().filter(|f| f.exists()) {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let filtered = filter::plain(&companion, &name(seeds[0]), by, KEEP, [&kept, &dropped], args.device)?;
    let swapped_share = (share(&swapped), share_in(&kept)?);
    let picture = args.run.join("scores.png");
    let shown = shown.context("at least one autoencoder")?;
    let distribution = |name: &&str| {
        let (right, wrong) = split(&shown, name, &swapped);
        Distribution { title: format!("{name}   AUC {:.3}", aucs[*name][0]), right, swapped: wrong }
    };
    plots::distributions(&picture, &SCORES.iter().map(distribution).collect::<Vec<_>>())?;
    clock.lap("filter");

    let manifest = store.manifest();
    let findings = Findings {
        tokens: manifest.rows,
        samples: manifest.samples,
        classes: index::classes(&features),
        evaluation,
        cross_modal: cross_modal(&run, &features, &tops)?,
        auc: aucs,
        swapped: swapped_share,
        filtered,
        seconds: clock.seconds,
        picture,
    };
    let text = describe(&findings, args);
    Outcome::new(findings, text)
}

/// The paper's recipe with a faster learning rate and fewer, smaller steps, for a small model and little data.
fn recipe(steps: u64) -> TrainConfig {
    TrainConfig { expansion: 8, batch: 1024, lr: 1e-3, l1_coefficient: 1.0, buffer: 65_536, ..TrainConfig::default() }
        .with_steps(steps)
}

fn name(seed: u64) -> String {
    format!("seed-{seed}")
}

fn trained(run: &Run, name: &str) -> Result<TrainConfig> {
    train::read_config(&run.sae_dir(name).join("train.toml"))
}

fn capture(args: &DemoArgs, data: &Path, run: &Path) -> Result<Plan> {
    let plan = Plan::new(args.assets.join("demo-mllm"), data, vec![LAYER]);
    let plan = Plan { device: args.device.device, part_rows: 16_384, ..plan };
    harvest::capture(&plan, run)?;
    Ok(plan)
}

/// The activations of the run at `of`, with an autoencoder of `trained_in`.
fn open(args: &DemoArgs, of: &Path, trained_in: &Run, seed: u64) -> Result<SaeReader> {
    let (own, name) = (Run::open(of)?, name(seed));
    if !own.saes().contains(&name) {
        let saved = formats::load(&trained_in.sae_dir(&name))?;
        formats::save(Format::SaeLens, &own.sae_dir(&name), &saved)?;
    }
    SaeReader::new(&SaeArgs { run: of.into(), sae: Some(name), device: args.device })
}

/// A score's values of right and of swapped pairs.
fn split(scores: &Scores, name: &str, swapped: &[bool]) -> (Vec<f64>, Vec<f64>) {
    let side = |wrong: bool| {
        let values = scores.columns[name].iter().zip(swapped).filter(move |(_, s)| **s == wrong);
        values.filter_map(|(value, _)| *value).collect::<Vec<_>>()
    };
    (side(false), side(true))
}

fn share(swapped: &[bool]) -> f64 {
    swapped.iter().filter(|s| **s).count() as f64 / swapped.len().max(1) as f64
}

/// Share of swapped captions in a folder that the filter wrote: read back from the file, not from memory.
fn share_in(folder: &Path) -> Result<f64> {
    let path = folder.join(filters::write::card::ROWS).join("constructed-swapped.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let row = |line: &str| Ok(serde_json::from_str::<serde_json::Value>(line)?["swapped"].as_bool().unwrap_or(false));
    Ok(share(&text.lines().map(row).collect::<Result<Vec<_>>>()?))
}

/// The ten features of highest weight that have all their tokens, with the words they fire on most.
fn cross_modal(run: &Run, features: &[FeatureRow], tops: &TopTokens) -> Result<Vec<CrossModal>> {
    let full = |f: &&FeatureRow| tops.places(f.feature as usize).iter().all(|p| p.len() == filters::top_tokens::TOP);
    let mut ranked: Vec<_> = features.iter().filter(full).filter_map(|f| Some((f.weight_paper?, f))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.feature.cmp(&b.1.feature)));
    ranked.truncate(10);
    let text_places = |feature: u32| {
        let [text, _] = tops.places(feature as usize);
        text
    };
    let wanted: BTreeSet<(u32, u32)> = ranked.iter().flat_map(|(_, f)| text_places(f.feature)).collect();
    let pieces = token_texts(run, &wanted)?;
    let words = |feature: u32| {
        let mut words: Vec<String> = Vec::new();
        for place in &text_places(feature) {
            let word = pieces.get(place).map_or("?", |p| p.trim()).to_string();
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words
    };
    let found = |(weight, f): &(f64, &FeatureRow)| CrossModal {
        feature: f.feature,
        weight: *weight,
        fires_text: f.fires_text,
        fires_image: f.fires_image,
        words: words(f.feature),
    };
    Ok(ranked.iter().map(found).collect())
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

fn describe(found: &Findings, args: &DemoArgs) -> String {
    let mut text = format!(
        "The bundled model behind block {LAYER}: {} samples, {} tokens; {} autoencoders of the SAE-V kind (ReLU + L1)\n\n",
        count(found.samples),
        count(found.tokens),
        args.seeds
    );
    let classes: Vec<_> = found.classes.iter().map(|(class, n)| format!("{} {class}", count(*n))).collect();
    text += &format!("Features of the first: {}\n\n", classes.join(", "));
    text += &format!("Reconstruction\n{}\n", eval::describe(&found.evaluation));
    let mut rows = vec![["feature", "weight", "on text", "on image", "words"].map(String::from).to_vec()];
    rows.extend(found.cross_modal.iter().map(|f| {
        let counts = [count(f.fires_text), count(f.fires_image)];
        vec![
            f.feature.to_string(),
            format!("{:.3}", f.weight),
            counts[0].clone(),
            counts[1].clone(),
            f.words.join(" | "),
        ]
    }));
    text += &format!(
        "The ten most cross-modal features (paper's weight), with the words they fire on most\n{}\n",
        table(&rows)
    );
    let mut rows = vec![["score", "AUC", "spread", "by seed"].map(String::from).to_vec()];
    rows.extend(found.auc.iter().map(|(name, values)| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let spread = values.iter().map(|v| (v - mean).abs()).fold(0.0, f64::max);
        let each: Vec<_> = values.iter().map(|v| format!("{v:.3}")).collect();
        vec![name.clone(), format!("{mean:.3}"), format!("+-{spread:.3}"), each.join(" ")]
    }));
    text += &format!(
        "Telling right captions from swapped ones (constructed: {:.0} % swapped); 0.5 is chance\n{}\n",
        100.0 * found.swapped.0,
        table(&rows)
    );
    text += &format!(
        "Filtered by {}, best {KEEP}: {} kept, {} dropped; {:.1} % of the kept are swapped\n\n",
        SCORES[0],
        count(found.filtered.kept.rows),
        count(found.filtered.dropped),
        100.0 * found.swapped.1
    );
    let seconds: Vec<_> = found.seconds.iter().map(|(stage, s)| format!("{stage} {s:.1} s")).collect();
    let total: f64 = found.seconds.iter().map(|(_, s)| s).sum();
    text += &format!("Time: {} (together {total:.0} s)\n", seconds.join(", "));
    text += &format!("Picture: {}\n", found.picture.display());
    text + &format!("Explore: cargo run --release -p sae-gui -- {}\n", args.run.display())
}
