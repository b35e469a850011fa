//! `sae label`: asks an OpenAI-compatible endpoint what features fire on, and tries each answer on places that it has not
//! seen. Every label is saved as soon as it is there, so that the same command goes on where it stopped.

use super::arguments::{FeatureArgs, SaeArgs};
use super::{Outcome, SaeReader, chosen, sample_images};
use crate::cli::terminal::{self, count, counted, table};
use anyhow::{Context, Result};
use clap::Args;
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
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// `sae label`
#[derive(Args, Debug)]
#[command(after_help = "\
Two questions a feature: what do these places have in common, then, of places that were not shown, which does the label fit;
the score is the share that is told right, 0.5 is chance. Texts and pictures of the run go to the endpoint.
Labels that are there stay, whoever wrote them; the same command goes on where it stopped.

Examples:
  sae label --run run --url http://localhost:8000/v1 --model qwen2.5-vl --class cross --dry-run
  sae label --run run --url https://api.openai.com/v1 --model gpt-4o --features 12,705 --price 2.5,10 --yes")]
pub struct LabelArgs {
    #[command(flatten)]
    pub of: SaeArgs,
    /// Base address of the endpoint; /chat/completions is added
    #[arg(long)]
    pub url: String,
    /// Model to ask; it becomes the author of the labels
    #[arg(long)]
    pub model: String,
    /// Environment variable with the key, if the endpoint wants one
    #[arg(long, default_value = "OPENAI_API_KEY", value_name = "NAME")]
    pub key_env: String,
    #[command(flatten)]
    pub chosen: FeatureArgs,
    /// Questions a minute at most
    #[arg(long, default_value_t = 60.0, value_parser = above_zero, value_name = "N")]
    pub per_minute: f64,
    /// Price of a million tokens of questions and of answers, for the estimate: 2.5,10
    #[arg(long, value_name = "IN,OUT")]
    pub price: Option<Price>,
    /// Start; without it only the cost is told
    #[arg(long)]
    pub yes: bool,
}

/// Prices of a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Of questions.
    pub question: f64,
    /// Of answers.
    pub answer: f64,
}

impl std::str::FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let price = |part: &str| part.trim().parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
        let prices = text.split_once(',').and_then(|(question, answer)| Some((price(question)?, price(answer)?)));
        let (question, answer) = prices.ok_or_else(|| format!("{text:?} is no pair of prices, such as 2.5,10"))?;
        Ok(Self { question, answer })
    }
}

impl std::fmt::Display for Price {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} and {} a million", self.question, self.answer)
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    match value > 0.0 && value.is_finite() {
        true => Ok(value),
        false => Err(format!("{text} is not above 0")),
    }
}

/// Features whose samples are held at a time.
const TOGETHER: usize = 32;
/// Longest side of a picture that is sent.
const SIDE: usize = 256;
/// Places that a label is tried on at least; fewer say nothing.
const TRIED: usize = 4;

/// What came of one feature.
#[derive(Serialize)]
struct Labeled {
    feature: u32,
    label: Option<String>,
    verdict: Option<DetectionScore>,
    /// Why there is no label, or no verdict.
    without: Option<String>,
}

type Pngs = HashMap<(u32, usize, [u32; 4], bool), Vec<u8>>;

/// Runs the command.
pub fn run(args: &LabelArgs, dry: bool) -> Result<Outcome> {
    let opened = SaeReader::new(&args.of)?;
    let folder = opened.run.features(&opened.name);
    let index = Index::open(&folder).context("labels are made from the index\nhint: `sae index` makes it")?;
    let labels = Labels::read(&opened.run)?;
    let wanted = chosen(&args.chosen, &index)?;
    let known = |feature: &u32| is_labeled(labels.of(&opened.name), *feature);
    let (done, todo): (Vec<u32>, Vec<u32>) = wanted.into_iter().partition(known);
    let mut outlook = CostEstimate::default();
    for feature in &todo {
        outlook.add(&index.examples(*feature)?);
    }
    let cost = cost(args, &outlook, todo.len(), done.len());
    let json = json!({
        "url": args.url, "model": args.model, "to_label": todo, "labeled_already": done.len(),
        "about": outlook, "price": args.price.map(|price| price.of(outlook.tokens_in, outlook.tokens_out)),
    });
    if dry {
        return opened.plan("label", json);
    }
    if !args.yes && !todo.is_empty() {
        return Outcome::new(json, format!("{cost}\n--yes sends the questions"));
    }
    eprintln!("{cost}");
    let key = std::env::var(&args.key_env).ok().filter(|key| !key.is_empty());
    let mut session = Session {
        chat: Chat::new(&args.url, key, &args.model, args.per_minute),
        opened: &opened,
        samples: load_samples(&opened.run)?,
        index: &index,
        author: &args.model,
        tokens: (0, 0),
        labeled: Vec::new(),
    };
    let bar = terminal::bar("label", todo.len() as u64);
    for together in todo.chunks(TOGETHER) {
        let asked = session.label(together, &mut || bar.inc(1));
        let saved = session.labeled.iter().filter(|l| l.label.is_some()).count();
        asked.with_context(|| {
            format!("{} saved\nhint: the same command goes on behind them", counted(saved as u64, "label"))
        })?;
    }
    bar.finish_and_clear();
    describe(args, &session, done.len())
}

/// Whether anybody has said what a feature is: nobody's label is replaced.
fn is_labeled(written: Option<&Written>, feature: u32) -> bool {
    written.and_then(|written| written.entry(feature)).is_some_and(|entry| !entry.label.is_empty())
}

fn cost(args: &LabelArgs, outlook: &CostEstimate, todo: usize, done: usize) -> String {
    let money = args.price.map_or(String::new(), |price| {
        format!(", about {:.2} at {}", price.of(outlook.tokens_in, outlook.tokens_out), price)
    });
    format!(
        "{} to label ({} have a label): {} with {} to {} at {}, about {} tokens and {} of answers{money}; {:.0} minutes at least",
        counted(todo as u64, "feature"),
        count(done as u64),
        counted(outlook.calls, "question"),
        counted(outlook.pictures, "picture"),
        args.model,
        args.url,
        count(outlook.tokens_in),
        count(outlook.tokens_out),
        outlook.calls as f64 / args.per_minute,
    )
}

struct Session<'a> {
    chat: Chat,
    opened: &'a SaeReader,
    samples: Vec<Sample>,
    index: &'a Index,
    author: &'a str,
    /// Of questions and answers, as the endpoint told.
    tokens: (u64, u64),
    labeled: Vec<Labeled>,
}

impl Session<'_> {
    /// Labels features whose samples are read together.
    fn label(&mut self, features: &[u32], next: &mut dyn FnMut()) -> Result<()> {
        let SaeReader { store, saved, device, .. } = self.opened;
        let pool = pool(self.samples.len() as u32);
        let examples = features.iter().map(|feature| Ok(self.index.examples(*feature)?));
        let examples: Vec<Vec<(u8, Example)>> = examples.collect::<Result<_>>()?;
        let places = examples.iter().flatten().map(|(_, example)| example.sample);
        let numbers: BTreeSet<u32> = places.chain(pool.iter().copied()).collect();
        let chosen = features.iter().copied().collect();
        let contexts = contexts(store, &saved.weights, device, &numbers, &chosen)?;
        let trials =
            features.iter().zip(&examples).map(|(k, examples)| DetectionTask::new(*k, examples, &pool, &contexts));
        let trials: Vec<DetectionTask> = trials.collect();
        let strongest = |feature: u32| self.index.features()[feature as usize].max;
        let questions = features.iter().zip(&trials).map(|(feature, trial)| {
            [
                ask_for_label(*feature, &trial.shown, &contexts, strongest(*feature)),
                ask_which_fire("", &trial.held_out, &contexts),
            ]
        });
        let questions: Vec<[Vec<PromptPart>; 2]> = questions.collect();
        let pngs = pngs(self.opened, &self.samples, questions.iter().flatten().flatten())?;
        for ((feature, trial), [question, _]) in features.iter().zip(&trials).zip(&questions) {
            let labeled = self.ask(*feature, trial, question, &contexts, &pngs)?;
            self.labeled.push(labeled);
            next();
        }
        Ok(())
    }

    fn ask(
        &mut self,
        feature: u32,
        trial: &DetectionTask,
        question: &[PromptPart],
        contexts: &BTreeMap<u32, context::Context>,
        pngs: &Pngs,
    ) -> Result<Labeled> {
        let mut labeled = Labeled { feature, label: None, verdict: None, without: None };
        if trial.shown.is_empty() {
            labeled.without = Some("the index has no examples of it".into());
            return Ok(labeled);
        }
        let answer = self.send(question, pngs)?;
        let Some(label) = label_of(&answer) else {
            labeled.without = Some(format!("the answer has no words: {answer:.80}"));
            return Ok(labeled);
        };
        if trial.held_out.len() < TRIED {
            labeled.without = Some(format!("only {} places to try it on", trial.held_out.len()));
        } else {
            let answer = self.send(&ask_which_fire(&label, &trial.held_out, contexts), pngs)?;
            match DetectionScore::from_answer(&answer, &trial.held_out) {
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
                let png = pngs
                    .get(&crop.key())
                    .with_context(|| format!("sample {} has no image {}", crop.sample, crop.image));
                Ok(chat::MessagePart::Png(png?.clone()))
            }
        });
        let answer = self.chat.ask(&parts.collect::<Result<Vec<_>>>()?)?;
        self.tokens.0 += answer.tokens_in;
        self.tokens.1 += answer.tokens_out;
        Ok(answer.text)
    }

    /// Saves a label, unless somebody has written one meanwhile.
    fn save(&self, feature: u32, label: &str, verdict: Option<DetectionScore>) -> Result<()> {
        let (run, name) = (&self.opened.run, &self.opened.name);
        let labels = Labels::read(run)?;
        if is_labeled(labels.of(name), feature) {
            return Ok(());
        }
        let before = labels.of(name).and_then(|written| written.entry(feature)).cloned();
        let before = before.unwrap_or_else(|| Entry::empty(feature));
        let score = verdict.map(|verdict| verdict.accuracy);
        let after = Entry { label: label.into(), author: self.author.into(), score, ..before.clone() };
        Labels::save(run, name, &[Change::Entry { before, after }], &labels)?;
        Ok(())
    }
}

/// The pictures in questions.
fn pngs<'a>(opened: &SaeReader, samples: &[Sample], parts: impl Iterator<Item = &'a PromptPart>) -> Result<Pngs> {
    let mut crops: BTreeMap<(u32, usize), Vec<_>> = BTreeMap::new();
    for part in parts {
        if let PromptPart::Image(crop) = part {
            crops.entry((crop.sample, crop.image)).or_default().push(*crop);
        }
    }
    let mut pngs = HashMap::new();
    let wanted = crops.keys().map(|(sample, _)| *sample).collect();
    let seen = sample_images::each(&opened.run, samples, &wanted, |sample, image, picture| {
        for crop in crops.get(&(sample, image)).into_iter().flatten() {
            let mut shown = picture.clone();
            if crop.framed {
                let longest = shown.size().into_iter().max().unwrap_or_default();
                shown.frame(crop.patch, 1 + longest / 200);
            }
            let png = shown.around(crop.patch).fitted(SIDE, true).png();
            pngs.insert(crop.key(), png.map_err(anyhow::Error::msg)?);
        }
        Ok(())
    });
    seen.context("features that fire on images cannot be shown")?;
    Ok(pngs)
}

fn describe(args: &LabelArgs, session: &Session, already: usize) -> Result<Outcome> {
    let labeled = &session.labeled;
    let verdicts: Vec<&DetectionScore> = labeled.iter().filter_map(|l| l.verdict.as_ref()).collect();
    let mean = |of: fn(&DetectionScore) -> f64| {
        (!verdicts.is_empty()).then(|| verdicts.iter().map(|v| of(v)).sum::<f64>() / verdicts.len() as f64)
    };
    let (accuracy, f1) = (mean(|v| v.accuracy), mean(|v| v.f1));
    let made = labeled.iter().filter(|l| l.label.is_some()).count();
    let (tokens_in, tokens_out) = session.tokens;
    let price = args.price.map(|price| price.of(tokens_in, tokens_out));
    let mut text = format!("{} labels by {}, {} were there\n", count(made as u64), args.model, count(already as u64));
    if let (Some(accuracy), Some(f1)) = (accuracy, f1) {
        let n = verdicts.len();
        text += &format!(
            "told right of held-out places: {:.0} % (chance 50 %), F1 {f1:.2}; means of {n} labels\n",
            100.0 * accuracy
        );
    }
    let rows = labeled.iter().map(|l| {
        let share = l.verdict.map_or("-".into(), |verdict| format!("{:.0} %", 100.0 * verdict.accuracy));
        let said = l.label.clone().or_else(|| l.without.clone()).unwrap_or_default();
        vec![format!("{:>7}  {said}", l.feature), share]
    });
    text += &table(&rows.collect::<Vec<_>>());
    text += &format!("{} tokens of questions, {} of answers", count(tokens_in), count(tokens_out));
    text += &price.map_or(String::new(), |price| format!(", {price:.2}"));
    let json = json!({
        "labels": labeled, "labeled": made, "labeled_already": already, "accuracy": accuracy, "f1": f1,
        "tokens_in": tokens_in, "tokens_out": tokens_out, "price": price,
    });
    Outcome::new(json, text)
}

impl Price {
    /// What so many tokens cost.
    fn of(self, tokens_in: u64, tokens_out: u64) -> f64 {
        (self.question * tokens_in as f64 + self.answer * tokens_out as f64) / 1e6
    }
}
