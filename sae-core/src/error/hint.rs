//! What a person can do about an error, as data. A library names settings and operations by their meaning; the command
//! line turns them into flags and subcommands, the app into the names of its controls.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// What a person can do about an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Hint {
    /// Run an operation, which makes what is missing or outdated.
    Run(Operation),
    /// Continue an interrupted operation.
    Resume(Operation),
    /// Set a setting to one of these values, or to any value if there are none.
    Set(Setting, Vec<String>),
    /// Set a setting to another value than the present one.
    Change(Setting),
    /// Choose a smaller value, or fewer.
    Lower(Setting),
    /// Choose a larger value, or more.
    Raise(Setting),
    /// Leave a setting out.
    Unset(Setting),
    /// State which column of the data set holds a field.
    MapField {
        /// The field.
        field: Box<str>,
        /// The column that seems to hold it, if there is such a column.
        column: Option<Box<str>>,
    },
    /// Allow images behind links to be fetched.
    FetchImages,
    /// Anything else, as an imperative without a final period.
    Advice(Cow<'static, str>),
    /// Any one of several.
    AnyOf(Vec<Hint>),
}

/// An operation of the workbench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// Capturing activations of a model on a data set.
    Harvest,
    /// Training autoencoders.
    Train,
    /// Indexing features: counts, examples and neighbors.
    Index,
    /// Scoring samples.
    Score,
}

/// Anything that a user chooses for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Setting {
    /// The run folder.
    Run,
    /// The file or folder that is read.
    Input,
    /// The file or folder that is written.
    Output,
    /// The name of an autoencoder in a run.
    SaeName,
    /// What a transcoder reconstructs.
    Target,
    /// The device that computes.
    Device,
    /// What a model computes in.
    ComputeDtype,
    /// How activations are stored.
    StoreDtype,
    /// Positions that are left out.
    Exclude,
    /// Learning rate.
    LearningRate,
    /// Number of features of an autoencoder.
    Features,
    /// Tokens of a training step.
    Batch,
    /// Active features of a token, `k`.
    ActiveFeatures,
    /// Whose definitions of scores are computed.
    Definition,
    /// The score that selects.
    Score,
    /// How many samples are kept.
    Keep,
    /// How many samples of each group are kept.
    Quota,
    /// The field that divides samples into groups.
    GroupBy,
    /// How kept rows are written.
    Format,
    /// What is done with the images of kept rows.
    Images,
    /// Which autoencoder of a run.
    Sae,
    /// Whether an interrupted training is continued.
    Resume,
    /// Whether only a plan is made.
    Plan,
    /// The largest norm of a position, as a multiple of the median.
    MaxNorm,
    /// Whether the tokens that features promote are left out.
    NoPromotedTokens,
    /// Runs that scores are fitted to.
    Calibration,
    /// The run with rejected answers.
    Rejected,
    /// Which answers a model reads.
    Answers,
    /// The decoder block whose output is used.
    Layer,
    /// The folder of the bundled model.
    Assets,
    /// Which of several hooks is read.
    Hook,
    /// How many positions every imported sample has.
    SampleLength,
    /// The file with the tokens of imported activations.
    Tokens,
    /// How many positions a part of the store has.
    ShardTokens,
    /// The field of clusters.
    Cluster,
    /// The file with the statistics of actions.
    ActionStatistics,
    /// Whether rows are divided into pieces.
    Pieces,
    /// Whether the chat template is used.
    Template,
    /// A second pass with blank images.
    BlankImages,
    /// Which data set's statistics of actions are used.
    ActionStatisticsOf,
    /// The number of a sample by which quantiles are made.
    Within,
    /// How many times as many samples as are kept a shortlist has.
    Shortlist,
    /// The run whose features a selection should match.
    MatchRun,
    /// A limit on the mean of what is kept.
    Budget,
    /// The field that people judged.
    Judged,
    /// What to do with labels that contradict each other.
    Conflicts,
    /// Columns that become samples of their own.
    Melt,
    /// Whether an autoencoder may be of another model than the run.
    AnyModel,
    /// The layers whose hidden states another program wrote.
    StateLayers,
}

impl Hint {
    /// Sets a setting to a value.
    pub fn set(setting: Setting, value: impl Into<String>) -> Self {
        Self::Set(setting, vec![value.into()])
    }
}

impl From<&'static str> for Hint {
    fn from(advice: &'static str) -> Self {
        Self::Advice(advice.into())
    }
}

impl From<String> for Hint {
    fn from(advice: String) -> Self {
        Self::Advice(advice.into())
    }
}

/// The hint in words, for programs without flags.
impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(operation) => write!(f, "{operation} first"),
            Self::Resume(operation) => write!(f, "{operation} again with the same settings; it continues"),
            Self::Set(setting, values) if values.is_empty() => write!(f, "choose {setting}"),
            Self::Set(setting, values) => write!(f, "set {setting} to {}", values.join(" or ")),
            Self::Change(setting) => write!(f, "change {setting}"),
            Self::Lower(setting) => write!(f, "lower {setting}"),
            Self::Raise(setting) => write!(f, "raise {setting}"),
            Self::Unset(setting) => write!(f, "do without {setting}"),
            Self::MapField { field, column: Some(column) } => write!(f, "map the column {column} to the field {field}"),
            Self::MapField { field, column: None } => write!(f, "map a column to the field {field}"),
            Self::FetchImages => f.write_str("allow images behind links to be fetched"),
            Self::Advice(advice) => f.write_str(advice),
            Self::AnyOf(hints) => {
                let hints: Vec<_> = hints.iter().map(Self::to_string).collect();
                f.write_str(&hints.join(", or "))
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Harvest => "harvest the data",
            Self::Train => "train the autoencoder",
            Self::Index => "make the feature index",
            Self::Score => "score the samples",
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "the run folder",
            Self::Input => "the input",
            Self::Output => "the output",
            Self::SaeName => "the name of the autoencoder",
            Self::Target => "the target",
            Self::Device => "the device",
            Self::ComputeDtype => "the number format of the model",
            Self::StoreDtype => "the number format of the store",
            Self::Exclude => "the excluded positions",
            Self::LearningRate => "the learning rate",
            Self::Features => "the number of features",
            Self::Batch => "the batch size",
            Self::ActiveFeatures => "the number of active features",
            Self::Definition => "the definition of the scores",
            Self::Score => "the score to select by",
            Self::Keep => "the share to keep",
            Self::Quota => "the quotas of the groups",
            Self::GroupBy => "the field to group by",
            Self::Format => "the output format",
            Self::Images => "the handling of images",
            Self::Sae => "the autoencoder",
            Self::Resume => "resuming",
            Self::Plan => "the plan",
            Self::MaxNorm => "the largest norm",
            Self::NoPromotedTokens => "an index without promoted tokens",
            Self::Calibration => "the calibration run",
            Self::Rejected => "the run with rejected answers",
            Self::Answers => "the answers that are read",
            Self::Layer => "the decoder block",
            Self::Assets => "the folder of the bundled model",
            Self::Hook => "the hook",
            Self::SampleLength => "the length of a sample",
            Self::Tokens => "the table of tokens",
            Self::ShardTokens => "the size of a shard",
            Self::Cluster => "the field of clusters",
            Self::ActionStatistics => "the file with the statistics of actions",
            Self::Pieces => "the pieces of rows",
            Self::Melt => "the columns that become samples",
            Self::Template => "the chat template",
            Self::BlankImages => "the pass with blank images",
            Self::ActionStatisticsOf => "the data set whose statistics of actions are used",
            Self::Within => "the field of quantiles",
            Self::Shortlist => "the shortlist",
            Self::MatchRun => "the target run",
            Self::Budget => "the budget",
            Self::Judged => "the judged field",
            Self::Conflicts => "what to do with contradicting labels",
            Self::AnyModel => "an autoencoder of any model",
            Self::StateLayers => "the layers of the hidden states",
        })
    }
}

/// An error in words, followed by its hint on a separate line.
pub fn message(error: &impl fmt::Display, hint: Option<Hint>) -> String {
    let hint = hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
    format!("{error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_read_as_imperatives() {
        let device = Hint::set(Setting::Device, "cpu");
        let formats = Hint::Set(Setting::Format, vec!["jsonl".into(), "parquet".into()]);
        assert_eq!(device.to_string(), "set the device to cpu");
        assert_eq!(formats.to_string(), "set the output format to jsonl or parquet");
        assert_eq!(Hint::Run(Operation::Score).to_string(), "score the samples first");
        let any = Hint::AnyOf(vec![Hint::Lower(Setting::Batch), Hint::from("wait")]);
        assert_eq!(any.to_string(), "lower the batch size, or wait");
    }

    #[test]
    fn a_hint_in_a_file_reads_back() {
        for hint in [Hint::from("run `git lfs pull`"), Hint::AnyOf(vec![Hint::Raise(Setting::Batch)])] {
            let json = serde_json::to_string(&hint).unwrap();
            assert_eq!(serde_json::from_str::<Hint>(&json).unwrap(), hint);
        }
    }
}
