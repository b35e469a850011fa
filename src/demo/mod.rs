//! The demo: the full pipeline on the bundled model and data, with a report. What an earlier call has captured and trained is used
//! again.
//!
//! The data has wrong captions on purpose. Training, scoring and filtering do not know which; only the report uses that
//! knowledge to measure the scores. Nothing in the report is fixed beforehand: if a score does no better than chance, it
//! says so.

mod captions;
mod recognized;

pub use captions::{Caption, Captions, Judged, Kept};
pub use recognized::{MarkedToken, Recognized, WordExamples};

use crate::control::Control;
use crate::eval::evaluate;
use crate::filter::{FilterBy, FilterReport, FilterRequest, SelectionRules};
use crate::harvest::{capture, capture_blank};
use crate::index;
use crate::sae::{LoadedSae, SaeChoice};
use crate::score::{ScoreOptions, score};
use crate::train::{Resume, TrainRequest};
use crate::{Error, Result};
use filters::definition::Sides;
use filters::score_names::{PMI, PMI_BLANK};
use filters::scores::Scores;
use filters::select::Keep;
use harvest::Plan;
use sae_core::analysis::eval::Report;
use sae_core::autoencoder::Architecture;
use sae_core::device::DeviceChoice;
use sae_core::store::{Hook, load_samples};
use sae_core::train::TrainConfig;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// The decoder block whose output is used, of 8: half-way, as in the paper.
pub const LAYER: usize = 4;
/// Scores that the report compares, the one that it filters by first.
pub const SCORES: [&str; 6] = [PMI_BLANK, PMI, "cosine_paper", "l0_paper", "co_l0_paper", "random"];

/// Where to run the demo, and for how long.
#[derive(Clone, Debug)]
pub struct DemoRequest {
    /// Folder for everything that the demo makes.
    pub run: PathBuf,
    /// Folder of the bundled model and data.
    pub assets: PathBuf,
    /// Training steps of each autoencoder.
    pub steps: u64,
    /// Autoencoders to train, each with its own seed; at least one. The report is about the first.
    pub seeds: u64,
    /// Where to compute.
    pub device: DeviceChoice,
}

/// What the demo would do.
#[derive(Clone, Debug, Serialize)]
pub struct DemoPlan {
    /// `demo`.
    pub command: &'static str,
    /// Folder for everything that the demo makes.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub run: PathBuf,
    /// Seeds of the autoencoders.
    pub seeds: Vec<u64>,
    /// The steps of the pipeline.
    pub plan: DemoSteps,
}

/// What the demo runs.
#[derive(Clone, Debug, Serialize)]
pub struct DemoSteps {
    /// The bundled model.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub model: PathBuf,
    /// The bundled data.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub data: PathBuf,
    /// The decoder block.
    pub layer: usize,
    /// Configuration of the first autoencoder.
    pub train: TrainConfig,
}

/// Everything that the demo measured.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// The run folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub run: PathBuf,
    /// The autoencoder that the report is about.
    pub sae: String,
    /// Autoencoders that were trained.
    pub seeds: u64,
    /// Samples captured.
    pub samples: u64,
    /// Positions captured.
    pub tokens: u64,
    /// How the autoencoders were trained.
    pub recipe: Recipe,
    /// Reconstruction by modality.
    pub evaluation: Report,
    /// Features of words.
    pub recognized: Recognized,
    /// How well scores separate right captions from swapped ones.
    pub captions: Captions,
    /// The report of the filter; `None` if the estimate keeps no sample.
    pub filtered: Option<FilterReport>,
    /// Files for the plots of this report.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub pictures: Vec<PathBuf>,
    /// Seconds by stage.
    pub seconds: Vec<(&'static str, f64)>,
    /// Values of each score for right and for swapped captions, in the order of the scores.
    #[serde(skip)]
    pub values: Vec<[Vec<f64>; 2]>,
}

/// How an autoencoder was trained.
#[derive(Clone, Debug, Serialize)]
pub struct Recipe {
    /// The architecture.
    pub architecture: String,
    /// Number of features.
    pub features: usize,
    /// Active features per position.
    pub k: usize,
    /// Steps.
    pub steps: u64,
    /// Positions per step.
    pub batch: usize,
}

impl Recipe {
    /// The recipe for activations of width `d_in`.
    fn new(config: &TrainConfig, d_in: usize) -> Self {
        Self {
            architecture: format!("{:?}", config.arch),
            features: config.d_sae(d_in),
            k: config.k,
            steps: config.steps,
            batch: config.batch,
        }
    }
}

impl DemoRequest {
    /// What [`DemoRequest::run`] would do.
    pub fn plan(&self) -> DemoPlan {
        let (model, data) = (self.model(), self.data());
        let plan = DemoSteps { model, data, layer: LAYER, train: recipe(self.steps, 0) };
        DemoPlan { command: "demo", run: self.run.clone(), seeds: (0..self.seeds).collect(), plan }
    }

    /// Runs the pipeline.
    ///
    /// # Errors
    /// The bundled model is missing, the folder has a demo with other settings, a full disk; a request to stop. The same request
    /// continues where it stopped.
    pub fn run(&self, control: &mut Control) -> Result<DemoReport> {
        let (model, data) = (self.model(), self.data());
        if !model.is_dir() {
            return Err(Error::NoAssets { folder: self.assets.clone() });
        }
        let mut clock = Clock { last: Instant::now(), seconds: Vec::new() };

        let plan = Plan::new(&model, data.join("constructed-swapped.jsonl"), vec![Hook::block(LAYER)]);
        let plan = Plan { device: self.device, part_rows: 16_384, ..plan };
        capture(&plan, &self.run, control)?;
        capture_blank(&plan, &self.run, control)?;
        clock.lap("capture");

        for seed in 0..self.seeds {
            self.train(seed, control)?;
        }
        clock.lap("train");

        let first = self.load(0)?;
        let threshold = filters::Threshold::Auto.for_width(first.saved.weights.d_in);
        index::build(&first, threshold, &Sides::default(), Some(&index::open_lens(&first, &model)?), control)?;
        let evaluation = evaluate(&first, control)?.report;
        clock.lap("index");

        let samples = load_samples(&first.run)?;
        let recognized = recognized::recognize(&first, &samples, control)?;
        clock.lap("words");

        let mut scores: Vec<Scores> = Vec::new();
        let mut estimate = None;
        for seed in 0..self.seeds {
            let scored = score(&self.load(seed)?, &ScoreOptions { seed, ..ScoreOptions::default() }, control)?;
            estimate = estimate.or(scored.keep.get(SCORES[0]).copied());
            scores.push(scored.scores);
        }
        let estimate = estimate.ok_or_else(|| Error::TooFewScores { column: SCORES[0].into() })?;
        clock.lap("score");

        let captions = Captions::judge(&samples, &scores, &data.join("data.jsonl"), estimate)?;
        let filtered = if estimate.share_kept > 0.0 { Some(self.filter(control)?) } else { None };
        let values = SCORES.iter().map(|score| captions::split(&scores[0], score, &samples)).collect();
        clock.lap("filter");

        let manifest = first.store.manifest();
        let sheet = (!recognized.shown.is_empty()).then(|| self.run.join("features.png"));
        let pictures = [self.run.join("scores.png"), first.run.sae_dir(&first.name).join("curves.png")];
        Ok(DemoReport {
            run: self.run.clone(),
            sae: name(0),
            seeds: self.seeds,
            samples: manifest.samples,
            tokens: manifest.rows,
            recipe: Recipe::new(&recipe(self.steps, 0), manifest.d_in),
            evaluation,
            recognized,
            captions,
            filtered,
            pictures: pictures.into_iter().chain(sheet).collect(),
            seconds: clock.seconds,
            values,
        })
    }

    fn model(&self) -> PathBuf {
        self.assets.join("demo-mllm")
    }

    fn data(&self) -> PathBuf {
        self.assets.join("demo-data")
    }

    /// Trains an autoencoder that the run does not have yet.
    fn train(&self, seed: u64, control: &mut Control) -> Result<()> {
        let config = recipe(self.steps, seed);
        let request = TrainRequest::new(&self.run, Hook::block(LAYER).to_string(), name(seed), config);
        let request = TrainRequest { resume: Resume::IfBegun, device: self.device, ..request };
        let trained = match request.run(control) {
            Err(Error::OtherSettings { .. }) => return Err(Error::OtherDemo { run: self.run.clone() }),
            trained => trained?,
        };
        // The last step of a training has no checkpoint after it, so a request to stop that arrives then is answered here.
        if control.is_cancelled() && !trained.finished_before {
            return Err(Error::InterruptedBetween { finished: name(seed) });
        }
        Ok(())
    }

    /// An autoencoder with the activations of the run.
    fn load(&self, seed: u64) -> Result<LoadedSae> {
        SaeChoice { run: self.run.clone(), sae: Some(name(seed)), device: self.device }.load()
    }

    /// Writes the rows that the score keeps and those that it drops, and removes those of an earlier demo.
    fn filter(&self, control: &mut Control) -> Result<FilterReport> {
        let [kept, dropped] = ["kept", "dropped"].map(|side| self.run.join(side));
        for folder in [&kept, &dropped].into_iter().filter(|folder| folder.exists()) {
            std::fs::remove_dir_all(folder).map_err(sae_core::Error::io("remove", folder))?;
        }
        let rules = SelectionRules { sae: Some(name(0)), ..SelectionRules::new(SCORES[0], Keep::Auto) };
        let filter = FilterRequest::new(&self.run, FilterBy::Rules(rules), kept);
        FilterRequest { dropped: Some(dropped), device: self.device, ..filter }.run(control)
    }
}

/// How the autoencoder is trained. Chosen among the recipes that take less than a minute, by the number of words of the data that
/// have both a feature in patches and a feature in tokens.
fn recipe(steps: u64, seed: u64) -> TrainConfig {
    let config = TrainConfig::for_architecture(Architecture::Matryoshka);
    TrainConfig { features: 2048, k: 20, batch: 512, lr: 1e-3, buffer: 65_536, seed, ..config }.with_steps(steps)
}

fn name(seed: u64) -> String {
    format!("seed-{seed}")
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
