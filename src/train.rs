//! Training: autoencoders on the activations of a run, or on activations straight from a model, with checkpoints. Writes weights,
//! configurations and logs into the run.

mod base;
mod ranks;
mod report;

pub use base::config_of_base;
pub use report::{LastStep, NamedConfig, TrainPlan, TrainReport, TrainedSae};

use crate::control::{Control, Detail, Notice, Stage};
use crate::error::{JobsError, ModelsError, TranscoderError};
use crate::import::SaeSource;
use crate::{Error, Result, crosscoder, model, transcoder};
use burn::tensor::Device;
use harvest::{OnlineActivations, Plan, Preview, Shard};
use sae_core::autoencoder::formats::{self, Format, Origin, Saved};
use sae_core::device::DeviceChoice;
use sae_core::store::stream::{Source, StoreRows, Stream};
use sae_core::store::{Hook, SkipList, Skipped, Store, run};
use sae_core::train::ranks::{Ranks, Rendezvous, SingleProcess};
use sae_core::train::{EVENTS, Session, TrainConfig, check_off_cpu, checkpoint};
use sae_core::{Run, file};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to train, and on what.
///
/// ```
#[doc = include_str!("example_run.md")]
/// use sae_core::autoencoder::Architecture;
/// use sae_core::train::TrainConfig;
/// use sae_workbench::{Control, TrainRequest};
///
/// # let run = example_run()?;
/// // Two autoencoders of different sparsity in one pass over the activations.
/// let config = |k| {
///     let defaults = TrainConfig::for_architecture(Architecture::BatchTopK);
///     TrainConfig { features: 128, k, batch: 128, buffer: 1_024, ..defaults }.with_steps(20)
/// };
/// let mut request = TrainRequest::new(run.path(), "layers.4", "sparse", config(4));
/// request.saes.push(("dense".into(), config(16)));
/// let report = request.run(&mut Control::default())?;
///
/// for sae in &report.saes {
///     assert_eq!((sae.d_sae, sae.last.steps), (128, 20));
///     assert!(sae.folder.join("sae_weights.safetensors").exists(), "SAELens opens this folder");
/// }
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// The run folder.
    pub run: PathBuf,
    /// Runs with the states of other models on the same samples, for a crosscoder. It is saved in [`Self::run`], the run of its
    /// first model.
    pub others: Vec<PathBuf>,
    /// The activations, such as `layers.16`.
    pub hook: String,
    /// Activations of the same run that a transcoder reconstructs from those of `hook`; `None` trains autoencoders, which reconstruct what
    /// they read. The width of a transcoder's target is taken from these activations.
    pub target: Option<String>,
    /// Autoencoders with their names; all are trained in one pass over the data.
    pub saes: Vec<(String, TrainConfig)>,
    /// An autoencoder to start from, whose features keep their indices: a file or folder of any format that is read, the name of one in
    /// the run, or a published one.
    pub from: Option<SaeSource>,
    /// A model and its data set, to train without storing activations; `None` trains on the activations of the run. The
    /// hook of the plan is replaced by this one.
    pub online: Option<Plan>,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
    /// What to do about an interrupted training.
    pub resume: Resume,
    /// Where to compute.
    pub device: DeviceChoice,
    /// The other processes that train the same autoencoders, each with a share of the features. All are given the same request and
    /// read the same run; the first one writes.
    pub rendezvous: Option<Rendezvous>,
}

/// What to do about an interrupted training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// It is an error if there is one.
    #[default]
    Never,
    /// Continue from its newest checkpoint; it is an error if there is none. A training that is finished with the same settings is
    /// reported.
    Required,
    /// Continue from its newest checkpoint, if there is one.
    IfBegun,
}

/// The entry of a trained autoencoder in `run.json`.
#[derive(Debug, Serialize, Deserialize)]
struct TrainStep {
    config: Value,
    hook: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    last: LastStep,
    positions: Positions,
    /// The hash of each model's activations, if they were stored.
    #[serde(default)]
    activations: Vec<String>,
    /// How the model read the data, if activations came straight from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arguments: Option<Value>,
    /// The autoencoder that the training started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<SkippedRows>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Positions {
    read: u64,
    left_out: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SkippedRows {
    rows: u64,
    first: Vec<Skipped>,
}

/// A request that was checked against the run.
struct Prepared {
    hook: Hook,
    d_in: usize,
    source: Activations,
    unfinished: Option<PathBuf>,
    finished: Option<TrainReport>,
}

/// Where activations come from.
enum Activations {
    Stored(Box<Store>),
    Online(Box<(Plan, Preview)>),
}

/// What a training starts from.
struct Start {
    /// Where activations come from.
    origin: Origin,
    /// The hash of each model's activations, if they are stored.
    activations: Vec<String>,
    /// How the model reads the data, if activations come straight from it.
    arguments: Option<Value>,
    /// The checkpoint to continue from.
    checkpoint: Option<PathBuf>,
    /// The autoencoder to start from.
    base: Option<Saved>,
}

impl TrainRequest {
    /// One autoencoder on the activations of a run.
    pub fn new(run: impl Into<PathBuf>, hook: impl Into<String>, name: impl Into<String>, config: TrainConfig) -> Self {
        Self {
            run: run.into(),
            others: Vec::new(),
            hook: hook.into(),
            target: None,
            saes: vec![(name.into(), config)],
            from: None,
            online: None,
            checkpoint_every: 1_000,
            resume: Resume::Never,
            device: DeviceChoice::Auto,
            rendezvous: None,
        }
    }

    /// What [`TrainRequest::run`] would do.
    ///
    /// # Errors
    /// Whatever would prevent the training; a model that has not been downloaded.
    pub fn plan(&self) -> Result<TrainPlan> {
        let request = self.with_width_of_target()?;
        let prepared = request.prepare(None)?;
        let named = |(name, config): &(String, TrainConfig)| NamedConfig { name: name.clone(), config: config.clone() };
        let (_, first) = request.first()?;
        Ok(TrainPlan {
            command: "train",
            d_in: prepared.d_in,
            d_sae: first.d_sae(prepared.d_in),
            config: first.clone(),
            autoencoders: request.saes.iter().map(named).collect(),
            data: match prepared.source {
                Activations::Online(online) => Some(online.1),
                Activations::Stored(_) => None,
            },
            resume: prepared.unfinished,
            finished: prepared.finished,
        })
    }

    /// Trains.
    ///
    /// # Errors
    /// An invalid configuration, activations or data that cannot be read, a loss that is no longer finite, a device that
    /// failed. A request to stop ends with a checkpoint: [`Error::Interrupted`].
    pub fn run(&self, control: &mut Control) -> Result<TrainReport> {
        self.with_width_of_target()?.train_resolved(control)
    }

    /// The request with the width of the target in every configuration.
    fn with_width_of_target(&self) -> Result<Cow<'_, Self>> {
        let Some(target) = &self.target else {
            return match self.saes.iter().find(|(_, config)| config.is_transcoder()) {
                Some((_, config)) => Err(TranscoderError::NoTarget { d_out: config.d_out }.into()),
                None => Ok(Cow::Borrowed(self)),
            };
        };
        if self.online.is_some() {
            return Err(TranscoderError::Online.into());
        }
        let d_out = Store::open_with_pieces(&Run::open(&self.run)?, target)?.manifest().d_in;
        let mut request = self.clone();
        request.saes.iter_mut().for_each(|(_, config)| config.d_out = d_out);
        Ok(Cow::Owned(request))
    }

    fn train_resolved(&self, control: &mut Control) -> Result<TrainReport> {
        let prepared = self.prepare(Some(control))?;
        if let Some(report) = prepared.finished {
            return Ok(report);
        }
        let (_, first) = self.first()?;
        let base = self.base(Some(control))?;
        match prepared.source {
            Activations::Online(online) => {
                let (plan, preview) = *online;
                let run = Run::create(&self.run)?;
                control.data_notes(&preview.notes);
                let rows = OnlineActivations::open(&plan, first.exclude)?;
                let model = harvest::hub::model_name(&plan.model);
                let origin =
                    Origin { model, hook: self.hook.clone(), layer: prepared.hook.layer(), ..Origin::default() };
                let arguments = Some(rows.arguments());
                let start = Start { origin, activations: Vec::new(), arguments, checkpoint: prepared.unfinished, base };
                let report = self.train(&run, rows, &start, control)?;
                control.data_notes(&plan.notes.take());
                Ok(report)
            }
            Activations::Stored(store) => {
                let run = Run::open(&self.run)?;
                let rows = StoreRows::new(&store, first.exclude, first.seed)?;
                let (origin, activations) = (origin(&store)?, store.content_hashes());
                let start = Start { origin, activations, arguments: None, checkpoint: prepared.unfinished, base };
                self.train(&run, rows, &start, control)
            }
        }
    }

    /// The autoencoder to start from. A published one is downloaded only with a `control`.
    fn base(&self, control: Option<&mut Control>) -> Result<Option<Saved>> {
        let k = self.first()?.1.k;
        self.from.as_ref().map(|from| base::load(&self.run, from, k, control)).transpose()
    }

    fn first(&self) -> Result<&(String, TrainConfig)> {
        self.saes.first().ok_or(Error::NothingToTrain)
    }

    /// Checks the request against the run. Downloads the model only with a `control`.
    fn prepare(&self, mut control: Option<&mut Control>) -> Result<Prepared> {
        let hook: Hook = self.hook.parse()?;
        let (d_in, source) = match &self.online {
            Some(plan) => {
                let plan = Plan { hooks: vec![hook], ..model::resolve(plan, control.as_deref_mut())? };
                let preview = plan.preview()?;
                (preview.d_in, Activations::Online(Box::new((plan, preview))))
            }
            None => {
                let store = crosscoder::join(&Run::open(&self.run)?, &self.others, &self.hook)?;
                let store = match &self.target {
                    Some(target) => transcoder::with_target(store, target)?,
                    None => store,
                };
                (store.manifest().d_in, Activations::Stored(Box::new(store)))
            }
        };
        if let Some(base) = self.base(control)? {
            if base.weights.d_in != d_in {
                let (sae, hook) = (base.weights.d_in, self.hook.clone());
                return Err(Error::StoreWidth { sae, activations: d_in, hook });
            }
            match &source {
                Activations::Stored(store) if store.target().is_some() => {
                    store.target().map_or(Ok(()), |target| transcoder::check_width(&base, target))?;
                }
                _ => transcoder::check_autoencoder(&base)?,
            }
        }
        let runs = 1 + self.others.len();
        for (name, config) in &self.saes {
            if config.models != runs || (self.online.is_some() && runs > 1) {
                let models = config.models;
                let error = if models == 1 {
                    ModelsError::SeveralRuns { runs }
                } else {
                    ModelsError::OtherRuns { models, runs }
                };
                return Err(error.into());
            }
            run::check_name(name)?;
            config.check(d_in)?;
        }
        if self.rendezvous.is_some() && self.online.is_some() {
            return Err(JobsError::OnlineRanks.into());
        }
        if self.device.open()? != Device::flex() {
            let ranks = self.rendezvous.as_ref().map_or(1, |rendezvous| rendezvous.count);
            self.saes.iter().try_for_each(|(_, config)| check_off_cpu(config, ranks))?;
        }
        let name = &self.first()?.0;
        let unfinished = checkpoint::newest(&self.sae_dir(name).join("checkpoint"));
        let finished = self.finished(&source, unfinished.is_some())?;
        match (&unfinished, self.resume) {
            _ if finished.is_some() => (),
            (Some(at), Resume::Never) => {
                return Err(Error::AlreadyBegun { name: name.clone(), checkpoint: at.clone() });
            }
            (None, Resume::Required) => return Err(Error::NothingToResume { name: name.clone() }),
            _ => (),
        }
        Ok(Prepared { hook, d_in, source, unfinished, finished })
    }

    /// The folder of an autoencoder, even if there is no run yet.
    fn sae_dir(&self, name: &str) -> PathBuf {
        self.run.join("saes").join(name)
    }

    /// The report, if the autoencoders are in the run already and the request resumes their training with the same settings.
    /// `None` if they are still to be trained, or if the training was interrupted while they were saved.
    fn finished(&self, source: &Activations, unfinished: bool) -> Result<Option<TrainReport>> {
        // Weights are written last: a folder without them is of an interrupted training.
        let is_complete = |name: &str| self.sae_dir(name).join("sae_weights.safetensors").exists();
        let complete: Vec<_> = self.saes.iter().filter(|(name, _)| is_complete(name)).collect();
        let Some((first, _)) = complete.first() else { return Ok(None) };
        let resumes = self.resume != Resume::Never;
        if resumes && unfinished {
            return Ok(None);
        }
        if !resumes || complete.len() < self.saes.len() {
            return Err(Error::SaeExists { name: first.clone(), folder: self.sae_dir(first) });
        }
        let run = Run::open(&self.run)?;
        let trained = self.saes.iter().map(|(name, config)| self.trained(&run, source, name, config));
        Ok(Some(TrainReport { saes: trained.collect::<Result<_>>()?, finished_before: true, rank: None }))
    }

    /// A finished autoencoder of the same settings and the same activations.
    fn trained(&self, run: &Run, source: &Activations, name: &str, config: &TrainConfig) -> Result<TrainedSae> {
        let step: Option<TrainStep> = run.read_step(&step(name))?;
        let Some(done) = step else { return Err(Error::TrainedElsewhere { name: name.into() }) };
        let mut differences = config.differences(&read_config(&self.sae_dir(name).join("train.toml"))?);
        if done.hook != self.hook {
            differences.push(format!("hook = {}, not {:?}", self.hook, done.hook));
        }
        if done.target != self.target {
            let named = |target: &Option<String>| target.clone().unwrap_or_else(|| "none".into());
            differences.push(format!("target = {}, not {}", named(&self.target), named(&done.target)));
        }
        if let Activations::Stored(store) = source
            && let Some(run) = store.other_run(&done.activations)
        {
            differences.push(format!("the activations of {} are others", run.display()));
        }
        if !differences.is_empty() {
            return Err(Error::OtherSettings { name: name.into(), differences });
        }
        let d_sae = formats::load(&run.sae_dir(name))?.weights.d_sae;
        Ok(TrainedSae { name: name.into(), folder: run.sae_dir(name), d_sae, last: done.last })
    }

    /// Trains, and writes weights, configurations and logs.
    fn train(&self, run: &Run, rows: impl Source, start: &Start, control: &mut Control) -> Result<TrainReport> {
        let is_first = self.rendezvous.as_ref().is_none_or(|rendezvous| rendezvous.rank == 0);
        let _lock = is_first.then(|| run.lock()).transpose()?;
        let (first, config) = self.first()?;
        let folder = run.sae_dir(first).join("checkpoint");
        let stream = Stream::new(rows, config.buffer, config.seed)?;
        let configs: Vec<TrainConfig> = self.saes.iter().map(|(_, config)| config.clone()).collect();
        let device = self.device.open()?;
        let ranks: Arc<dyn Ranks> = match &self.rendezvous {
            Some(rendezvous) => ranks::connect(rendezvous, &ranks::settings(self, start)?, &device, control)?,
            None => Arc::new(SingleProcess),
        };
        let base = start.base.as_ref().map(|base| &base.weights);
        let mut session = Session::with_ranks(stream, &configs, base, &device, ranks)?;
        if let Some(path) = &start.checkpoint {
            checkpoint::read(path, &mut session)?;
        }
        let training = Training { request: self, run, session }.steps(&folder, control)?;
        let saved = training.save(start, control);
        // All wait until the first rank has saved.
        let failed = training.session.any(saved.is_err())?;
        let saes = saved?;
        if failed {
            return Err(JobsError::NotSaved.into());
        }
        // The results are saved, so the checkpoints are no longer needed.
        if is_first && folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(sae_core::Error::io("remove", &folder))?;
        }
        let other = self.rendezvous.as_ref().filter(|_| !is_first);
        let rank = other.and_then(|other| Shard::new(other.rank as u32 + 1, other.count as u32));
        Ok(TrainReport { saes, finished_before: false, rank })
    }
}

/// A running training.
struct Training<'a> {
    request: &'a TrainRequest,
    run: &'a Run,
    session: Session<'a>,
}

impl Training<'_> {
    /// Runs the remaining steps, with checkpoints in between.
    fn steps(mut self, folder: &Path, control: &mut Control) -> Result<Self> {
        let steps = self.request.first()?.1.steps;
        let mut staged = control.stage(Stage::Train, steps)?;
        let cancel = staged.cancel();
        let _attended = cancel.attend();
        staged.show(self.session.steps());
        let failed = |source| Error::Step { checkpoint: checkpoint::newest(folder), source };
        while !self.session.is_done() {
            let entries = self.session.step().map_err(failed)?;
            let entry = &entries[0];
            let tokens_per_s = entries.len() as f64 / entries.iter().map(|e| 1.0 / e.tokens_per_s).sum::<f64>();
            staged.show_with(entry.step, Detail::Train { step: entry, tokens_per_s });
            if self.session.is_done() {
                break;
            }
            let stop = self.session.any(cancel.is_cancelled()).map_err(failed)?;
            if !stop && !entry.step.is_multiple_of(self.request.checkpoint_every) {
                continue;
            }
            match checkpoint::write(folder, &self.session) {
                Ok(checkpoint) if stop => return Err(Error::Interrupted { step: entry.step, checkpoint }),
                // The log is only for following the training, and the next attempt may succeed.
                Ok(_) if !self.session.is_first() => {}
                Ok(_) => {
                    if let Err(cause) = self.write_logs() {
                        staged.notice(&Notice::NoLog { step: entry.step, cause: &cause });
                    }
                }
                Err(source @ sae_core::Error::LostRank { .. }) => return Err(failed(source)),
                Err(source) if stop => return Err(Error::InterruptedWithoutCheckpoint { source }),
                // The next attempt may succeed, for example after disk space was freed; until then the old checkpoint is kept.
                Err(cause) => staged.notice(&Notice::NoCheckpoint { step: entry.step, cause: &cause }),
            }
        }
        drop(staged);
        Ok(self)
    }

    /// Writes everything into the run.
    fn save(&self, start: &Start, control: &mut Control) -> Result<Vec<TrainedSae>> {
        let skipped = self.session.skipped().filter(|skipped| skipped.rows() > 0);
        if let Some((rows, first)) = skipped.and_then(|skipped| Some((skipped.rows(), skipped.first().first()?))) {
            control.notice(&Notice::SkippedRows { rows, first });
        }
        let writes = self.session.is_first();
        if writes {
            self.write_logs()?;
        }
        let mut saes = Vec::new();
        for ((name, config), trainer) in self.request.saes.iter().zip(self.session.trainers()) {
            let folder = self.run.sae_dir(name);
            let last = LastStep::from(trainer.log().last().ok_or(Error::NothingToTrain)?);
            let weights = trainer.weights()?;
            if !writes {
                saes.push(TrainedSae { name: name.clone(), folder, d_sae: weights.d_sae, last });
                continue;
            }
            let path = folder.join("train.toml");
            let text = toml::to_string_pretty(config).map_err(sae_core::Error::format(&path))?;
            file::write_bytes(&path, text.as_bytes())?;
            let training = serde_json::to_value(config).map_err(sae_core::Error::format(&path))?;
            let mut origin = Origin { training: training.clone(), ..start.origin.clone() };
            origin.models.iter_mut().zip(trainer.scales()).for_each(|(stream, scale)| stream.scale = *scale);
            let saved = Saved { architecture: config.arch, weights, origin };
            formats::save(Format::SaeLens, &folder, &saved)?;
            let (read, left_out) = self.session.counts();
            let entry = TrainStep {
                config: training,
                hook: self.request.hook.clone(),
                target: self.request.target.clone(),
                last,
                positions: Positions { read, left_out },
                activations: start.activations.clone(),
                arguments: start.arguments.clone(),
                from: self.request.from.as_ref().map(SaeSource::encoded),
                skipped: skipped.map(SkippedRows::new),
            };
            self.run.write_step(&step(name), &entry)?;
            saes.push(TrainedSae { name: name.clone(), folder, d_sae: saved.weights.d_sae, last });
        }
        Ok(saes)
    }

    /// Writes the logs of all autoencoders.
    fn write_logs(&self) -> sae_core::Result<()> {
        let mut logs = self.request.saes.iter().zip(self.session.trainers());
        logs.try_for_each(|((name, _), trainer)| {
            let folder = self.run.sae_dir(name);
            trainer.log().write(&folder.join("log.parquet"))?;
            trainer.log().write_events(&folder.join(EVENTS))
        })
    }
}

impl SkippedRows {
    fn new(skipped: &SkipList) -> Self {
        Self { rows: skipped.rows(), first: skipped.first().to_vec() }
    }
}

/// The step of an autoencoder's training in `run.json`.
fn step(name: &str) -> String {
    format!("train/{name}")
}

/// The origin of a store's activations.
fn origin(store: &Store) -> Result<Origin> {
    let manifest = store.manifest();
    Ok(Origin {
        model: manifest.model.clone(),
        hook: manifest.hook.clone(),
        layer: manifest.layer,
        target: store.target().map(|target| target.manifest().hook.clone()).unwrap_or_default(),
        context_size: store.longest_sample()?,
        models: crosscoder::streams(store),
        ..Origin::default()
    })
}

/// Reads a `train.toml`.
///
/// # Errors
/// The file cannot be read, or is not a configuration.
pub fn read_config(path: &Path) -> Result<TrainConfig> {
    let text = std::fs::read_to_string(path).map_err(sae_core::Error::io("read", path))?;
    toml::from_str(&text).map_err(|source| Error::TrainConfig { source: Box::new(source), path: path.into() })
}
