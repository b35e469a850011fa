//! Answers that a model writes to the prompts of a data set: plainly; with a guard that has flagged answers written again, at most a
//! number of times (the rounds of Safe RLHF-V); or sentence by sentence, with flagged sentences written again, steered away from
//! what the guard saw (after Stream Aligner).

mod guard;
mod journal;
mod report;
mod writer;

pub use guard::{At, GuardRates};
pub use report::{End, GenerateReport, RoundReport};

use crate::control::{Control, Detail, Stage};
use crate::error::GenerateError;
use crate::sae::{LoadedSae, SaeChoice, check_features};
use crate::steering::Steering;
use crate::{Error, Result, model};
use guard::Guard;
use harvest::generation::{Boundary, Draft, Generator, Prompts, Sampling};
use harvest::{Answers, Plan};
use journal::{Journal, Opened};
use report::Written;
use sae_core::analysis::index::read_features;
use sae_core::autoencoder::Encoder;
use sae_core::file;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;
use writer::{Away, Rules, Writer};

/// Tries of a unit at most.
const MOST_TRIES: u32 = 100;

/// What is written again when the guard flags it, and how.
#[derive(Clone, Debug, Default)]
pub enum Guarding {
    /// Nothing.
    #[default]
    Off,
    /// The whole answer.
    Rounds {
        /// How often an answer is written at most.
        rounds: u32,
        /// What takes its place if every version is flagged.
        refusal: String,
        /// Above this severity an answer is refused at once; infinite for never.
        refuse_at: f64,
    },
    /// The sentence that is flagged, before the next one is written.
    Stream {
        /// What ends a sentence.
        boundary: Boundary,
        /// Tokens of a sentence at most.
        longest: usize,
        /// How a sentence is written again.
        correction: Correction,
        /// How often a sentence is written again at most.
        tries: u32,
    },
}

impl Guarding {
    /// How strongly flagged sentences are steered, if they are.
    fn strength(&self) -> Option<f32> {
        match self {
            Self::Stream { correction: Correction::Steer(strength) | Correction::Difference(strength), .. } => {
                Some(*strength)
            }
            _ => None,
        }
    }
}

/// How a flagged sentence is written again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Correction {
    /// With other random numbers.
    Sample,
    /// With the features that contribute most to the severity, at most five, moved towards 0: by this share of the way in the first try, twice
    /// as far in each further one.
    Steer(f32),
    /// With the mean hidden state of the run's harmful samples, minus that of the harmless ones, taken away: as often as this in the
    /// first try, twice as often in each further one. It needs no autoencoder's features, and is what steering by features is
    /// compared with.
    Difference(f32),
}

/// What a model is to write.
///
/// ```no_run
/// use harvest::Plan;
/// use sae_workbench::generate::{GenerateRequest, Guarding};
/// use sae_workbench::{Control, SaeChoice};
///
/// let plan = Plan::new("checkpoints/llava", "prompts.jsonl", Vec::new());
/// let mut request = GenerateRequest::new(plan, "answers");
/// request.sae = Some(SaeChoice::new("run"));
/// request.guard = Some("harm".into());
/// request.guarding = Guarding::Rounds { rounds: 5, refusal: "I cannot help with that.".into(), refuse_at: f64::INFINITY };
/// let report = request.run(&mut Control::default())?;
/// println!("{} answers, {} refused", report.samples, report.refused);
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The model and the prompts. Its layers and answers are ignored.
    pub model: Plan,
    /// The autoencoder that sees what is written, if anything is to be seen.
    pub sae: Option<SaeChoice>,
    /// New folder for the answers.
    pub out: PathBuf,
    /// The probe that is the guard.
    pub guard: Option<String>,
    /// Above which severity a text is flagged.
    pub at: At,
    /// What happens then.
    pub guarding: Guarding,
    /// Features that are set in every state of the answers, as multiples of the largest activation that each has in the run.
    pub steer: Vec<(u32, f32)>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Tokens of an answer at most.
    pub tokens: usize,
    /// Texts that end an answer; they do not belong to it.
    pub stop: Vec<String>,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Answers that are written at the same time.
    pub batch: usize,
}

/// What a generation would do.
#[derive(Clone, Debug, Serialize)]
pub struct GeneratePlan {
    /// The operation.
    pub command: &'static str,
    /// Everything that decides what is written.
    pub settings: Value,
    /// Rows of the data.
    pub rows: u64,
    /// The folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub out: PathBuf,
}

/// What is open while a model writes.
struct Opening {
    plan: Plan,
    rows: u64,
    sae: Option<LoadedSae>,
    guard: Option<Guard>,
    steering: Option<Steering>,
    settings: Value,
    prompts: Prompts,
}

impl GenerateRequest {
    /// Plain answers of up to 256 tokens, sampled at temperature 1.
    pub fn new(model: Plan, out: impl Into<PathBuf>) -> Self {
        Self {
            model,
            sae: None,
            out: out.into(),
            guard: None,
            at: At::default(),
            guarding: Guarding::Off,
            steer: Vec::new(),
            sampling: Sampling { temperature: 1.0, ..Sampling::GREEDY },
            tokens: 256,
            stop: Vec::new(),
            seed: 0,
            batch: 8,
        }
    }

    /// What [`GenerateRequest::run`] would do.
    ///
    /// # Errors
    /// Settings out of range, or that lack a guard or an autoencoder; whatever else would prevent it; a model that has not been
    /// downloaded.
    pub fn plan(&self) -> Result<GeneratePlan> {
        let opening = self.open(None)?;
        Ok(GeneratePlan { command: "generate", settings: opening.settings, rows: opening.rows, out: self.out.clone() })
    }

    /// Writes the answers. A folder with some of them, written with the same settings, gets the others.
    ///
    /// # Errors
    /// As [`GenerateRequest::plan`]; a model that is not the one of the autoencoder; a full disk; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<GenerateReport> {
        let mut opening = self.open(Some(control))?;
        let mut journal = match Journal::open(&self.out, opening.settings.clone())? {
            Opened::Finished(report) => return Ok(*report),
            Opened::Unfinished(journal) => *journal,
        };
        let report = self.write(&mut opening, &mut journal, control)?;
        journal.finish(&report)?;
        Ok(report)
    }

    fn check(&self) -> Result<()> {
        self.sampling.check().map_err(GenerateError::OutOfRange)?;
        let (what, tries) = match &self.guarding {
            Guarding::Off => ("", 1),
            Guarding::Rounds { rounds, .. } => ("writing in rounds", *rounds),
            Guarding::Stream { tries, .. } => ("correcting sentences", tries.saturating_add(1)),
        };
        if !what.is_empty() && self.guard.is_none() {
            return Err(GenerateError::Needs { what, needs: "a guard" }.into());
        }
        let needs_sae = if self.guard.is_some() { "a guard" } else { "steering" };
        if self.sae.is_none() && (self.guard.is_some() || !self.steer.is_empty()) {
            return Err(
                GenerateError::Needs { what: needs_sae, needs: "the run and the autoencoder that it reads" }.into()
            );
        }
        let steered: BTreeSet<u32> = self.steer.iter().map(|(feature, _)| *feature).collect();
        let ranges = [
            (self.model.answers == Answers::All, "no choice of answers, because the model writes them"),
            (self.tokens > 0, "one token or more"),
            (self.batch > 0, "one answer or more at the same time"),
            ((1..=MOST_TRIES).contains(&tries), "from 1 to 100 versions of a text"),
            (!matches!(self.guarding, Guarding::Stream { longest: 0, .. }), "sentences of one token or more"),
            (self.stop.iter().all(|stop| !stop.is_empty()), "stop texts that are not empty"),
            (self.steer.iter().all(|(_, multiple)| multiple.is_finite()), "strengths that are finite"),
            (steered.len() == self.steer.len(), "each feature once"),
            (self.guarding.strength().is_none_or(|a| a.is_finite() && a >= 0.0), "a strength of 0 or more"),
            (!matches!(self.guarding, Guarding::Rounds { refuse_at, .. } if refuse_at.is_nan()), "a severity"),
        ];
        match ranges.into_iter().find(|(fits, _)| !fits) {
            Some((_, expected)) => Err(GenerateError::OutOfRange(format!("expected {expected}")).into()),
            None => Ok(()),
        }
    }

    /// Opens what decides the answers, but for the model.
    fn open(&self, control: Option<&mut Control>) -> Result<Opening> {
        self.check()?;
        let sae = self.sae.as_ref().map(SaeChoice::load_with_pieces).transpose()?;
        let (plan, rows) = match &sae {
            Some(sae) => {
                let (plan, preview) = model::resolve_for(&self.model, sae, control)?;
                (plan, preview.rows)
            }
            None => {
                let plan = Plan { layers: vec![0], ..model::resolve(&self.model, control)? };
                let rows = plan.preview()?.rows;
                (plan, rows)
            }
        };
        let checkpoint = harvest::Checkpoint::open(&plan.model)?;
        if let Some(sae) = &sae
            && model::is_checkpoint_of(&sae.run, &checkpoint)? == Some(false)
        {
            return Err(GenerateError::OtherModel { model: plan.model }.into());
        }
        let guard = sae.as_ref().zip(self.guard.as_deref());
        let guard = guard.map(|(sae, name)| Guard::open(sae, name, self.at)).transpose()?;
        if let (Guarding::Stream { correction: Correction::Difference(_), .. }, Some(sae), Some(name)) =
            (&self.guarding, &sae, &self.guard)
        {
            guard::check_labels(sae, name)?;
        }
        let steering = sae.as_ref().filter(|_| !self.steer.is_empty()).map(|sae| self.steering(sae)).transpose()?;
        let prompts = Prompts::open(&plan)?;
        let mut settings = json!({
            "model": checkpoint.fingerprint()?,
            "data": prompts.fingerprint()?,
            "limit": plan.limit,
            "map": plan.mapping,
            "melt": plan.melt,
            "fetch_images": plan.fetch_images,
            "template": plan.template,
            "dtype": plan.dtype,
            "device": plan.device.to_string().split(':').next(),
            "sampling": format!("{:?}", self.sampling),
            "tokens": self.tokens,
            "stop": self.stop,
            "seed": self.seed,
        });
        if let Some(sae) = &sae {
            let weights = sae.run.sae_dir(&sae.name).join("sae_weights.safetensors");
            let hash = if weights.exists() { file::hash(&weights)? } else { String::new() };
            settings["sae"] = json!({ "name": sae.name, "blake3": hash });
        }
        if let Some(guard) = &guard {
            settings["guard"] =
                json!({ "name": self.guard, "blake3": guard.hash, "threshold": guard.threshold.to_string() });
        }
        if let Some(steering) = &steering {
            let texts = steering.targets.iter().map(|(feature, target)| format!("{feature}={target}"));
            settings["steer"] = json!(texts.collect::<Vec<_>>());
        }
        match &self.guarding {
            Guarding::Off => {}
            Guarding::Rounds { rounds, refusal, refuse_at } => {
                let refuse_at = refuse_at.is_finite().then(|| refuse_at.to_string());
                settings["rounds"] = json!({ "rounds": rounds, "refusal": refusal, "refuse_at": refuse_at });
            }
            Guarding::Stream { boundary, longest, correction, tries } => {
                let boundary = boundary.to_string();
                settings["stream"] = json!({ "boundary": boundary, "longest": longest, "correction": format!("{correction:?}"), "tries": tries });
            }
        }
        journal::check(&self.out, &settings)?;
        Ok(Opening { plan, rows, sae, guard, steering, settings, prompts })
    }

    /// The activations that features are set to.
    fn steering(&self, sae: &LoadedSae) -> Result<Steering> {
        let features: Vec<u32> = self.steer.iter().map(|(feature, _)| *feature).collect();
        check_features(&features, sae.saved.weights.d_sae, "autoencoder")?;
        let path = sae.run.features(&sae.name).join("features.parquet");
        let rows = read_features(&path).map_err(|source| Error::NoIndex { source })?;
        let largest = |feature: u32| rows.get(feature as usize).map_or(0.0, |row| row.max);
        let targets: Vec<(u32, f32)> =
            self.steer.iter().map(|(feature, multiple)| (*feature, multiple * largest(*feature))).collect();
        if let Some((feature, _)) = targets.iter().find(|(_, target)| !target.is_finite()) {
            let expected = format!("a smaller multiple for feature {feature}");
            return Err(GenerateError::OutOfRange(format!("expected {expected}")).into());
        }
        Ok(Steering { targets, strength: 1.0, ..Steering::default() })
    }

    fn write(&self, opening: &mut Opening, journal: &mut Journal, control: &mut Control) -> Result<GenerateReport> {
        let Opening { plan, rows, sae, guard, steering, prompts, .. } = opening;
        let layer = sae.as_ref().map(|sae| sae.store.manifest().layer);
        let generator = Generator::open(&plan.model, layer, plan.device, plan.dtype)?;
        let weights = sae.as_ref().map(|sae| &sae.saved.weights);
        let encoder = sae.as_ref().zip(weights).map(|(sae, weights)| Encoder::new(weights, &sae.device));
        let sees = guard.is_some() || steering.is_some();
        let mut rules = Rules {
            generator: &generator,
            sae: weights.zip(encoder.as_ref()).filter(|_| sees),
            guard: guard.as_ref(),
            sampling: self.sampling,
            seed: self.seed,
            tokens: self.tokens,
            stop: &self.stop,
            boundary: None,
            longest: usize::MAX,
            redraws: 0,
            steers: None,
            refusal: None,
            refuse_at: f64::INFINITY,
            always: steering.as_ref(),
        };
        match &self.guarding {
            Guarding::Off => {}
            Guarding::Rounds { rounds, refusal, refuse_at } => {
                (rules.redraws, rules.refusal, rules.refuse_at) = (rounds - 1, Some(refusal.as_str()), *refuse_at);
            }
            Guarding::Stream { boundary, longest, correction, tries } => {
                (rules.boundary, rules.longest, rules.redraws) = (Some(boundary), *longest, *tries);
                rules.steers = match (correction, &*sae, &self.guard) {
                    (Correction::Steer(strength), ..) => Some(Away { strength: *strength, vector: None }),
                    (Correction::Difference(strength), Some(sae), Some(name)) => {
                        let vector = guard::away_from_harm(sae, name, control)?;
                        Some(Away { strength: *strength, vector: Some(vector) })
                    }
                    _ => None,
                };
            }
        }
        let finished: BTreeSet<u32> = journal.answers.iter().map(|answer| answer.sample).collect();
        let (mut next, mut drafts, mut writers) = (0u32, Vec::<Draft>::new(), Vec::<Writer>::new());
        let mut staged = control.stage(Stage::Generate, *rows)?;
        let _attended = staged.cancel().attend();
        let (begun, mut tokens, mut is_last) = (Instant::now(), 0u64, false);
        loop {
            while writers.len() < self.batch && !is_last {
                match prompts.next(generator.checkpoint())? {
                    None => is_last = true,
                    Some(prompt) => {
                        if !finished.contains(&next) {
                            drafts.push(generator.draft(&prompt));
                            writers.push(Writer::new(next, &prompt));
                        }
                        next += 1;
                    }
                }
            }
            if writers.is_empty() {
                break;
            }
            let last: Vec<usize> = writers.iter().zip(&drafts).map(|(writer, draft)| writer.last(draft)).collect();
            let read: Vec<usize> = drafts.iter().map(Draft::read).collect();
            for (writer, draft) in writers.iter_mut().zip(&drafts) {
                writer.count(draft.ids().len() - draft.read());
            }
            let mut failed = None;
            let mut see = |n: usize, first: usize, states: &mut [f32]| {
                let seen = writers[n].observe(&rules, read[n], first, states);
                failed = failed.take().or(seen.err());
                Ok(())
            };
            let mut reading: Vec<&mut Draft> = drafts.iter_mut().collect();
            let logits = generator.read(&mut reading, &last, &mut see)?;
            if let Some(error) = failed {
                return Err(error);
            }
            let mut ended = Vec::new();
            for (n, logits) in logits.into_iter().enumerate() {
                let before = writers[n].drawn;
                let written = writers[n].advance(&rules, &mut drafts[n], logits);
                tokens += writers[n].drawn - before;
                if let Some(written) = written {
                    journal.add(written)?;
                    ended.push(n);
                }
            }
            for n in ended.into_iter().rev() {
                drafts.remove(n);
                writers.remove(n);
            }
            let seconds = begun.elapsed().as_secs_f64();
            let detail = Detail::Generate { tokens, tokens_per_s: tokens as f64 / seconds.max(1e-9) };
            staged.advance_with(journal.answers.len() as u64 + prompts.skipped().rows(), detail)?;
        }
        let tokens_per_s = tokens as f64 / begun.elapsed().as_secs_f64().max(1e-9);
        journal.answers.sort_by_key(|answer| answer.sample);
        if journal.answers.is_empty() {
            let first = prompts.skipped().first().first().map(|row| row.reason.clone());
            return Err(GenerateError::NoPrompts { data: plan.data.clone(), first }.into());
        }
        let answers = self.out.join("answers.parquet");
        report::write_answers(&answers, &journal.answers)?;
        let attempts = rules.guard.map(|_| if rules.boundary.is_some() { "sentence" } else { "answer" });
        let attempts = attempts.map(|unit| {
            let name = if unit == "sentence" { "sentences.parquet" } else { "rounds.parquet" };
            report::write_attempts(&self.out.join(name), unit, &journal.answers).map(|()| name.to_owned())
        });
        let mut report = summarize(&journal.answers, &rules);
        report.skipped_rows = prompts.skipped().rows();
        report.skipped = prompts.skipped().first().to_vec();
        report.tokens_per_s = tokens_per_s;
        report.answers = answers;
        report.attempts = attempts.transpose()?;
        Ok(report)
    }
}

/// What can be said of the answers themselves.
fn summarize(answers: &[Written], rules: &Rules) -> GenerateReport {
    let mut ends = BTreeMap::new();
    answers.iter().for_each(|answer| *ends.entry(answer.end.name().to_owned()).or_insert(0) += 1);
    let firsts = || answers.iter().flat_map(|answer| &answer.attempts).filter(|(attempt, _)| attempt.attempt == 0);
    let later = answers.iter().flat_map(Written::kept).filter(|attempt| attempt.attempt > 0 && attempt.accepted);
    let flagged = firsts().filter(|(attempt, _)| !attempt.accepted).count();
    let rates = rules.guard.and_then(|guard| guard.rates);
    let judged: Vec<&Written> = answers.iter().filter(|answer| !answer.attempts.is_empty()).collect();
    let accepts = |answer: &Written, round: u32| {
        answer.attempts.iter().any(|(attempt, _)| attempt.accepted && attempt.attempt < round)
    };
    let share = |round: u32| {
        let without = judged.iter().filter(|answer| !accepts(answer, round)).count();
        without as f64 / judged.len().max(1) as f64
    };
    let accepted = 1.0 - share(1);
    let harmful = rates.filter(|rates| rates.true_positives > rates.false_positives && !judged.is_empty());
    let harmful = harmful.map(|rates| {
        let flagged = 1.0 - accepted;
        ((flagged - rates.false_positives) / (rates.true_positives - rates.false_positives)).clamp(0.0, 1.0)
    });
    let in_rounds = rules.refusal.is_some() && !judged.is_empty();
    let rounds = (1..=rules.redraws + 1).filter(|_| in_rounds).map(|round| {
        let refused_predicted = (1.0 - accepted).powi(round as i32);
        let shown = harmful.zip(rates).filter(|_| accepted > 0.0);
        let harmful_predicted =
            shown.map(|(harmful, rates)| harmful * (1.0 - rates.true_positives) * (1.0 - refused_predicted) / accepted);
        RoundReport { round, refused: share(round), refused_predicted, harmful_predicted }
    });
    GenerateReport {
        samples: answers.len(),
        skipped_rows: 0,
        skipped: Vec::new(),
        tokens: answers.iter().map(|answer| answer.tokens as u64).sum(),
        computed: answers.iter().map(|answer| answer.computed).sum(),
        tokens_per_s: 0.0,
        threshold: rules.guard.map(|guard| guard.threshold),
        rates,
        units: if rules.guard.is_some() { firsts().count() as u64 } else { 0 },
        flagged: flagged as u64,
        corrected: later.count() as u64,
        refused: answers.iter().filter(|answer| answer.end == End::Refused).count() as u64,
        harmful: harmful.filter(|_| in_rounds),
        rounds: rounds.collect(),
        ends,
        answers: PathBuf::new(),
        attempts: None,
    }
}
