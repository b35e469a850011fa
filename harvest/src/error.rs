//! The one error type of this crate: what stops a harvest, with the cause, the file, and what can be done about it. A row
//! of the data that is merely skipped is not an error; it carries a reason (`sae_core::store::Skipped`). Never prints.

use sae_core::device::DeviceChoice;
use sae_core::error::{Cause, Hint, Setting};
use sae_core::store::{Hook, Skipped, hooks};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// What stops a harvest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Files, tables, the store or the device.
    #[error(transparent)]
    Core(#[from] sae_core::Error),
    /// A checkpoint that is incomplete, damaged, or of a kind that this crate does not support.
    #[error("{cause}: {}", .path.display())]
    Checkpoint {
        /// What is wrong with it.
        cause: String,
        /// The file or folder.
        path: PathBuf,
    },
    /// A data set that cannot be read. (A bad row is skipped instead.)
    #[error("{cause}: {}", .path.display())]
    Data {
        /// What is wrong with it.
        cause: String,
        /// The file or folder.
        path: PathBuf,
    },
    /// A repository of the hub that cannot be read, or written to.
    #[error("{cause}: {model}")]
    Hub {
        /// What prevents it.
        cause: String,
        /// `org/name@revision`.
        model: String,
    },
    /// The hub was asked for a name that is not one of its models.
    #[error("invalid model name {0:?}: expected org/name or org/name@revision")]
    ModelName(String),
    /// An object of a bucket, or a folder of objects, that cannot be read or written.
    #[error("{cause}: {url}")]
    Objects {
        /// What prevents it.
        cause: String,
        /// Its address.
        url: String,
    },
    /// A server of `sae serve` that does not answer, or does not do what it was asked.
    #[error("{cause}: {address}")]
    Server {
        /// What prevents it.
        cause: String,
        /// Its address, without the token.
        address: String,
    },
    /// There is no folder in which copies of objects could be.
    #[error("there is no home folder, so copies of objects have no place")]
    NoObjectCache {
        /// The variable that names one.
        variable: &'static str,
    },
    /// There is no folder in which the hub's cache could be.
    #[error("there is no home folder, so the cache of the hub has no place")]
    NoHomeFolder,
    /// An endpoint that does not answer as expected.
    #[error("{cause}: {url}")]
    Endpoint {
        /// What it did.
        cause: String,
        /// Its address.
        url: String,
    },
    /// A plan names a decoder block that the model does not have.
    #[error("there is no layer {asked}: the model has {blocks} decoder blocks, 0 to {}", .blocks.saturating_sub(1))]
    UnknownLayer {
        /// The block that was asked for, counted from 0.
        asked: usize,
        /// Decoder blocks of the model.
        blocks: usize,
    },
    /// A block was asked for that this model has, but that was not loaded.
    #[error("layer {asked} is not loaded: only the first {loaded} decoder blocks are")]
    LayerNotLoaded {
        /// The block that was asked for, counted from 0.
        asked: usize,
        /// Decoder blocks that are loaded.
        loaded: usize,
    },
    /// A plan names devices of different kinds.
    #[error(
        "{first} and {other} are devices of different kinds: expected several of one kind, such as cuda:0 and cuda:1"
    )]
    MixedDevices {
        /// The first device.
        first: DeviceChoice,
        /// One of another kind.
        other: DeviceChoice,
    },
    /// A plan divides rows into pieces and has a setting that excludes this.
    #[error("rows cannot be divided into pieces with this setting ({setting}): {reason}")]
    PiecesExclude {
        /// The setting.
        setting: Setting,
        /// Why they exclude each other.
        reason: &'static str,
    },
    /// A plan names a shard of trees.
    #[error("the rows of a tree may be in several shards: expected no shard with the pieces of trees")]
    ShardedTree,
    /// A plan corrupts trees.
    #[error("{kind} changes the answers or images of whole rows: expected no corruption with the pieces of trees")]
    CorruptedTree {
        /// The kind of the corruption.
        kind: &'static str,
    },
    /// The rows of trees are too large to be held in memory.
    #[error(
        "the first {rows} rows are larger than {} GiB: rows of trees are held in memory, because a parent may come after its \
         children",
        .limit >> 30
    )]
    LargeTrees {
        /// Rows that were read before.
        rows: u64,
        /// Bytes that may be held.
        limit: u64,
    },
    /// Something that reads whole samples was given a plan that divides rows into pieces.
    #[error("{what} reads whole samples, and the plan divides rows into pieces")]
    PiecesUnread {
        /// What reads the data.
        what: &'static str,
    },
    /// A plan names no hook, where at least one is needed.
    #[error("no hook was named: expected at least one, such as {}", Hook::block(16))]
    NoHook,
    /// A plan names several hooks or none, where exactly one is needed.
    #[error("expected exactly one hook, found {}: {}", .found.len(), hooks::in_words(.found))]
    OneHook {
        /// The hooks of the plan.
        found: Vec<Hook>,
    },
    /// A model was to continue from states within a block without the residual stream beside them.
    #[error(
        "the states at {hook} are not what a pass that pauses there returned: the residual stream beside them is missing"
    )]
    NotPaused {
        /// The hook.
        hook: Hook,
    },
    /// A hook of images in a model without a vision tower.
    #[error("there is no {hook}: the model has no vision tower with a projector")]
    NoTower {
        /// The hook.
        hook: Hook,
    },
    /// A block of the vision tower that the model does not use.
    #[error("there is no vision.{asked}: the model uses {blocks} blocks of its vision tower, 0 to {}", .blocks.saturating_sub(1))]
    UnknownTowerBlock {
        /// The block that was asked for, counted from 0.
        asked: usize,
        /// Blocks that are used.
        blocks: usize,
    },
    /// A hook of images beside others, which have other positions.
    #[error("{hook} has positions of its own, those of images: expected no other hook beside it")]
    BesideImages {
        /// The hook.
        hook: Hook,
    },
    /// States were to be replaced or continued at a hook before the decoder.
    #[error(
        "nothing is replaced, steered or predicted at {hook}: expected a hook of the decoder, such as {}",
        Hook::block(16)
    )]
    BeforeDecoder {
        /// The hook.
        hook: Hook,
    },
    /// States were to be replaced by what is made from states that the model computes later.
    #[error(
        "states at {replaced} cannot be replaced by what is made from those at {read}, which are not computed before them"
    )]
    ReadAfterReplaced {
        /// Where states are read.
        read: Hook,
        /// Where they are replaced.
        replaced: Hook,
    },
    /// Pieces of rows at a hook before the decoder, where images have no pieces.
    #[error("rows cannot be divided into pieces at {hook}, where only images are captured")]
    PiecesOfImages {
        /// The hook.
        hook: Hook,
    },
    /// The logit lens was asked for directions at a hook whose activations are not added to the residual stream.
    #[error("directions at {hook} promote no tokens: they are not of the residual stream, or of what is added to it")]
    NotInStream {
        /// The hook.
        hook: Hook,
    },
    /// A size is zero.
    #[error("{what} is 0: expected at least 1")]
    ZeroSize {
        /// Which size.
        what: &'static str,
    },
    /// A data set has fewer rows than a job has shards.
    #[error("the data has {rows} rows, too few for {shards} shards")]
    TooFewRows {
        /// Rows of the data.
        rows: u64,
        /// Shards of the job.
        shards: u32,
    },
    /// An interrupted harvest would continue with images from a different folder.
    #[error(
        "this harvest was begun with images from {begun}, but would continue with images from {asked}: {}",
        .run.display()
    )]
    OtherImages {
        /// Where the images of the stored samples came from, in words.
        begun: String,
        /// Where the images would come from, in words.
        asked: String,
        /// The run.
        run: PathBuf,
    },
    /// No row of the data gave a position to train on.
    #[error("the data has no position to train on: every row was skipped or every position was excluded")]
    NoPositions,
    /// The tokens and the images of a sample do not fit each other or the model.
    #[error("{0}")]
    InvalidInput(String),
    /// Hidden states were given for samples of other lengths.
    #[error("hidden states of samples of {found:?} tokens were given for samples of {expected:?} tokens")]
    SampleLengths {
        /// Tokens of each sample.
        expected: Vec<usize>,
        /// Rows of the hidden states of each sample.
        found: Vec<usize>,
    },
    /// A sample does not continue the one whose keys and values are kept.
    #[error("a sample of {length} tokens does not continue the {kept} tokens whose keys and values are kept")]
    NotContinued {
        /// Tokens whose keys and values are kept.
        kept: usize,
        /// Tokens of the sample.
        length: usize,
    },
    /// A prediction was asked for at a position that no token precedes, or that the sample does not have.
    #[error("no token precedes position {position} of a sample of {length} tokens, so nothing predicts it")]
    NotPredicted {
        /// The position, counted from 0.
        position: usize,
        /// Tokens of the sample.
        length: usize,
    },
    /// Directions have another width than the model's residual stream.
    #[error("directions are {found} wide, but the model's residual stream is {expected} wide: {}", .folder.display())]
    Width {
        /// Width of the residual stream.
        expected: usize,
        /// Width of the directions.
        found: usize,
        /// The checkpoint.
        folder: PathBuf,
    },
    /// Two models that have to fit each other do not.
    #[error("the models do not fit each other: {found} {what} here, {expected} in the first: {}", .folder.display())]
    ModelsDiffer {
        /// What is counted.
        what: &'static str,
        /// The number of the first model.
        expected: usize,
        /// The number of this model.
        found: usize,
        /// The checkpoint.
        folder: PathBuf,
    },
    /// A text reached the end of the model's context.
    #[error("the text reached the end of the model's context of {context} tokens")]
    ContextFull {
        /// Tokens of the context.
        context: usize,
    },
    /// An import was given something that its format does not use.
    #[error("{format} files take no {option}: {reason}")]
    ImportOption {
        /// The format.
        format: &'static str,
        /// What was given.
        option: &'static str,
        /// Why it is not used.
        reason: &'static str,
    },
    /// An error together with what can be done about it.
    #[error("{error}")]
    Hinted {
        /// The error.
        error: Box<Error>,
        /// What to do.
        hint: Hint,
    },
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The same error with what can be done about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<Hint>) -> Self {
        Self::Hinted { error: Box::new(self), hint: hint.into() }
    }

    /// What a person can do about the error, where that is known.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Core(error) => error.hint(),
            Self::Hinted { hint, .. } => Some(hint.clone()),
            Self::NoHomeFolder => Some("set HF_HOME to a folder".into()),
            Self::NoObjectCache { variable } => Some(format!("set {variable} to a folder").into()),
            Self::PiecesExclude { setting, .. } => Some(Hint::Unset(*setting)),
            Self::LargeTrees { .. } => {
                Some("divide the data into files of whole trees, and capture each into a run".into())
            }
            Self::ShardedTree => {
                Some("capture all trees in one run, or divide the data into files of whole trees".into())
            }
            Self::BesideImages { .. } => Some("capture each into a run of its own".into()),
            Self::PiecesOfImages { .. } => Some(Hint::Unset(Setting::Pieces)),
            Self::PiecesUnread { .. } => Some(Hint::Unset(Setting::Pieces)),
            Self::OtherImages { .. } => Some("name the same folder of images, or begin a new run".into()),
            Self::TooFewRows { rows, .. } => Some(format!("use at most {rows} shards").into()),
            _ => None,
        }
    }

    /// The error in words, and its hint on a line of its own after it.
    pub fn message(&self) -> String {
        sae_core::error::message(self, self.hint())
    }

    /// For `map_err` on anything that says what is wrong with the checkpoint's file at `path`.
    pub(crate) fn checkpoint<C: Display>(path: &Path) -> impl FnOnce(C) -> Error + '_ {
        move |cause| Error::Checkpoint { cause: cause.to_string(), path: path.to_path_buf() }
    }

    /// For `map_err` on anything that says what is wrong with the data's file at `path`.
    pub(crate) fn data<C: Display>(path: &Path) -> impl FnOnce(C) -> Error + '_ {
        move |cause| Error::Data { cause: cause.to_string(), path: path.to_path_buf() }
    }

    /// For `map_err` on a prompt that a person typed, which is not skipped as a row of a data set would be.
    pub(crate) fn unusable(skipped: Skipped) -> Self {
        let error = Self::InvalidInput(skipped.reason);
        skipped.hint.into_iter().fold(error, Self::with_hint)
    }

    /// For `map_err` on file operations.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
        move |source| sae_core::Error::io(doing, path)(source).into()
    }
}

/// Errors of this crate as the store's: for sources of activations, which report `sae_core` errors. The hint is kept.
impl From<Error> for sae_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Core(error) => error,
            error => {
                let (text, hint) = (error.to_string(), error.hint());
                Self::Config(Cause { text, hint })
            }
        }
    }
}
