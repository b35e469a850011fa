//! Labeling: asks a language model behind an OpenAI-compatible endpoint what features fire on, and tests each label on
//! positions that the model has not seen. Each label is saved immediately, so that the same request continues after an
//! interruption.

use crate::control::{Control, Stage, Staged};
use crate::dataset::each_image;
use crate::sae::{FeatureChoice, LoadedSae, SaeChoice, SaePlan};
use crate::{Error, Result};
use harvest::chat::{self, Chat};
use sae_core::analysis::autointerp::{
    CostEstimate, DetectionScore, DetectionTask, PromptPart, ask_for_label, ask_which_fire, label_of, pool,
};
use sae_core::analysis::context::{self, contexts};
use sae_core::analysis::index::{Example, Index};
use sae_core::analysis::labels::{Change, Entry, Labels, Written};
use sae_core::store::load_samples;
use sae_core::store::sample::Sample;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The environment variable that has the key of an endpoint, unless another one is named.
pub const KEY_VARIABLE: &str = "OPENAI_API_KEY";
/// Features whose samples are held at a time.
const TOGETHER: usize = 32;
/// Longest side, in pixels, of an image that is sent.
const SIDE: usize = 256;
/// A label is tested only if there are at least this many positions.
const TRIED: usize = 4;

/// Which features to label, and which model to ask.
#[derive(Clone, Debug)]
pub struct LabelRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// Base address of the endpoint; `/chat/completions` is added.
    pub url: String,
    /// The model to ask; it becomes the author of the labels.
    pub model: String,
    /// The API key, if the endpoint needs one.
    pub key: Option<String>,
    /// The features.
    pub features: FeatureChoice,
    /// Largest number of questions per minute.
    pub per_minute: f64,
    /// What tokens cost, for the estimate.
    pub price: Option<Price>,
}

/// Prices per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Of questions.
    pub question: f64,
    /// Of answers.
    pub answer: f64,
}

impl Price {
    /// The cost of these numbers of tokens.
    pub fn cost(self, tokens_in: u64, tokens_out: u64) -> f64 {
        (self.question * tokens_in as f64 + self.answer * tokens_out as f64) / 1e6
    }
}

/// What labeling would do.
pub type LabelPlan = SaePlan<LabelEstimate>;

/// What labeling will ask, and an estimate of the cost.
#[derive(Clone, Debug, Serialize)]
pub struct LabelEstimate {
    /// The endpoint.
    pub url: String,
    /// The model.
    pub model: String,
    /// Features that have no label.
    pub to_label: Vec<u32>,
    /// Features of the request that have a label.
    pub labeled_already: usize,
    /// Questions, images and tokens.
    pub about: CostEstimate,
    /// The estimated cost.
    pub price: Option<f64>,
    /// The least number of minutes that it takes.
    #[serde(skip)]
    pub minutes: f64,
}

/// What was labeled.
#[derive(Clone, Debug, Serialize)]
pub struct LabelReport {
    /// The result for each feature.
    pub labels: Vec<LabeledFeature>,
    /// Labels that were made.
    pub labeled: usize,
    /// Features of the request that had a label before.
    pub labeled_already: usize,
    /// Mean share of held-out positions that were classified correctly; 0.5 is chance.
    pub accuracy: Option<f64>,
    /// Mean F1 on held-out positions.
    pub f1: Option<f64>,
    /// Tokens of the questions, as the endpoint counts them.
    pub tokens_in: u64,
    /// Tokens of the answers.
    pub tokens_out: u64,
    /// Their cost.
    pub price: Option<f64>,
}

/// The result for one feature.
#[derive(Clone, Debug, Serialize)]
pub struct LabeledFeature {
    /// The feature.
    pub feature: u32,
    /// Its label.
    pub label: Option<String>,
    /// How well the label predicts held-out positions.
    pub verdict: Option<DetectionScore>,
    /// Why it has no label, or no verdict.
    pub without: Option<String>,
}

type Pngs = HashMap<(u32, usize, [u32; 4], bool), Vec<u8>>;

impl LabelRequest {
    /// What labeling would do.
    ///
    /// # Errors
    /// As [`LabelRequest::prepare`].
    pub fn plan(&self) -> Result<LabelPlan> {
        let prepared = self.prepare()?;
        Ok(prepared.sae.plan("label", prepared.estimate))
    }

    /// Reads the examples and prepares the questions, without sending any.
    ///
    /// # Errors
    /// No such run, autoencoder, index or feature.
    pub fn prepare(&self) -> Result<Labeling> {
        let sae = self.sae.load_with_pieces()?;
        let index = Index::open(&sae.run.features(&sae.name)).map_err(|source| Error::NoIndex { source })?;
        let labels = Labels::read(&sae.run)?;
        let known = |feature: &u32| is_labeled(labels.written(&sae.name), *feature);
        let (done, to_label): (Vec<u32>, Vec<u32>) = self.features.choose(&index)?.into_iter().partition(known);
        let mut about = CostEstimate::default();
        for feature in &to_label {
            about.add(&index.examples(*feature)?);
        }
        let estimate = LabelEstimate {
            url: self.url.clone(),
            model: self.model.clone(),
            to_label,
            labeled_already: done.len(),
            about,
            price: self.price.map(|price| price.cost(about.tokens_in, about.tokens_out)),
            minutes: about.calls as f64 / self.per_minute,
        };
        Ok(Labeling { request: self.clone(), sae, index, estimate })
    }
}

/// Labeling that is ready to begin.
pub struct Labeling {
    request: LabelRequest,
    sae: LoadedSae,
    index: Index,
    estimate: LabelEstimate,
}

impl Labeling {
    /// What will be asked, and an estimate of the cost.
    pub fn estimate(&self) -> &LabelEstimate {
        &self.estimate
    }

    /// Asks for labels, tests them and saves them.
    ///
    /// # Errors
    /// An endpoint that does not answer as expected, images that cannot be read; a request to stop. Labels that were made by
    /// then are saved: [`Error::LabelsSaved`].
    pub fn run(&self, control: &mut Control) -> Result<LabelReport> {
        let LabelRequest { url, key, model, per_minute, .. } = &self.request;
        let mut session = Session {
            chat: Chat::new(url, key.clone(), model, *per_minute),
            sae: &self.sae,
            samples: load_samples(&self.sae.run)?,
            index: &self.index,
            author: model,
            tokens: (0, 0),
            labeled: Vec::new(),
        };
        let mut staged = control.stage(Stage::Label, self.estimate.to_label.len() as u64)?;
        for together in self.estimate.to_label.chunks(TOGETHER) {
            let asked = session.label(together, &mut staged);
            let saved = session.labeled.iter().filter(|l| l.label.is_some()).count();
            asked.map_err(|source| Error::LabelsSaved { saved, source: Box::new(source) })?;
        }
        drop(staged);
        Ok(self.report(session))
    }

    fn report(&self, session: Session) -> LabelReport {
        let labels = session.labeled;
        let verdicts: Vec<&DetectionScore> = labels.iter().filter_map(|l| l.verdict.as_ref()).collect();
        let mean = |measure: fn(&DetectionScore) -> f64| {
            (!verdicts.is_empty()).then(|| verdicts.iter().map(|v| measure(v)).sum::<f64>() / verdicts.len() as f64)
        };
        let (accuracy, f1) = (mean(|v| v.accuracy), mean(|v| v.f1));
        let (tokens_in, tokens_out) = session.tokens;
        LabelReport {
            labeled: labels.iter().filter(|l| l.label.is_some()).count(),
            labels,
            labeled_already: self.estimate.labeled_already,
            accuracy,
            f1,
            tokens_in,
            tokens_out,
            price: self.request.price.map(|price| price.cost(tokens_in, tokens_out)),
        }
    }
}

/// Whether a feature has a label. Existing labels are never replaced.
fn is_labeled(written: Option<&Written>, feature: u32) -> bool {
    written.and_then(|written| written.entry(feature)).is_some_and(|entry| !entry.label.is_empty())
}

struct Session<'a> {
    chat: Chat,
    sae: &'a LoadedSae,
    samples: Vec<Sample>,
    index: &'a Index,
    author: &'a str,
    /// Tokens of questions and answers, as the endpoint counted them.
    tokens: (u64, u64),
    labeled: Vec<LabeledFeature>,
}

impl Session<'_> {
    /// Labels features whose samples are read together.
    fn label(&mut self, features: &[u32], staged: &mut Staged) -> Result<()> {
        let LoadedSae { store, saved, device, .. } = self.sae;
        let pool = pool(self.samples.len() as u32);
        let examples = features.iter().map(|feature| Ok(self.index.examples(*feature)?));
        let examples: Vec<Vec<(u8, Example)>> = examples.collect::<Result<_>>()?;
        let shown = examples.iter().flatten().map(|(_, example)| example.sample);
        let numbers: BTreeSet<u32> = shown.chain(pool.iter().copied()).collect();
        let chosen = features.iter().copied().collect();
        let contexts = contexts(store, &saved.weights, device, &numbers, &chosen)?;
        let tasks = features.iter().zip(&examples);
        let tasks = tasks.map(|(feature, examples)| DetectionTask::new(*feature, examples, &pool, &contexts));
        let tasks: Vec<DetectionTask> = tasks.collect();
        let strongest = |feature: u32| self.index.features()[feature as usize].max;
        let questions = features.iter().zip(&tasks).map(|(feature, task)| {
            [
                ask_for_label(*feature, &task.shown, &contexts, strongest(*feature)),
                ask_which_fire("", &task.held_out, &contexts),
            ]
        });
        let questions: Vec<[Vec<PromptPart>; 2]> = questions.collect();
        let pngs = pngs(self.sae, &self.samples, questions.iter().flatten().flatten())?;
        for ((feature, task), [question, _]) in features.iter().zip(&tasks).zip(&questions) {
            let labeled = self.ask(*feature, task, question, &contexts, &pngs)?;
            self.labeled.push(labeled);
            staged.advance(self.labeled.len() as u64)?;
        }
        Ok(())
    }

    fn ask(
        &mut self,
        feature: u32,
        task: &DetectionTask,
        question: &[PromptPart],
        contexts: &BTreeMap<u32, context::Context>,
        pngs: &Pngs,
    ) -> Result<LabeledFeature> {
        let mut labeled = LabeledFeature { feature, label: None, verdict: None, without: None };
        if task.shown.is_empty() {
            labeled.without = Some("the index has no examples of it".into());
            return Ok(labeled);
        }
        let answer = self.send(question, pngs)?;
        let Some(label) = label_of(&answer) else {
            labeled.without = Some(format!("the answer has no text: {answer:.80}"));
            return Ok(labeled);
        };
        if task.held_out.len() < TRIED {
            labeled.without = Some(format!("only {} positions to test it on", task.held_out.len()));
        } else {
            let answer = self.send(&ask_which_fire(&label, &task.held_out, contexts), pngs)?;
            match DetectionScore::from_answer(&answer, &task.held_out) {
                Ok(verdict) => labeled.verdict = Some(verdict),
                Err(cause) => labeled.without = Some(cause),
            }
        }
        self.save(feature, &label, labeled.verdict)?;
        labeled.label = Some(label);
        Ok(labeled)
    }

    fn send(&mut self, question: &[PromptPart], pngs: &Pngs) -> Result<String> {
        let parts = question.iter().map(|part| match part {
            PromptPart::Text(text) => Ok(chat::MessagePart::Text(text.clone())),
            PromptPart::Image(crop) => {
                let png = pngs.get(&crop.key());
                let missing = || Error::NoImage { sample: crop.sample, image: crop.image };
                Ok(chat::MessagePart::Png(png.ok_or_else(missing)?.clone()))
            }
        });
        let answer = self.chat.ask(&parts.collect::<Result<Vec<_>>>()?)?;
        self.tokens.0 += answer.tokens_in;
        self.tokens.1 += answer.tokens_out;
        Ok(answer.text)
    }

    /// Saves a label, unless somebody has written one in the meantime.
    fn save(&self, feature: u32, label: &str, verdict: Option<DetectionScore>) -> Result<()> {
        let (run, name) = (&self.sae.run, &self.sae.name);
        let labels = Labels::read(run)?;
        if is_labeled(labels.written(name), feature) {
            return Ok(());
        }
        let before = labels.written(name).and_then(|written| written.entry(feature)).cloned();
        let before = before.unwrap_or_else(|| Entry::empty(feature));
        let score = verdict.map(|verdict| verdict.accuracy);
        let after = Entry { label: label.into(), author: self.author.into(), score, ..before.clone() };
        Labels::save(run, name, &[Change::Entry { before, after }], &labels)?;
        Ok(())
    }
}

/// The images of the questions, as PNG.
fn pngs<'a>(sae: &LoadedSae, samples: &[Sample], parts: impl Iterator<Item = &'a PromptPart>) -> Result<Pngs> {
    let mut crops: BTreeMap<(u32, usize), Vec<_>> = BTreeMap::new();
    for part in parts {
        if let PromptPart::Image(crop) = part {
            crops.entry((crop.sample, crop.image)).or_default().push(*crop);
        }
    }
    let mut pngs = HashMap::new();
    let wanted = crops.keys().map(|(sample, _)| *sample).collect();
    let shown = each_image(&sae.run, samples, &wanted, |sample, image, picture| {
        for crop in crops.get(&(sample, image)).into_iter().flatten() {
            let mut shown = picture.clone();
            if crop.framed {
                let longest = shown.size().into_iter().max().unwrap_or_default();
                shown.frame(crop.patch, 1 + longest / 200);
            }
            let png = shown.around(crop.patch).fitted(SIDE, true).png();
            pngs.insert(crop.key(), png.map_err(|error| Error::Encode { cause: error.to_string() })?);
        }
        Ok(())
    });
    shown.map_err(|source| Error::NoPictures { source: Box::new(source) })?;
    Ok(pngs)
}
