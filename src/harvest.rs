//! Harvesting: runs a model on a data set and stores its activations in a run, and on request a second time with blank images.

use crate::control::{Control, Detail, Notice, Stage};
use crate::{Result, model};
use filters::pmi::BLANK_DIR;
use harvest::{Plan, Preview};
use sae_core::Run;
use sae_core::error::Setting;
use sae_core::store::{Hook, Skipped, StoreRecord, load_samples};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to capture, and where to put it.
///
/// ```
/// use sae_core::store::Hook;
/// use sae_workbench::{Control, HarvestRequest};
///
/// # let folder = tempfile::tempdir().expect("a temporary folder");
/// # let run = folder.path().join("run");
/// let hooks = vec![Hook::block(4)];
/// let mut request = HarvestRequest::new("assets/demo-mllm", "assets/demo-data/data.jsonl", hooks.clone(), &run);
/// request.plan.limit = Some(6);
///
/// // The plan reads the configuration of the model and counts the rows of the data, but captures nothing.
/// let plan = request.plan()?.plan;
/// assert_eq!((plan.rows, plan.d_in, plan.hooks), (6, 256, hooks));
/// assert!(!run.exists());
///
/// let report = request.run(&mut Control::default())?;
/// assert_eq!((report.samples, report.skipped_rows), (6, 0));
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HarvestRequest {
    /// How the model reads the data. The model may be a name on the Hugging Face hub, which is downloaded once.
    pub plan: Plan,
    /// The run folder. An interrupted harvest in it is continued.
    pub run: PathBuf,
    /// Whether the same samples are captured a second time with blank images, into a subfolder of the run.
    pub blank_images: bool,
}

/// What a harvest would do.
#[derive(Clone, Debug, Serialize)]
pub struct HarvestPlan {
    /// `harvest`.
    pub command: &'static str,
    /// The run folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub run: PathBuf,
    /// The model, the rows of the data, the memory.
    pub plan: Preview,
}

/// What a harvest captured, including earlier calls.
#[derive(Clone, Debug, Serialize)]
pub struct HarvestReport {
    /// Samples in the run.
    pub samples: u64,
    /// Token positions in the run.
    pub tokens: u64,
    /// What was captured.
    pub hooks: Vec<Hook>,
    /// Rows that became no sample, a few for every kind of reason. `skipped.jsonl` has all of them.
    pub skipped: Vec<Skipped>,
    /// How many rows became no sample.
    pub skipped_rows: u64,
    /// Seconds that this call took.
    pub seconds: f64,
    /// Rows of the data that were read.
    #[serde(skip)]
    pub source_rows: u64,
}

impl HarvestRequest {
    /// Captures the activations at these hooks on a whole data set.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>, hooks: Vec<Hook>, run: impl Into<PathBuf>) -> Self {
        Self { plan: Plan::new(model, data, hooks), run: run.into(), blank_images: false }
    }

    /// What [`HarvestRequest::run`] would do.
    ///
    /// # Errors
    /// Whatever would prevent the harvest; a model that has not been downloaded.
    pub fn plan(&self) -> Result<HarvestPlan> {
        self.check()?;
        let plan = model::resolve(&self.plan, None)?;
        Ok(HarvestPlan { command: "harvest", run: self.run.clone(), plan: plan.preview()? })
    }

    /// Rejects a second pass over pieces, before the first one.
    fn check(&self) -> Result<()> {
        if self.blank_images && self.plan.pieces.is_some() {
            let (setting, reason) = (Setting::BlankImages, "blank images are captured of whole samples");
            return Err(harvest::Error::PiecesExclude { setting, reason }.into());
        }
        Ok(())
    }

    /// Captures.
    ///
    /// # Errors
    /// A model or data that cannot be read, a run with another harvest, a full disk, a request to stop. Everything stored by then
    /// stays, and the same request continues there.
    pub fn run(&self, control: &mut Control) -> Result<HarvestReport> {
        self.check()?;
        let plan = model::resolve(&self.plan, Some(control))?;
        let start = Instant::now();
        let record = capture(&plan, &self.run, control)?;
        if self.blank_images {
            capture_blank(&plan, &self.run, control)?;
        }
        let done = record.progress();
        Ok(HarvestReport {
            samples: done.samples,
            tokens: done.rows,
            hooks: record.spec.hooks,
            skipped: record.skipped,
            skipped_rows: done.skipped(),
            seconds: start.elapsed().as_secs_f64(),
            source_rows: done.source_rows,
        })
    }
}

/// Captures, or continues an interrupted capture.
pub(crate) fn capture(plan: &Plan, run: &Path, control: &mut Control) -> Result<StoreRecord> {
    // Before the run folder is made, so that a plan that cannot work leaves no files.
    let preview = plan.preview()?;
    let run = Run::create(run)?;
    control.data_notes(&preview.notes);
    control.notice(&Notice::Memory(preview.memory));
    let mut staged = control.stage(Stage::Harvest, preview.rows)?;
    let start = Instant::now();
    let mut before = None;
    let record = harvest::harvest(plan, &run, &mut |progress| {
        // Positions that an earlier call stored do not count for the speed of this one.
        let first = *before.get_or_insert(progress.positions);
        let detail = Detail::Harvest {
            positions: progress.positions,
            positions_per_s: (progress.positions - first) as f64 / start.elapsed().as_secs_f64(),
            skipped: progress.skipped,
        };
        // Such as a device that failed.
        plan.notes.take().iter().for_each(|note| staged.notice(&Notice::Data(note)));
        Ok(staged.advance_with(progress.samples + progress.skipped, detail)?)
    })?;
    drop(staged);
    control.data_notes(&plan.notes.take());
    Ok(record)
}

/// Captures the samples of a finished harvest with blank images, into the subfolder where scoring looks for them.
pub(crate) fn capture_blank(plan: &Plan, run: &Path, control: &mut Control) -> Result<StoreRecord> {
    let samples = load_samples(&Run::open(run)?)?;
    capture(&plan.blank(&samples), &run.join(BLANK_DIR), control)
}
