//! How a program follows an operation and stops it. Operations never print: they report stages, positions and notices to a
//! [`Progress`], and check a [`Cancel`] token between two steps of long work.

use crate::Result;
use harvest::Memory;
use sae_core::analysis::pass::{Block, Observer};
use sae_core::store::Skipped;
use sae_core::train::StepLog;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What an operation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// A checkpoint is downloaded; counted in bytes.
    Download,
    /// Files are uploaded; counted in bytes.
    Upload,
    /// Shards are compared with their hashes; counted in token positions.
    Check,
    /// A model reads a data set; counted in rows of the data.
    Harvest,
    /// Activations of another tool are copied; counted in token positions.
    Import,
    /// Steps of training.
    Train,
    /// The processes of a training connect to each other.
    Connect,
    /// A pass for an evaluation; counted in token positions, as all passes are.
    Evaluate,
    /// A pass for the index.
    Index,
    /// Cross-modal weights are computed.
    Weights,
    /// Promoted and suppressed tokens; counted in features.
    PromotedTokens,
    /// The words that are typical of features are read.
    TypicalWords,
    /// Neighbors and coactivity are computed.
    Neighbors,
    /// A pass over the run that is scored.
    Score,
    /// A pass over a run that scores are fitted to.
    Calibrate,
    /// A pass over the same samples with their rejected answers.
    Rejected,
    /// A pass over the same samples with blank images.
    BlankImages,
    /// The states of parts of a pass are merged; counted in parts.
    Merge,
    /// Processes run the parts of a job; counted in parts.
    Launch,
    /// Scores are computed and fitted.
    Fit,
    /// A pass that averages hidden states.
    Hidden,
    /// A whole model reads a data set; counted in rows of the data.
    Model,
    /// A pass that collects the features of every sample.
    Features,
    /// A pass that looks for the features of words.
    Words,
    /// Features are tested.
    Contrast,
    /// Probes are fitted.
    Probe,
    /// Pairs of answers are chosen; counted in topologies.
    Pairs,
    /// Rows of the data set are copied.
    Rows,
    /// Rows of a data set are read, to describe them.
    Describe,
    /// A model and an autoencoder look at images; counted in rows of the data.
    Patches,
    /// A model writes answers; counted in rows of the data.
    Generate,
    /// Features are labeled.
    Label,
    /// Features are written.
    Export,
}

impl Stage {
    /// A short name, for a progress bar.
    pub fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Check => "check",
            Self::Harvest => "harvest",
            Self::Import => "import",
            Self::Train => "train",
            Self::Connect => "connect",
            Self::Evaluate => "eval",
            Self::Index => "index",
            Self::Weights => "weights",
            Self::PromotedTokens => "tokens",
            Self::TypicalWords => "typical words",
            Self::Neighbors => "neighbors",
            Self::Score => "score",
            Self::Calibrate => "calibrate",
            Self::Rejected => "rejected",
            Self::BlankImages => "blank",
            Self::Merge => "merge",
            Self::Launch => "launch",
            Self::Fit => "fit",
            Self::Hidden => "hidden",
            Self::Model => "model",
            Self::Features => "features",
            Self::Words => "words",
            Self::Contrast => "contrast",
            Self::Probe => "probe",
            Self::Pairs => "pairs",
            Self::Rows => "rows",
            Self::Describe => "read",
            Self::Patches => "patches",
            Self::Generate => "generate",
            Self::Label => "label",
            Self::Export => "export",
        }
    }
}

/// More information about a position.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Detail<'a> {
    /// Nothing.
    None,
    /// A download or an upload: the file under way.
    Transfer {
        /// Its name in the repository.
        file: &'a str,
    },
    /// A harvest: what has been captured so far.
    Harvest {
        /// Token positions in all.
        positions: u64,
        /// Token positions per second since this call began.
        positions_per_s: f64,
        /// Rows that could not be used.
        skipped: u64,
    },
    /// A generation: what was written since this call began.
    Generate {
        /// Tokens, versions that did not stay included.
        tokens: u64,
        /// Tokens per second.
        tokens_per_s: f64,
    },
    /// A training: the measurements of a step, for the first autoencoder.
    Train {
        /// The step.
        step: &'a StepLog,
        /// Tokens per second, for all autoencoders together.
        tokens_per_s: f64,
    },
}

/// Something that the user should know, although the operation continues.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// About the data, although no row is lost.
    Data(&'a str),
    /// The memory that a harvest will need.
    Memory(Memory),
    /// Rows of the data that online training could not use.
    SkippedRows {
        /// How many.
        rows: u64,
        /// The first of them.
        first: &'a Skipped,
    },
    /// No checkpoint could be written at a step; the one before it is kept.
    NoCheckpoint {
        /// The step.
        step: u64,
        /// Why.
        cause: &'a sae_core::Error,
    },
    /// The log could not be written at a step.
    NoLog {
        /// The step.
        step: u64,
        /// Why.
        cause: &'a sae_core::Error,
    },
    /// Processes that train on NVIDIA GPUs do not exchange by NCCL.
    WithoutNccl {
        /// Why.
        cause: &'a str,
    },
    /// Stored summaries of samples were not used, and are made again.
    StaleSummaries {
        /// Their file.
        path: &'a Path,
        /// Why.
        cause: &'a str,
    },
    /// Summaries of samples could not be stored, so that the next question needs a pass as well.
    NoSummaries {
        /// Their file.
        path: &'a Path,
        /// Why.
        cause: &'a sae_core::Error,
    },
    /// Most groups of samples have a single one.
    SingleGroups {
        /// Groups with one sample.
        singles: usize,
        /// All groups.
        groups: usize,
        /// The fields that divide samples into groups.
        fields: &'a str,
    },
}

/// Follows an operation: its stages, how far each of them is, and notices.
pub trait Progress {
    /// A stage begins. `total` is the position at its end, if that is known.
    fn start(&mut self, stage: Stage, total: Option<u64>);
    /// A position is reached. The first one of a stage is where it began, because an earlier call may have done a part of it. The
    /// total may have grown since the stage began.
    fn advance(&mut self, position: u64, total: Option<u64>, detail: Detail);
    /// The stage is over, whether it succeeded or not.
    fn finish(&mut self);
    /// Something that the user should know.
    fn notice(&mut self, notice: &Notice);
}

/// A [`Progress`] that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn start(&mut self, _: Stage, _: Option<u64>) {}
    fn advance(&mut self, _: u64, _: Option<u64>, _: Detail) {}
    fn finish(&mut self) {}
    fn notice(&mut self, _: &Notice) {}
}

/// A request to stop, shared between the caller and the operation.
#[derive(Clone, Debug)]
pub struct Cancel {
    requested: Arc<AtomicBool>,
    unattended: Arc<AtomicBool>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self { requested: Arc::default(), unattended: Arc::new(AtomicBool::new(true)) }
    }
}

impl Cancel {
    /// A token that has not been used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the operation to stop. What it has stored so far stays, and the same request continues there.
    pub fn cancel(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// The flag that [`Cancel::cancel`] sets, for a signal handler.
    pub fn requested(&self) -> Arc<AtomicBool> {
        self.requested.clone()
    }

    /// Set while the operation has nothing to save: a program that receives a signal may then end at once. For a signal handler.
    pub fn unattended(&self) -> Arc<AtomicBool> {
        self.unattended.clone()
    }

    /// Until the guard is dropped, the operation checks the token often, and saves its work before it stops.
    pub(crate) fn attend(&self) -> Attended {
        self.unattended.store(false, Ordering::SeqCst);
        Attended(self.unattended.clone())
    }

    /// An error if [`Cancel::cancel`] was called.
    pub(crate) fn check(&self) -> sae_core::Result<()> {
        if self.is_cancelled() { Err(sae_core::Error::Cancelled) } else { Ok(()) }
    }
}

/// See [`Cancel::attend`].
pub(crate) struct Attended(Arc<AtomicBool>);

impl Drop for Attended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Ends a pass once [`Cancel::cancel`] is called.
impl Observer for Cancel {
    fn observe(&mut self, _: &Block) -> sae_core::Result<()> {
        self.check()
    }
}

/// What an operation is run with: a [`Progress`] that follows it, and a [`Cancel`] token that stops it. The default has neither.
///
/// ```
/// use sae_workbench::{Cancel, Control, NoProgress};
///
/// let cancel = Cancel::new();
/// let control = Control::new(NoProgress, cancel.clone());
/// cancel.cancel();
/// assert!(control.is_cancelled());
/// ```
pub struct Control {
    progress: Box<dyn Progress>,
    cancel: Cancel,
}

impl Default for Control {
    fn default() -> Self {
        Self::new(NoProgress, Cancel::new())
    }
}

impl Control {
    /// Reports to `progress`, and stops when `cancel` is used.
    pub fn new(progress: impl Progress + 'static, cancel: Cancel) -> Self {
        Self { progress: Box::new(progress), cancel }
    }

    /// Whether the operation was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The token that stops the operation.
    pub(crate) fn token(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Reports something that the user should know.
    pub(crate) fn notice(&mut self, notice: &Notice) {
        self.progress.notice(notice);
    }

    /// Reports notes about the data.
    pub(crate) fn data_notes(&mut self, notes: &[String]) {
        notes.iter().for_each(|note| self.notice(&Notice::Data(note)));
    }

    /// Begins a stage, which ends when the returned value is dropped.
    ///
    /// # Errors
    /// The operation was asked to stop.
    pub(crate) fn stage(&mut self, stage: Stage, total: impl Into<Option<u64>>) -> Result<Staged<'_>> {
        let total = total.into();
        self.cancel.check()?;
        self.progress.start(stage, total);
        Ok(Staged { control: self, total })
    }
}

/// A running stage.
pub(crate) struct Staged<'a> {
    control: &'a mut Control,
    total: Option<u64>,
}

impl Staged<'_> {
    /// The token that can stop it.
    pub(crate) fn cancel(&self) -> Cancel {
        self.control.cancel.clone()
    }

    /// The total has become known, or larger.
    pub(crate) fn extend(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// Reports a position.
    ///
    /// # Errors
    /// The operation was asked to stop.
    pub(crate) fn advance(&mut self, position: u64) -> sae_core::Result<()> {
        self.advance_with(position, Detail::None)
    }

    /// [`Staged::advance`] with more information.
    pub(crate) fn advance_with(&mut self, position: u64, detail: Detail) -> sae_core::Result<()> {
        self.show_with(position, detail);
        self.control.cancel.check()
    }

    /// Reports a position, without checking whether to stop.
    pub(crate) fn show(&mut self, position: u64) {
        self.show_with(position, Detail::None);
    }

    /// [`Staged::show`] with more information.
    pub(crate) fn show_with(&mut self, position: u64, detail: Detail) {
        self.control.progress.advance(position, self.total, detail);
    }

    /// Reports something that the user should know.
    pub(crate) fn notice(&mut self, notice: &Notice) {
        self.control.progress.notice(notice);
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        self.control.progress.finish();
    }
}
