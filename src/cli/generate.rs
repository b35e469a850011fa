//! `sae generate`: has a model answer prompts, plainly, in guarded rounds, or sentence by sentence; prints what was flagged and what
//! came of it.

use super::arguments::{DeviceArg, ReadingArgs, pair};
use super::harvest::first;
use super::{Invocation, Outcome};
use crate::cli::terminal::{count, counted, table};
use anyhow::Result;
use clap::Args;
use harvest::generation::{Boundary, Sampling, TypedPrompt};
use sae_workbench::generate::{At, Correction, Guarding, TreeShape};
use sae_workbench::{GenerateReport, GenerateRequest, SaeChoice};
use std::path::PathBuf;
use std::str::FromStr;

/// How a flagged sentence is written again.
#[derive(Clone, Debug)]
pub enum Correct {
    Sample,
    Steer,
    Difference,
    Feedback,
    Model(PathBuf),
}

impl FromStr for Correct {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("model:")) {
            ("sample", _) => Ok(Self::Sample),
            ("steer", _) => Ok(Self::Steer),
            ("difference", _) => Ok(Self::Difference),
            ("feedback", _) => Ok(Self::Feedback),
            (_, Some(folder)) if !folder.is_empty() => Ok(Self::Model(folder.into())),
            _ => Err(format!(
                "unknown correction {text:?}: expected sample, steer, difference, feedback or model:DIR with a folder"
            )),
        }
    }
}

/// `sae generate`
#[derive(Args, Debug)]
#[command(after_help = "\
The prompts are the rows of the data without their last answer. A guard is a probe (sae probe) that reads answers; a text above the \
threshold is flagged.

  --rounds N   a flagged answer is written again, at most N times in all, and then replaced by the refusal
  --stream     a flagged sentence is written again before the next one; the least severe version stays

A sentence is written again (--correct)
  sample       with other random numbers
  steer        with the features that contribute most to the severity, at most five, moved to 0, or to --toward
  difference   with the difference of the mean hidden states of harmless and harmful samples of the run added
  feedback     by the model, which reads one more turn that names what the sentence was about (these features)
  model:DIR    by another model that was trained to correct sentences, in the format of Stream Aligner

A sentence that was written with steering is read again without it before it is judged, since the guard would otherwise be satisfied \
by construction.

--tree 5x2 --tokens 20 writes a tree of answers for each prompt: pieces of 20 tokens, 2 that continue each one, up to 5 on a path. \
tree.jsonl has its nodes, which sae harvest --pieces tree reads and sae pairs compares. --tree 1x8 writes 8 answers that share nothing.

Examples:
  sae generate --model llava-1.5-7b-hf --data prompts.jsonl --out answers
  sae generate --model llava-1.5-7b-hf --prompt \"What is this?\" --image cat.jpg --out answer
  sae generate --run run --sae base --guard harm --rounds 5 --at fpr=5% --model m --data d --out answers
  sae generate --run run --sae base --guard harm --stream --correct steer --model m --data d --out answers
  sae generate --run run --sae base --steer 12=2,705=0 --temperature 0 --model m --data d --out steered
  sae generate --tree 5x2 --tokens 20 --model m --data d --out trees")]
pub struct GenerateArgs {
    /// Checkpoint, as for `sae harvest`
    #[arg(long, group = "reader")]
    pub model: PathBuf,
    /// Data set with the prompts
    #[arg(long, required_unless_present = "prompt")]
    pub data: Option<PathBuf>,
    /// A single prompt in place of a data set; it may be empty if there is an image
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["data", "limit"])]
    pub prompt: Option<String>,
    /// Image file in front of the prompt; may be given several times
    #[arg(long, value_name = "FILE", requires = "prompt")]
    pub image: Vec<PathBuf>,
    /// Text that every answer begins with, for the model to continue; it is not judged by sentences
    #[arg(long, value_name = "TEXT", default_value = "", conflicts_with = "tree")]
    pub begin: String,
    /// New folder for the answers
    #[arg(long)]
    pub out: PathBuf,
    /// Run folder with the autoencoder, if there is a guard or steering
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// Name of the autoencoder; may be left out if the run has one
    #[arg(long, requires = "run")]
    pub sae: Option<String>,
    /// Name of the probe that judges what is written; it has to predict what is not wanted
    #[arg(long, requires = "run", value_name = "PROBE")]
    pub guard: Option<String>,
    /// A text above this severity is flagged; fpr=5% chooses the severity that 5 % of the run's harmless samples exceed
    #[arg(long, requires = "guard", value_name = "T", default_value = "0.5")]
    pub at: At,
    /// How often an answer is written at most
    #[arg(long, requires = "guard", value_name = "N", conflicts_with = "stream")]
    pub rounds: Option<u32>,
    /// What takes the place of an answer that is flagged in every round
    #[arg(long, requires = "rounds", value_name = "TEXT", default_value = "I can't help with that.")]
    pub refusal: String,
    /// An answer above this severity is refused at once, without being written again; fpr=1% as for --at
    #[arg(long, requires = "rounds", value_name = "T")]
    pub refuse_at: Option<At>,
    /// Judge sentence by sentence
    #[arg(long, requires = "guard")]
    pub stream: bool,
    /// How a flagged sentence is written again: sample, steer, difference, feedback or model:DIR
    #[arg(long, requires = "stream", value_name = "HOW", default_value = "steer")]
    pub correct: Correct,
    /// How often a flagged sentence is written again at most
    #[arg(long, requires = "stream", default_value_t = 3)]
    pub tries: u32,
    /// How far states are moved in the first try (1: features to their target, or by the whole difference of means); twice as far in each
    /// further one
    #[arg(long, requires = "stream", value_name = "A", default_value_t = 1.0)]
    pub strength: f32,
    /// What steered features are moved to, as a multiple of the largest activation of each in the run; needs the feature index
    #[arg(long, requires = "stream", value_name = "MULTIPLE", default_value_t = 0.0, allow_negative_numbers = true)]
    pub toward: f32,
    /// What ends a sentence: sentence, line, or a regular expression between slashes
    #[arg(long, requires = "stream", default_value = "sentence")]
    pub until: Boundary,
    /// Tokens of a sentence at most
    #[arg(long, requires = "stream", value_name = "TOKENS", default_value_t = 64)]
    pub longest: usize,
    /// Set features in every state of the answers, as multiples of the largest activation of each in the run
    #[arg(long, requires = "run", value_name = "FEATURE=MULTIPLE", value_delimiter = ',', value_parser = steer)]
    pub steer: Vec<(u32, f32)>,
    /// Write a tree of answers for each prompt: the pieces of a path at most, and how many continue each
    #[arg(long, value_name = "DEPTHxBRANCHES", conflicts_with_all = ["guard", "rounds", "stream"])]
    pub tree: Option<TreeShape>,
    /// Tokens of an answer at most, without those of --begin; with --tree, of a piece
    #[arg(long, default_value_t = 256)]
    pub tokens: usize,
    /// Logits are divided by it; 0 chooses the most likely token
    #[arg(long, default_value_t = 1.0)]
    pub temperature: f64,
    /// Sample from the most likely tokens only, as many as this (0: all)
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Sample from the fewest most likely tokens whose probabilities add up to this
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Sample from tokens at least this many times as likely as the most likely one
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f64,
    /// Makes tokens less likely that the text has already (1: not)
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// A text that ends an answer; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Answers that are written at the same time
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Read only the first rows of the data
    #[arg(long)]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub device: DeviceArg,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

fn steer(text: &str) -> Result<(u32, f32), String> {
    let expected = || format!("invalid feature {text:?}: expected its number and a multiple, such as 12=2");
    let (feature, multiple) = pair(text).map_err(|_| expected())?;
    Ok((feature.trim().parse().map_err(|_| expected())?, multiple.trim().parse().map_err(|_| expected())?))
}

impl GenerateArgs {
    fn request(&self) -> GenerateRequest {
        let data = self.data.clone().unwrap_or_default();
        let plan = self.reading.plan(&self.model, &data, self.limit, self.device);
        let guarding = match (self.rounds, self.stream) {
            (Some(rounds), _) => Guarding::Rounds { rounds, refusal: self.refusal.clone(), refuse_at: self.refuse_at },
            (None, true) => Guarding::Stream {
                boundary: self.until.clone(),
                longest: self.longest,
                correction: match &self.correct {
                    Correct::Sample => Correction::Sample,
                    Correct::Steer => Correction::Steer { strength: self.strength, toward: self.toward },
                    Correct::Difference => Correction::Difference(self.strength),
                    Correct::Feedback => Correction::Feedback,
                    Correct::Model(folder) => Correction::Model(folder.clone()),
                },
                tries: self.tries,
            },
            (None, false) => Guarding::Off,
        };
        GenerateRequest {
            prompt: self.prompt.clone().map(|text| TypedPrompt { text, images: self.image.clone() }),
            beginning: self.begin.clone(),
            sae: self.run.as_ref().map(|run| SaeChoice {
                run: run.clone(),
                sae: self.sae.clone(),
                device: self.device.device,
            }),
            guard: self.guard.clone(),
            at: self.at,
            guarding,
            tree: self.tree,
            steer: self.steer.clone(),
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
            },
            tokens: self.tokens,
            stop: self.stop.clone(),
            seed: self.seed,
            batch: self.batch,
            ..GenerateRequest::new(plan, &self.out)
        }
    }
}

/// Runs the command.
pub fn run(args: &GenerateArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request();
    invocation.outcome(|_| request.plan(), |control| request.run(control), |report| Ok(describe(report)))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn describe(report: &GenerateReport) -> String {
    let written = match &report.tree {
        Some(tree) => format!(
            "{} of {} with {}",
            counted(report.samples as u64, "tree"),
            counted(tree.answers, "answer"),
            counted(tree.nodes, "piece"),
        ),
        None => counted(report.samples as u64, "answer"),
    };
    let mut text = format!("{written}, {}, {:.1} tokens/s", counted(report.tokens, "token"), report.tokens_per_s);
    if let Some(tree) = &report.tree {
        text += &format!(
            "\n  {:.2} tokens of answers for each that was generated, since answers share pieces",
            tree.tokens_per_generated
        );
        if tree.silent > 0 {
            text += &format!(
                "\n  {} with which the model said nothing more, which are no nodes",
                counted(tree.silent, "piece")
            );
        }
    }
    let ends: Vec<String> =
        report.ends.iter().map(|(end, answers)| format!("{end} {}", count(*answers as u64))).collect();
    text += &format!("\n  why they ended: {}", ends.join(", "));
    if let Some(threshold) = report.threshold {
        let unit = if report.attempts.as_deref() == Some("sentences.parquet") { "sentence" } else { "answer" };
        text += &format!(
            "\n  {} judged, {} flagged (severity above {threshold:.3}), {} with a later version accepted",
            counted(report.units, unit),
            count(report.flagged),
            count(report.corrected),
        );
        let per_token = report.computed as f64 / report.tokens.max(1) as f64;
        text +=
            &format!("\n  the model computed {per_token:.2} positions for each token of an answer, prompts included");
    }
    if let Some(refuse_at) = report.refuse_at {
        text += &format!(
            "\n  {} refused at once (severity above {refuse_at:.3})",
            counted(report.refused_at_once, "answer")
        );
    }
    if report.dropped > 0 {
        text += &format!("\n  tries that came to nothing: {}", count(report.dropped));
    }
    if let Some(rates) = report.rates {
        text += &format!(
            "\n  in the run, the guard flags {} of {} harmful and {} of {} harmless samples",
            percent(rates.true_positives),
            count(rates.harmful as u64),
            percent(rates.false_positives),
            count(rates.harmless as u64),
        );
    }
    if !report.rounds.is_empty() {
        let mut rows =
            vec![["round", "refused", "predicted", "harmful and shown, predicted"].map(String::from).to_vec()];
        rows.extend(report.rounds.iter().map(|round| {
            let harmful = round.harmful_predicted.map_or("-".into(), percent);
            vec![round.round.to_string(), percent(round.refused), percent(round.refused_predicted), harmful]
        }));
        text += &format!("\n{}", table(&rows));
    }
    if report.skipped_rows > 0 {
        text += &format!("\nskipped {}:", counted(report.skipped_rows, "row"));
        text += &first(&report.skipped);
    }
    text += &format!("\n  {}", report.answers.display());
    if let Some(tree) = &report.tree {
        text += &format!("\n  {} (for sae harvest --pieces tree)", tree.rows.display());
    }
    if let Some(name) = &report.attempts {
        text += &format!("\n  {} (all versions)", report.answers.with_file_name(name).display());
    }
    text
}
