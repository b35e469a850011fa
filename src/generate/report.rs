//! What a generation wrote: one record for each answer, its tries, the tables, and the report.

use super::guard::GuardRates;
use super::journal::Finished;
use super::shape::TreeShape;
use crate::Result;
use arrow::array::{BooleanArray, Float64Array, ListArray, StringArray, UInt32Array};
use arrow::datatypes::UInt32Type;
use sae_core::store::Skipped;
use sae_core::store::sample::Sample;
use sae_core::table::{batch, column, nullable, write};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How many equal units in a row end an answer.
const REPEATS: usize = 3;

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The model ended it.
    Finished,
    /// It had as many tokens as allowed.
    Tokens,
    /// A stop text.
    Stop,
    /// The model's context was full.
    Context,
    /// The model said nothing.
    Empty,
    /// The same unit three times in a row.
    Repeated,
    /// The model computed numbers that are not finite.
    NotFinite,
    /// The guard flagged every version, and a refusal took its place.
    Refused,
}

impl End {
    /// The name in tables and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Tokens => "tokens",
            Self::Stop => "stop",
            Self::Context => "context",
            Self::Empty => "empty",
            Self::Repeated => "repeated",
            Self::NotFinite => "not_finite",
            Self::Refused => "refused",
        }
    }
}

/// One version of a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The number of the unit in the answer.
    pub unit: u32,
    /// The number of the try, 0 for the first.
    pub attempt: u32,
    pub text: String,
    #[serde(with = "exact")]
    pub severity: Option<f64>,
    /// The features that contribute most to the severity.
    pub features: Vec<u32>,
    /// How strongly features were steered.
    pub strength: Option<f32>,
    /// Whether the guard accepts it.
    pub accepted: bool,
    /// Negative log-likelihood of its tokens in nats, under the model without the correction.
    #[serde(with = "exact")]
    pub nll: Option<f64>,
    pub ids: Vec<u32>,
    /// Why the answer ended with it, if it did.
    pub end: Option<End>,
    /// Where a stop text cuts the answer, in bytes.
    pub cut: Option<usize>,
}

/// An answer with all tries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Written {
    pub sample: u32,
    pub id: String,
    pub key: String,
    pub prompt: String,
    pub text: String,
    /// Units so far.
    pub units: u32,
    /// Tries of all units, and whether each stayed.
    pub attempts: Vec<(Attempt, bool)>,
    pub tokens: usize,
    /// Positions that the model computed, the prompt's included.
    pub computed: u64,
    pub end: End,
    /// Tries that came to nothing.
    #[serde(default)]
    pub dropped: u32,
}

impl Finished for Written {
    fn sample(&self) -> u32 {
        self.sample
    }
}

impl Written {
    pub fn new(sample: u32, prompt: &Sample) -> Self {
        Self {
            sample,
            id: prompt.id.clone(),
            key: prompt.key.clone(),
            prompt: prompt.text.clone(),
            text: String::new(),
            units: 0,
            attempts: Vec::new(),
            tokens: 0,
            computed: 0,
            end: End::Empty,
            dropped: 0,
        }
    }

    /// Adds a unit of which the version number `kept` stays.
    pub fn keep(&mut self, attempts: impl Iterator<Item = Attempt>, kept: usize) {
        self.attempts.extend(attempts.enumerate().map(|(n, attempt)| (attempt, n == kept)));
        self.units += 1;
    }

    /// Ends with a refusal in place of the versions, of which none stays.
    pub fn refuse(&mut self, refusal: &str, attempts: impl Iterator<Item = Attempt>) {
        self.attempts.extend(attempts.map(|attempt| (attempt, false)));
        self.units += 1;
        self.finish(refusal.to_owned(), 0, End::Refused);
    }

    /// Ends the answer.
    pub fn finish(&mut self, text: String, tokens: usize, end: End) {
        (self.text, self.tokens, self.end) = (text, tokens, end);
    }

    /// Whether the last units that stayed are equal.
    pub fn repeats(&self) -> bool {
        let kept: Vec<&str> = self.kept().map(|attempt| attempt.text.trim()).collect();
        let last = &kept[kept.len().saturating_sub(REPEATS)..];
        last.len() == REPEATS && last.iter().all(|text| *text == last[0])
    }

    /// The versions that stayed.
    pub fn kept(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|(_, kept)| *kept).map(|(attempt, _)| attempt)
    }

    /// The severity of the answer: of the version that stayed, or of the most severe unit.
    fn severity(&self) -> Option<f64> {
        self.kept().filter_map(|attempt| attempt.severity).max_by(f64::total_cmp)
    }

    /// Whether the guard accepts all of it.
    pub fn accepted(&self) -> bool {
        self.end != End::Refused && self.kept().all(|attempt| attempt.accepted)
    }

    /// How many versions of the whole answer were written; of sentences, the most of one.
    pub fn rounds(&self) -> u32 {
        self.attempts.iter().map(|(attempt, _)| attempt.attempt + 1).max().unwrap_or(1)
    }
}

/// How often answers are accepted up to a round, as it was predicted and as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundReport {
    /// The round, from 1 on.
    pub round: u32,
    /// The share of answers of which no version was accepted up to this round.
    pub refused: f64,
    /// The same if every round accepted the share that the first one did: `(1 - a)^round`.
    pub refused_predicted: f64,
    /// The share of answers that are harmful and shown, predicted from the errors of the guard: `u (1 - TPR) (1 - (1 - a)^round) /
    /// a`, where `u` is the share of harmful versions.
    pub harmful_predicted: Option<f64>,
}

/// What a generation did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerateReport {
    /// Answers.
    pub samples: usize,
    /// Rows that became no prompt.
    pub skipped_rows: u64,
    /// The first of them.
    pub skipped: Vec<Skipped>,
    /// Tokens of the answers.
    pub tokens: u64,
    /// Positions that the model computed, prompts and versions that did not stay included.
    pub computed: u64,
    /// Tokens that were written in this call, versions that did not stay included, per second.
    pub tokens_per_s: f64,
    /// Severity above which a text is flagged.
    pub threshold: Option<f64>,
    /// How often the guard is wrong, if the run's labels say.
    pub rates: Option<GuardRates>,
    /// Units, sentences or whole answers, that were judged.
    pub units: u64,
    /// Units whose first version was flagged.
    pub flagged: u64,
    /// Units of which a later version was accepted.
    pub corrected: u64,
    /// Answers with a refusal in their place.
    pub refused: u64,
    /// Severity above which an answer is refused at once, if there is one.
    pub refuse_at: Option<f64>,
    /// Answers that were refused for this reason.
    pub refused_at_once: u64,
    /// Tries that came to nothing: empty ones, those with numbers that are not finite, and those for which nobody could be asked
    /// because the question was longer than the context.
    pub dropped: u64,
    /// The share of harmful versions, from the share that the guard accepts and its errors (Rogan and Gladen 1978).
    pub harmful: Option<f64>,
    /// The rounds.
    pub rounds: Vec<RoundReport>,
    /// Why answers ended, with the number of answers.
    pub ends: BTreeMap<String, usize>,
    /// The answers.
    #[serde(with = "sae_core::path_text")]
    pub answers: PathBuf,
    /// The trees, if answers share beginnings.
    pub tree: Option<TreeReport>,
    /// All versions of all units, if there is a guard: `rounds.parquet` or `sentences.parquet`, beside the answers.
    pub attempts: Option<String>,
}

/// The trees of a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeReport {
    /// Pieces of a path at most, and those that continue the same one.
    pub shape: TreeShape,
    /// Pieces of all trees, without the prompts.
    pub nodes: u64,
    /// Whole answers: pieces that none continues, each with those before it.
    pub answers: u64,
    /// Pieces with which the model said nothing more, which are no nodes.
    pub silent: u64,
    /// Tokens of whole answers, those that they share counted for each of them, for each token that was generated.
    pub tokens_per_generated: f64,
    /// The file with the nodes.
    #[serde(with = "sae_core::path_text")]
    pub rows: PathBuf,
}

/// Numbers in a journal as texts, since the reader of JSON rounds some in the last bit.
pub(super) mod exact {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(number: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        number.map(|number| number.to_string()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// Writes `answers.parquet`, a row for each answer.
pub(super) fn write_answers(path: &Path, answers: &[Written]) -> Result<()> {
    let text = |value: fn(&Written) -> &str| StringArray::from_iter_values(answers.iter().map(value));
    let table = batch(vec![
        column("sample", UInt32Array::from_iter_values(answers.iter().map(|answer| answer.sample))),
        column("id", text(|answer| &answer.id)),
        column("key", text(|answer| &answer.key)),
        column("prompt", text(|answer| &answer.prompt)),
        column("text", text(|answer| &answer.text)),
        column("round", UInt32Array::from_iter_values(answers.iter().map(Written::rounds))),
        nullable("severity", answers.iter().map(Written::severity).collect::<Float64Array>()),
        column("accepted", answers.iter().map(|answer| Some(answer.accepted())).collect::<BooleanArray>()),
        column("tokens", UInt32Array::from_iter_values(answers.iter().map(|answer| answer.tokens as u32))),
        column("computed", UInt32Array::from_iter_values(answers.iter().map(|answer| answer.computed as u32))),
        column("end", text(|answer| answer.end.name())),
    ]);
    Ok(write(path, &table)?)
}

/// Writes all versions of all units; `unit` is the name of the column with the number of the unit.
pub(super) fn write_attempts(path: &Path, unit: &'static str, answers: &[Written]) -> Result<()> {
    let all: Vec<(u32, &Attempt, bool)> = answers
        .iter()
        .flat_map(|answer| answer.attempts.iter().map(|(attempt, kept)| (answer.sample, attempt, *kept)))
        .collect();
    let numbers = |value: fn(&Attempt) -> u32| UInt32Array::from_iter_values(all.iter().map(|(_, a, _)| value(a)));
    let features = all.iter().map(|(_, attempt, _)| Some(attempt.features.iter().map(|feature| Some(*feature))));
    let flags = |value: &dyn Fn(&Attempt, bool) -> bool| {
        all.iter().map(|(_, attempt, kept)| Some(value(attempt, *kept))).collect::<BooleanArray>()
    };
    let table = batch(vec![
        column("sample", UInt32Array::from_iter_values(all.iter().map(|(sample, ..)| *sample))),
        column(unit, numbers(|attempt| attempt.unit)),
        column("try", numbers(|attempt| attempt.attempt)),
        column("text", StringArray::from_iter_values(all.iter().map(|(_, attempt, _)| attempt.text.as_str()))),
        nullable("severity", all.iter().map(|(_, attempt, _)| attempt.severity).collect::<Float64Array>()),
        column("features", ListArray::from_iter_primitive::<UInt32Type, _, _>(features)),
        nullable("strength", all.iter().map(|(_, a, _)| a.strength.map(f64::from)).collect::<Float64Array>()),
        column("accepted", flags(&|attempt, _| attempt.accepted)),
        column("kept", flags(&|_, kept| kept)),
        nullable("nll", all.iter().map(|(_, attempt, _)| attempt.nll).collect::<Float64Array>()),
        column("tokens", numbers(|attempt| attempt.ids.len() as u32)),
    ]);
    Ok(write(path, &table)?)
}
