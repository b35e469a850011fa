//! Answers that a model writes to the prompts of a data set: plainly; with a guard that has flagged answers written again, at most a
//! number of times (the rounds of Safe RLHF-V); or sentence by sentence, with flagged sentences written again, steered away from
//! what the guard saw (after Stream Aligner).

mod branches;
mod correction;
mod event;
mod follow;
mod guard;
mod journal;
mod opening;
mod report;
mod rules;
mod shape;
mod tree;
mod work;
mod writer;
mod writing;

pub use event::{Event, Version};
pub use follow::Followed;
pub use guard::{At, GuardChoice, GuardRates, guards};
pub use report::{End, GenerateReport, RoundReport, TreeReport};
pub use shape::TreeShape;

use crate::Result;
use crate::control::Control;
use crate::error::GenerateError;
use crate::sae::SaeChoice;
use harvest::generation::{Boundary, Sampling, TypedPrompt};
use harvest::{Answers, Plan, Templating};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

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
        /// Above this severity an answer is refused at once.
        refuse_at: Option<At>,
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
    /// How a flagged sentence is written again.
    fn correction(&self) -> Option<&Correction> {
        match self {
            Self::Stream { correction, .. } => Some(correction),
            Self::Off | Self::Rounds { .. } => None,
        }
    }

    /// How strongly flagged sentences are steered, if they are.
    fn strength(&self) -> Option<f32> {
        match self.correction()? {
            Correction::Steer { strength, .. } | Correction::Difference(strength) => Some(*strength),
            Correction::Sample | Correction::Feedback | Correction::Model(_) => None,
        }
    }
}

/// How a flagged sentence is written again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Correction {
    /// With other random numbers.
    Sample,
    /// With the features that contribute most to the severity, at most five, moved towards a target in every state of the sentence and
    /// in the one before it.
    Steer {
        /// The share of the way in the first try; twice as far in each further one.
        strength: f32,
        /// The target, as a multiple of the largest activation that each feature has in the run.
        toward: f32,
    },
    /// With the mean hidden state of the run's harmful samples, minus that of the harmless ones, taken away: as often as this in the
    /// first try, twice as often in each further one. It needs no autoencoder's features, and is what steering by features is
    /// compared with.
    Difference(f32),
    /// By the model itself, which is told in one more turn of the user what the sentence was about: the names of the features that
    /// contribute most to the severity (after the refinements of Align Anything's language feedback).
    Feedback,
    /// By the model in this folder, or of this name on the hub, in the published format of Stream Aligner.
    Model(PathBuf),
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
/// request.guarding = Guarding::Rounds { rounds: 5, refusal: "I cannot help with that.".into(), refuse_at: None };
/// let report = request.run(&mut Control::default())?;
/// println!("{} answers, {} refused", report.samples, report.refused);
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The model and the prompts. Its layers and answers are ignored.
    pub model: Plan,
    /// The only prompt; without it, those of the data set in `model`.
    pub prompt: Option<TypedPrompt>,
    /// Text that every answer begins with, for the model to continue. It is not judged by sentences.
    pub beginning: String,
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
    /// The shape of the tree of answers to each prompt; without it, there is one answer to each.
    pub tree: Option<TreeShape>,
    /// Features that are set in every state of the answers, as multiples of the largest activation that each has in the run.
    pub steer: Vec<(u32, f32)>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Tokens of an answer at most, without those of its given beginning; with a tree, of each piece.
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

impl GenerateRequest {
    /// Plain answers of up to 256 tokens, sampled at temperature 1.
    pub fn new(model: Plan, out: impl Into<PathBuf>) -> Self {
        Self {
            model,
            prompt: None,
            beginning: String::new(),
            sae: None,
            out: out.into(),
            guard: None,
            at: At::default(),
            guarding: Guarding::Off,
            tree: None,
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
        match journal::finished(&self.out, &opening.settings)? {
            Some(report) => Ok(report),
            None => self.write(&mut opening, control),
        }
    }

    fn check(&self) -> Result<()> {
        self.sampling.check().map_err(GenerateError::OutOfRange)?;
        let (what, tries) = match &self.guarding {
            Guarding::Off => ("", 1),
            Guarding::Rounds { rounds, .. } => ("writing in rounds", *rounds),
            Guarding::Stream { tries, .. } => ("correcting sentences", tries.saturating_add(1)),
        };
        if self.tree.is_some() && (self.guard.is_some() || !matches!(self.guarding, Guarding::Off)) {
            return Err(GenerateError::GuardedTree.into());
        }
        let template = self.model.template == Templating::None;
        if template && self.tree.is_some() {
            return Err(GenerateError::NeedsTemplate { what: "a tree of answers" }.into());
        }
        if template && self.guarding.correction() == Some(&Correction::Feedback) {
            return Err(GenerateError::NeedsTemplate { what: "feedback" }.into());
        }
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
        let toward = match self.guarding.correction() {
            Some(Correction::Steer { toward, .. }) => *toward,
            _ => 0.0,
        };
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
            (toward.is_finite(), "a target that is finite"),
            (self.tree.is_none() || self.beginning.is_empty(), "no given beginning of a tree of answers"),
            (self.tree.is_none_or(|shape| shape.nodes().is_some()), "a tree of at least one piece and at most 4095"),
        ];
        match ranges.into_iter().find(|(fits, _)| !fits) {
            Some((_, expected)) => Err(GenerateError::OutOfRange(format!("expected {expected}")).into()),
            None => Ok(()),
        }
    }
}
