//! The error type of this crate: what an operation could not do, with the data that a program needs to report it. A [`Hint`](sae_core::error::Hint)
//! says what can be done about it in terms of requests; programs turn it into words and flags.

mod contrast;
mod filter;
mod generate;
mod hints;
mod jobs;
mod models;
mod pairs;
mod probe;
mod published;
mod state;
mod transcoder;
mod upload;

pub use contrast::ContrastError;
pub use filter::FilterError;
use filter::nothing_kept;
pub use generate::GenerateError;
pub use jobs::JobsError;
pub use models::ModelsError;
pub use pairs::PairsError;
pub use probe::ProbeError;
pub use published::PublishedError;
pub use transcoder::TranscoderError;
pub use upload::UploadError;

use crate::numbers::{count, counted};
use crate::roles::{Kind, Role};
use filters::select::Keep;
use filters::write::Format;
use sae_core::store::InvalidHook;
use sae_core::store::run::{PIECES_VERSION, SCHEMA_VERSION};
use std::path::PathBuf;

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an operation could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Files, the store, training, analysis or the device.
    #[error(transparent)]
    Core(#[from] sae_core::Error),
    /// Models, data sets or their capture.
    #[error(transparent)]
    Harvest(#[from] harvest::Error),
    /// Scores, selection or the writing of rows.
    #[error(transparent)]
    Filters(#[from] filters::Error),

    /// The run has nothing of this name.
    #[error("the run has no {kind} {asked}; it has: {}", available.join(", "))]
    Unknown {
        /// What was asked for.
        kind: Kind,
        /// Its name.
        asked: String,
        /// The names that the run has.
        available: Vec<String>,
    },
    /// The run has nothing of a kind.
    #[error("the run has no {kind}")]
    Missing {
        /// What was asked for.
        kind: Kind,
    },
    /// The run has several of a kind, and none was named.
    #[error("the run has more than one {kind}: {}", available.join(", "))]
    Ambiguous {
        /// What was asked for.
        kind: Kind,
        /// The names that the run has.
        available: Vec<String>,
    },
    /// An autoencoder takes part in a scoring more than once.
    #[error("autoencoder {name} is named more than once; name each one once")]
    Repeated {
        /// Its name.
        name: String,
    },
    /// An autoencoder whose training has not been finished.
    #[error("autoencoder {name} is {}", unfinished(*step))]
    Unfinished {
        /// The autoencoder.
        name: String,
        /// The step of its newest checkpoint.
        step: Option<u64>,
    },
    /// A class that no feature of the index has.
    #[error("unknown class {asked:?}: expected one of {}", available.join(", "))]
    UnknownClass {
        /// What was asked for.
        asked: String,
        /// The classes that there are.
        available: Vec<String>,
    },
    /// A feature number that is too large.
    #[error("there is no feature {feature}; the {holder} has {count}")]
    UnknownFeature {
        /// The feature.
        feature: u32,
        /// The number of features.
        count: usize,
        /// What has this number of features.
        holder: &'static str,
    },
    /// A sample that the run does not have.
    #[error("the run has no sample of key, id or number {asked:?}; it has {samples} samples")]
    UnknownSample {
        /// What was asked for.
        asked: String,
        /// The number of samples.
        samples: usize,
    },
    /// An autoencoder and activations of different widths.
    #[error("the autoencoder is {sae} wide, the activations of {hook} are {activations}")]
    StoreWidth {
        /// Width that the autoencoder reads.
        sae: usize,
        /// Width of the activations.
        activations: usize,
        /// The activations.
        hook: String,
    },
    /// An autoencoder that scales every input to one norm, which no training does.
    #[error("the autoencoder scales every input to one norm, and such an autoencoder cannot be trained on")]
    ConstantNorm,
    /// An autoencoder and a model of different widths.
    #[error("the autoencoder reads width {sae}, the model has {model}: {}", path.display())]
    ModelWidth {
        /// Width that the autoencoder reads.
        sae: usize,
        /// Width of the model's residual stream.
        model: usize,
        /// The checkpoint folder.
        path: PathBuf,
    },
    /// A plan for a model that has not been downloaded.
    #[error("the model has not been downloaded yet, and a plan downloads nothing: {model}")]
    NotDownloaded {
        /// The model.
        model: String,
    },

    /// A run without a record of its harvest.
    #[error("run.json does not say how the activations were harvested: {}", run.display())]
    NoHarvest {
        /// The run folder.
        run: PathBuf,
    },
    /// A store with other parts than its run records.
    #[error("run.json lists {parts} parts, the store has {shards} shards: {}", run.display())]
    OtherParts {
        /// Parts in `run.json`.
        parts: usize,
        /// Shards in the store.
        shards: usize,
        /// The run folder.
        run: PathBuf,
    },
    /// A store of another layout.
    #[error("the store has layout {found}: expected {} or {}: {}", SCHEMA_VERSION, PIECES_VERSION, path.display())]
    StoreVersion {
        /// Its layout.
        found: u32,
        /// The manifest.
        path: PathBuf,
    },
    /// A run that does not record where its data is.
    #[error("run.json does not say where the data is")]
    NoDataRoot,
    /// A data set that is not where it was.
    #[error("the data set is not where it was when the run was made: {}", root.display())]
    DataMoved {
        /// The folder where it was.
        root: PathBuf,
    },
    /// A server cannot listen on its port.
    #[error("the server cannot listen on port {port} of 127.0.0.1: {source}")]
    Listen {
        /// The port; 0 for any that is free.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system has no random numbers for a secret.
    #[error("the system has no random numbers for the token: {source}")]
    NoToken {
        /// What the system said.
        source: std::io::Error,
    },
    /// A sample without the row that it came from.
    #[error("the sample {sample} does not say where it came from: {source_row}")]
    NoPlace {
        /// Its id.
        sample: String,
        /// What it has in place of the row.
        source_row: String,
    },
    /// Rows of which only some samples are kept cannot be copied.
    #[error("samples are columns of rows here, and format {} copies whole rows, which may have samples on both sides", Format::Same.name())]
    MeltedRows,
    /// A row that can no longer be read.
    #[error("the row has changed since it was harvested ({reason}): {place}")]
    RowChanged {
        /// What is wrong with it.
        reason: String,
        /// File and row.
        place: String,
    },
    /// A row that differs from the one that was harvested.
    #[error("the row differs from the one that was harvested as {key}: {source_row}")]
    OtherRow {
        /// The key of the sample.
        key: String,
        /// File and row.
        source_row: String,
    },
    /// Rows that no longer exist.
    #[error("the data set has changed: it no longer has {} of the run: {}", counted(*missing as u64, "row"), root.display())]
    RowsMissing {
        /// How many.
        missing: usize,
        /// The data set.
        root: PathBuf,
    },
    /// An image that cannot be decoded.
    #[error("{cause}: {}", path.display())]
    Image {
        /// What is wrong with it.
        cause: String,
        /// The image, or the row that names it.
        path: PathBuf,
    },
    /// An image that cannot be written.
    #[error("an image cannot be encoded: {cause}")]
    Encode {
        /// What is wrong with it.
        cause: String,
    },
    /// An image that the index names and the sample does not have.
    #[error("sample {sample} has no image {image}")]
    NoImage {
        /// The sample.
        sample: u32,
        /// Which of its images.
        image: usize,
    },

    /// A name that is not a hook.
    #[error(transparent)]
    Hook(#[from] InvalidHook),
    /// A training request without an autoencoder.
    #[error("no autoencoder was named to be trained")]
    NothingToTrain,
    /// A file that is not a training configuration.
    #[error("this is not a training configuration: {}", path.display())]
    TrainConfig {
        /// What is wrong with it.
        source: Box<toml::de::Error>,
        /// The file.
        path: PathBuf,
    },
    /// A new training of an autoencoder whose training was interrupted.
    #[error("the training of {name} was interrupted; its newest checkpoint is {}", checkpoint.display())]
    AlreadyBegun {
        /// The autoencoder.
        name: String,
        /// Its newest checkpoint.
        checkpoint: PathBuf,
    },
    /// Resuming a training that was never begun.
    #[error("no checkpoint of {name} exists to resume from")]
    NothingToResume {
        /// The autoencoder.
        name: String,
    },
    /// A name that another autoencoder of the run has.
    #[error("the run already has an autoencoder {name}")]
    SaeExists {
        /// Its name.
        name: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// Resuming the training of an autoencoder that was not trained in the run.
    #[error("{name} was not trained in this run, so there is nothing to resume")]
    TrainedElsewhere {
        /// The autoencoder.
        name: String,
    },
    /// Resuming a training that is finished, with other settings.
    #[error("{name} is finished, but with other settings: {}", differences.join(", "))]
    OtherSettings {
        /// The autoencoder.
        name: String,
        /// Settings that differ.
        differences: Vec<String>,
    },
    /// A step of training that failed.
    #[error("{}", checkpoint.as_ref().map_or("no checkpoint was written yet".into(), |path| {
        format!("the last good checkpoint is {}", path.display())
    }))]
    Step {
        /// The newest checkpoint.
        checkpoint: Option<PathBuf>,
        /// What failed.
        source: sae_core::Error,
    },
    /// A training that was asked to stop, and saved its work.
    #[error("interrupted after step {step}: {}", checkpoint.display())]
    Interrupted {
        /// The last step.
        step: u64,
        /// The checkpoint after it.
        checkpoint: PathBuf,
    },
    /// A training that was asked to stop and could not save its work.
    #[error("interrupted, and no checkpoint could be written")]
    InterruptedWithoutCheckpoint {
        /// Why.
        source: sae_core::Error,
    },
    /// Several trainings that were asked to stop, between two of them.
    #[error("interrupted after the training of {finished}")]
    InterruptedBetween {
        /// The last autoencoder that is finished.
        finished: String,
    },

    /// A limit on norms that is negative or not a number.
    #[error("invalid limit of {value} times the median norm: expected a number from 0")]
    MaxNorm {
        /// The limit.
        value: f64,
    },
    /// An evaluation that leaves out every position.
    #[error("no position is left to measure")]
    NoPositions,
    /// A model evaluation on data without a text token that follows another.
    #[error("the data holds no text token that follows another: there is nothing to predict")]
    NothingToPredict,
    /// A model that is needed for promoted tokens and cannot be opened.
    #[error("the tokens that features promote need the model")]
    Lens {
        /// What is wrong with the model.
        source: harvest::Error,
    },
    /// An index that is needed and cannot be read.
    #[error("features are read from the index")]
    NoIndex {
        /// What is wrong with it.
        source: sae_core::Error,
    },

    /// A run that takes part, without activations of the hook.
    #[error("{role} must have activations of {hook}, the hook of the autoencoder")]
    CompanionHook {
        /// The part that the run has.
        role: Role,
        /// The activations.
        hook: String,
        /// What is wrong.
        source: Box<sae_core::Error>,
    },
    /// A run that takes part, with activations of another model.
    #[error("{role} was captured from the model {model}, but the run itself from {run_model}: {}", path.display())]
    CompanionModel {
        /// The part that the run has.
        role: Role,
        /// Its model.
        model: String,
        /// The model of the run that is scored or filtered.
        run_model: String,
        /// The run folder.
        path: PathBuf,
    },
    /// A run with rejected answers that has none of the samples.
    #[error("the run with rejected answers has none of the samples: {}", path.display())]
    OtherSamples {
        /// The run folder.
        path: PathBuf,
    },
    /// A data set for likelihoods that has none of the samples.
    #[error("the data set has none of the samples of the run, or other texts and images in their places: {}", data.display())]
    NoneRead {
        /// The data set.
        data: PathBuf,
    },
    /// A run without the samples that a fit of critiques needs.
    #[error(
        "no row has samples whose {field} is response (or answer), refinement (or correction), and feedback (or critique)"
    )]
    NoFeedback {
        /// The field.
        field: String,
    },
    /// Scores without a run to fit weights to.
    #[error("there is no run to fit weights to")]
    NothingToFit,
    /// Shards of which only some have the pass with blank images.
    #[error(
        "these shards lack the pass with blank images that others have (folder {}): {}",
        filters::pmi::BLANK_DIR,
        joined(shards)
    )]
    NoBlankImages {
        /// Those that lack it.
        shards: Vec<PathBuf>,
    },
    /// Scores that were made without a fit.
    #[error("the scores have no fit that an explanation could be made from: {}", path.display())]
    NoFit {
        /// The file that is missing.
        path: PathBuf,
    },
    /// A fit of another autoencoder, or of several together, with features that this one does not have.
    #[error("the fit is of another autoencoder, or of several together, which cannot be explained: {}", path.display())]
    OtherFit {
        /// The fit.
        path: PathBuf,
    },
    /// A sample without a score.
    #[error("sample {sample} has no text or no image with content, and so no {column}")]
    NothingToExplain {
        /// What was asked for.
        sample: String,
        /// The column.
        column: &'static str,
    },

    /// Labels that a probe cannot be fitted to.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Jobs that several processes share.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// Answers of which no pairs can be chosen.
    #[error(transparent)]
    Pairs(#[from] PairsError),
    /// A contrast that the samples cannot answer.
    #[error(transparent)]
    Contrast(#[from] ContrastError),
    /// A model that does not write.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// Models that cannot be trained on or compared together.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// Transcoders and targets that do not belong together.
    #[error(transparent)]
    Transcoder(#[from] TranscoderError),
    /// A filter that the samples or runs do not allow.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A published autoencoder that is not found, or does not belong to a run.
    #[error(transparent)]
    Published(#[from] PublishedError),
    /// Something that cannot be uploaded.
    #[error(transparent)]
    Upload(#[from] UploadError),

    /// A filter that keeps nothing.
    #[error("no sample would be kept{}", nothing_kept(by, keep, *without_score, *samples))]
    NothingKept {
        /// The column that decides; nothing if decisions were made elsewhere.
        by: Option<String>,
        /// How much was to be kept.
        keep: Option<Keep>,
        /// Samples without a score.
        without_score: usize,
        /// All samples.
        samples: usize,
    },
    /// Scores that are all the same.
    #[error(
        "all {samples} samples with a score in the column {column} have the same value, {score:.4}, so it cannot choose among them"
    )]
    EqualScores {
        /// The column.
        column: String,
        /// Samples with a score.
        samples: usize,
        /// The score.
        score: f64,
    },
    /// Several quotas without a field to group by.
    #[error("several quotas need groups, but no field says which group a sample is in")]
    QuotasWithoutGroups,
    /// A column without an estimate of the share to keep.
    #[error("there is no estimate of how many samples to keep by {column}")]
    NoEstimate {
        /// The column.
        column: String,
    },
    /// A column with too few scores for an estimate.
    #[error("too few samples have a score in the column {column} to estimate how many to keep")]
    TooFewScores {
        /// The column.
        column: String,
    },
    /// Scores whose threshold is not known.
    #[error("run.json lacks the threshold of the scores")]
    NoThreshold,
    /// Cross-modal weights that a method needs and the run does not have.
    #[error("the method cosine needs cross-modal weights, which this run does not have: {}", path.display())]
    NoWeights {
        /// The file that is missing.
        path: PathBuf,
    },
    /// A folder that is not empty.
    #[error("the folder is not empty: {}", path.display())]
    FolderNotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file that exists already.
    #[error("the file already exists: {}", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },

    /// A validation without rows or shares.
    #[error("at least one share of at least one row is needed")]
    NothingToTry,
    /// A folder of a trial with other settings.
    #[error("the folder of this trial has activations that were captured with other settings: {}", folder.display())]
    OtherTrial {
        /// The folder.
        folder: PathBuf,
    },
    /// Images that questions need and that cannot be read.
    #[error("features that fire on images cannot be shown")]
    NoPictures {
        /// Why.
        source: Box<Error>,
    },
    /// Labeling that stopped early.
    #[error("{} saved", counted(*saved as u64, "label"))]
    LabelsSaved {
        /// Labels that were saved by then.
        saved: usize,
        /// Why it stopped.
        source: Box<Error>,
    },
    /// Of several paths, one that is no data set.
    #[error("{} is not a data set, and only data sets are described together", path.display())]
    NoDataSet {
        /// The path.
        path: PathBuf,
    },
    /// A path that does not exist.
    #[error("no file or folder exists at {}", path.display())]
    NothingThere {
        /// The path.
        path: PathBuf,
    },
    /// A benchmark of sizes that make no sense.
    #[error("a benchmark needs {expected}")]
    Bench {
        /// What is needed.
        expected: &'static str,
    },
    /// A folder without the bundled model.
    #[error("the bundled model is not in {}", folder.display())]
    NoAssets {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder with a demo of other settings.
    #[error("{} holds a demo with other settings", run.display())]
    OtherDemo {
        /// The folder.
        run: PathBuf,
    },
    /// The demo's data without swapped captions, or without right ones.
    #[error("the demo's data has no swapped captions to find")]
    NoSwappedCaptions,
}

/// The state of an unfinished training, in words.
pub(crate) fn unfinished(step: Option<u64>) -> String {
    step.map_or("unfinished".into(), |step| format!("unfinished, step {}", count(step)))
}

fn joined(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
