//! The harvest itself: rows become samples, samples parts, parts go through the model in batches and into the store. What a part holds depends on the data alone, so that an interrupted harvest goes on with the same bytes.

use crate::checkpoint::{Answers, Checkpoint, Prepared, Templating, fingerprint};
use crate::data::{Corruption, ImageSizes, Mapping, Notes, Row, Rows, Source, altered};
use crate::model::{Compute, Input, Model, check_layers};
use crate::{Error, Result, Shard};
use burn::tensor::DType;
use rayon::prelude::*;
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::path_text;
use sae_core::store::sample::Sample;
use sae_core::store::{Part, STEP, Skipped, StoreDtype, StoreRecord, StoreSpec, StoreWriter, check_storable};
use serde::Serialize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Rows that are prepared at once, each on a thread of its own.
pub(crate) const CHUNK: usize = 64;

/// Batches in the model at once: what one thread does alone for one of them, another does not wait for.
pub(crate) const TOGETHER: usize = 2;

/// What the model computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 4 bytes a weight.
    #[default]
    F32,
    /// 2 bytes a weight; a GPU computes in it, a CPU widens it and adds up in `f32`.
    Bf16,
}

impl FromStr for ComputeDtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("invalid dtype {name:?}: expected f32 or bf16")),
        }
    }
}

impl From<ComputeDtype> for DType {
    fn from(dtype: ComputeDtype) -> Self {
        match dtype {
            ComputeDtype::F32 => Self::F32,
            ComputeDtype::Bf16 => Self::BF16,
        }
    }
}

/// What is to be harvested, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Checkpoint folder.
    pub model: PathBuf,
    /// Data set: a file or a folder.
    pub data: PathBuf,
    /// Fields and the columns that hold them, where the data set calls them otherwise.
    pub mapping: Mapping,
    /// The folder that paths of images are relative to, where it is not that of the file that names them.
    pub images_root: Option<PathBuf>,
    /// Whether images behind links are fetched.
    pub fetch_images: bool,
    /// What is done to rows before the model reads them; usually nothing.
    pub alterations: Vec<Corruption>,
    /// Sizes of the images, where a first pass found them: white images are made without reading a file, and rows that the
    /// first pass skipped are skipped again ([`Plan::blank`]).
    pub image_sizes: Option<Arc<ImageSizes>>,
    /// Collects what people should know about the data although it costs no row.
    pub notes: Notes,
    /// Decoder blocks to capture behind, counted from 0.
    pub layers: Vec<usize>,
    /// Rows of the data to read; all of them if there is no limit.
    pub limit: Option<u64>,
    /// Which share of those rows; all of them if none is named. (Training without a store reads all.)
    pub shard: Option<Shard>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// What to compute in.
    pub dtype: ComputeDtype,
    /// How activations are stored.
    pub store_dtype: StoreDtype,
    /// Most positions of a batch; a longer sample is a batch of its own.
    pub batch_tokens: usize,
    /// A part is closed when it holds this many positions.
    pub part_rows: usize,
    /// Which answers go in.
    pub answers: Answers,
    /// Whether the chat template is used.
    pub template: Templating,
}

impl Plan {
    /// A plan with the defaults.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>, layers: Vec<usize>) -> Self {
        Self {
            model: model.into(),
            data: data.into(),
            mapping: Mapping::new(),
            images_root: None,
            fetch_images: false,
            alterations: Vec::new(),
            image_sizes: None,
            notes: Notes::default(),
            layers,
            limit: None,
            shard: None,
            device: DeviceChoice::Auto,
            dtype: ComputeDtype::F32,
            store_dtype: StoreDtype::F32,
            batch_tokens: 4096,
            part_rows: 65_536,
            answers: Answers::All,
            template: Templating::Auto,
        }
    }

    /// The second pass over `samples`, which this plan captured: the same samples, with white images in place of theirs.
    #[must_use]
    pub fn blank(&self, samples: &[Sample]) -> Self {
        let mut plan = self.clone();
        plan.alterations.push(Corruption::BLANK);
        plan.image_sizes = Some(Arc::new(ImageSizes::new(samples)));
        plan
    }

    /// The data set.
    pub(crate) fn source(&self) -> Result<Source> {
        let source = Source::open(&self.data)?.images_in(self.images_root.clone())?;
        Ok(source.noting(&self.notes).fetching(self.fetch_images))
    }

    /// Its rows as the model reads them. Rows may be passed over (`nth`, `skip`) at little cost: images are read and altered
    /// where rows are prepared.
    pub(crate) fn stream(&self, source: &Source) -> Result<Rows> {
        let rows = source.rows(&self.mapping)?;
        let alterations = self.alterations.iter();
        Ok(alterations.fold(rows, |rows, alteration| altered(rows, *alteration, self.image_sizes.clone())))
    }

    /// The first row that is read, and the row before which reading ends (the last shard reads whatever there is).
    pub(crate) fn rows(&self, source: &Source) -> Result<(u64, u64)> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let Some(shard) = self.shard else { return Ok((0, limit)) };
        let range = shard.rows(source.count()?.min(limit))?;
        Ok((range.start, if shard.is_last() { limit } else { range.end }))
    }

    /// The arguments that decide what is written, for people and for the fingerprint; the same for all shards of a job,
    /// which may run on several GPUs of a machine.
    pub(crate) fn arguments(&self) -> serde_json::Value {
        let device = self.device.to_string();
        let mut arguments = serde_json::json!({
            "map": self.mapping,
            "fetch_images": self.fetch_images,
            "layers": self.layers,
            "limit": self.limit,
            "device": device.split(':').next(),
            "dtype": self.dtype,
            "store_dtype": self.store_dtype,
            "batch_tokens": self.batch_tokens,
            "part_rows": self.part_rows,
            "answers": self.answers,
            "template": self.template,
        });
        if !self.alterations.is_empty() {
            arguments["alterations"] = serde_json::json!(self.alterations);
        }
        arguments
    }
}

/// How far a harvest is. Counts include what an interrupted harvest had stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureProgress {
    /// Rows of the data that are done with.
    pub source_rows: u64,
    /// Samples that went through the model.
    pub samples: u64,
    /// Token positions that went through the model.
    pub positions: u64,
    /// Rows that were skipped.
    pub skipped: u64,
}

/// Harvests, or goes on with a harvest of the same plan; reports after every batch.
///
/// # Errors
/// The plan does not fit the checkpoint (nothing has been written then), a file cannot be read, the disk is full, or whatever
/// `progress` returns: the parts that are finished by then stay. Rows that cannot be used stop nothing: they are listed in
/// what is returned.
pub fn harvest(
    plan: &Plan,
    run: &Run,
    progress: &mut dyn FnMut(&CaptureProgress) -> Result<()>,
) -> Result<StoreRecord> {
    let mut plan = plan.clone();
    plan.layers.sort_unstable();
    plan.layers.dedup();
    let Some(last) = plan.layers.last().copied() else {
        return Err(Error::Plan("no layer to harvest was named".into()));
    };
    if plan.batch_tokens == 0 || plan.part_rows == 0 {
        return Err(Error::Plan("a batch and a part hold at least one token".into()));
    }
    let checkpoint = Checkpoint::open(&plan.model)?;
    check_layers(checkpoint.config(), &plan.layers)?;
    let source = plan.source()?;
    let device = plan.device.open()?;
    let (first_row, end) = plan.rows(&source)?;

    let arguments = plan.arguments();
    let weights = checkpoint.fingerprint()?;
    let data = fingerprint(source.files.iter().map(PathBuf::as_path))?;
    let with_places = placed(arguments.clone(), &plan, &source);
    check_images(run, &with_places)?;
    let mut writer = StoreWriter::open(
        run,
        StoreSpec {
            model: name(&plan.model),
            architecture: checkpoint.config().architecture.clone(),
            layers: plan.layers.clone(),
            d_in: checkpoint.config().text.hidden_size,
            dtype: plan.store_dtype,
            fingerprint: format!("{weights}-{data}-{arguments}"),
            slice: plan.shard.map(|shard| shard.slice(first_row)),
            arguments: with_places,
        },
    )?;
    if writer.is_complete() {
        return Ok(writer.finish()?);
    }
    let model = checkpoint.load(Some(last), &Compute::on(&device, plan.dtype.into()))?;
    let stored = writer.progress();
    let mut so_far = CaptureProgress {
        source_rows: stored.source_rows,
        samples: stored.samples,
        positions: stored.rows,
        skipped: stored.skipped(),
    };
    let rows = plan.stream(&source)?;
    // Samples of the next part are prepared while the model runs on this one.
    let (sender, drafts) = sync_channel(1);
    std::thread::scope(|scope| {
        let (checkpoint, plan) = (&checkpoint, &plan);
        let rows = rows.take(usize::try_from(end).unwrap_or(usize::MAX));
        let done = usize::try_from(first_row + stored.source_rows).unwrap_or(usize::MAX);
        scope.spawn(move || draft_parts(checkpoint, plan, rows.skip(done), &sender));
        for drafted in drafts {
            let draft = match drafted? {
                Drafted::Part(draft) => draft,
                Drafted::Skipped(rows) => {
                    writer.skip(&rows)?;
                    continue;
                }
            };
            let (source_rows, skipped) = (draft.source_rows, draft.source_rows - draft.samples.len() as u64);
            let part = capture(&model, checkpoint, plan, draft, &mut |samples, positions| {
                so_far.samples += samples;
                so_far.positions += positions;
                progress(&so_far)
            })?;
            writer.write_part(&part)?;
            so_far.source_rows += source_rows;
            so_far.skipped += skipped;
            progress(&so_far)?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(writer.finish()?)
}

/// The arguments with the places of checkpoint and data: people and filters need them, the bytes do not depend on them.
pub(crate) fn placed(mut arguments: serde_json::Value, plan: &Plan, source: &Source) -> serde_json::Value {
    // The folder of a bare file name is the empty path.
    let folder = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_path_buf() };
    let absolute = |path: &Path| folder(path).canonicalize().unwrap_or_else(|_| path.to_path_buf());
    arguments["model_folder"] = absolute(&plan.model).display().to_string().into();
    arguments["data_root"] = path_text::encode(&absolute(&source.root)).into();
    if let Some(root) = &source.images_root {
        arguments["images_root"] = path_text::encode(&absolute(root)).into();
    }
    arguments
}

/// Refuses to continue an interrupted harvest with images from a different folder. The fingerprint covers the files of the
/// rows but not the images that they name, so the run would mix the images of two folders.
fn check_images(run: &Run, arguments: &serde_json::Value) -> Result<()> {
    // Only an existing run has a record to compare with.
    let begun = run.read_step::<StoreRecord>(STEP)?.filter(|record| !record.complete);
    let Some(begun) = begun.map(|record| record.spec.arguments) else { return Ok(()) };
    if images_from(&begun) == images_from(arguments) {
        return Ok(());
    }
    let shown = |arguments: &serde_json::Value| match arguments["images_root"].as_str() {
        Some(folder) => format!("the folder {folder}"),
        None => "the folders of the data set".to_owned(),
    };
    Err(Error::Plan(format!(
        "this harvest was begun with images from {}, but would continue with images from {}: {}\nhint: name the same folder of \
         images, or begin a new run",
        shown(&begun),
        shown(arguments),
        run.root().display()
    )))
}

/// The folder of the images, relative to the data set where it is inside of it: both may be moved together.
pub(crate) fn images_from(arguments: &serde_json::Value) -> Option<&str> {
    let folder = arguments["images_root"].as_str()?;
    let data = arguments["data_root"].as_str().unwrap_or_default();
    Some(folder.strip_prefix(data).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(folder))
}

/// The model's name, not its place: runs are compared and moved between machines.
fn name(path: &Path) -> String {
    crate::hub::model_name(&path.canonicalize().unwrap_or_else(|_| path.to_path_buf()))
}

/// Skipped rows that are held until they are written.
const SKIPPED: usize = 1024;

/// What the preparing thread hands over.
enum Drafted {
    Part(Draft),
    /// Rows of the part that comes next, of which there may be any number.
    Skipped(Vec<Skipped>),
}

/// A part before it went through the model.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) samples: Vec<Prepared>,
    pub(crate) positions: usize,
    pub(crate) source_rows: u64,
    pub(crate) skipped: Vec<Skipped>,
}

/// Prepares rows and sends them part by part until they end or nobody listens any more.
fn draft_parts(
    checkpoint: &Checkpoint,
    plan: &Plan,
    mut rows: impl Iterator<Item = Result<Row>>,
    parts: &SyncSender<Result<Drafted>>,
) {
    let mut draft = Draft::default();
    loop {
        let chunk = match rows.by_ref().take(CHUNK).collect::<Result<Vec<Row>>>() {
            Ok(chunk) if chunk.is_empty() => break,
            Ok(chunk) => chunk,
            Err(error) => {
                let _ = parts.send(Err(error));
                return;
            }
        };
        let prepared: Vec<_> =
            chunk.into_par_iter().map(|row| checkpoint.prepare(row, plan.answers, plan.template)).collect();
        for prepared in prepared {
            match prepared {
                Ok(prepared) => {
                    // Only a sample closes a part, so that none consists of skipped rows alone.
                    if draft.positions >= plan.part_rows
                        && parts.send(Ok(Drafted::Part(std::mem::take(&mut draft)))).is_err()
                    {
                        return;
                    }
                    draft.positions += prepared.tokens.len();
                    draft.samples.push(prepared);
                }
                Err(skipped) => {
                    draft.skipped.push(skipped);
                    if draft.skipped.len() == SKIPPED
                        && parts.send(Ok(Drafted::Skipped(std::mem::take(&mut draft.skipped)))).is_err()
                    {
                        return;
                    }
                }
            }
            draft.source_rows += 1;
        }
    }
    if draft.source_rows > 0 {
        let _ = parts.send(Ok(Drafted::Part(draft)));
    }
}

/// Runs a part through the model, batch by batch.
pub(crate) fn capture(
    model: &Model,
    checkpoint: &Checkpoint,
    plan: &Plan,
    draft: Draft,
    report: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<Part> {
    let rows = draft.positions * model.config().text.hidden_size;
    let mut activations: Vec<Vec<f32>> = plan.layers.iter().map(|_| Vec::with_capacity(rows)).collect();
    for together in batches(&draft.samples, plan.batch_tokens).chunks(TOGETHER) {
        let hidden = together.par_iter().map(|batch| {
            let inputs: Vec<Input> = draft.samples[batch.clone()].iter().map(|s| checkpoint.input(s)).collect();
            model.hidden(&inputs.iter().collect::<Vec<_>>(), &plan.layers)
        });
        let hidden = hidden.collect::<Result<Vec<_>>>()?;
        for (batch, hidden) in together.iter().zip(&hidden) {
            let prepared = &draft.samples[batch.clone()];
            for ((n, layer), activations) in plan.layers.iter().enumerate().zip(&mut activations) {
                let rows = prepared.iter().flat_map(|p| p.tokens.iter().map(move |token| (&p.sample, token)));
                // At once, not when the part is full, which may be hours later.
                check_storable(plan.store_dtype, *layer, model.config().text.hidden_size, hidden.layer(n), rows)?;
                activations.extend_from_slice(hidden.layer(n));
            }
            let positions = draft.samples[batch.clone()].iter().map(|sample| sample.tokens.len() as u64).sum();
            report(batch.len() as u64, positions)?;
        }
    }
    let samples = draft.samples.into_iter().map(|prepared| (prepared.sample, prepared.tokens)).collect();
    Ok(Part { samples, activations, source_rows: draft.source_rows, skipped: draft.skipped })
}

/// Numbers of samples in batches of at most `batch_tokens` positions; a longer sample is a batch of its own.
pub(crate) fn batches(samples: &[Prepared], batch_tokens: usize) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut positions = 0;
    for (n, sample) in samples.iter().enumerate() {
        positions += sample.tokens.len();
        match batches.last_mut() {
            Some(batch) if positions <= batch_tokens => batch.end = n + 1,
            _ => {
                positions = sample.tokens.len();
                batches.push(n..n + 1);
            }
        }
    }
    batches
}
