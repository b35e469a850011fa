//! The harvest itself: rows become samples, samples are collected into parts, and parts go through the model in batches
//! and into the store. The content of a part depends on the data alone, so an interrupted harvest continues with the same
//! bytes.

use crate::checkpoint::{Checkpoint, Prepared, fingerprint};
use crate::data::{Row, Source};
use crate::model::{Compute, Input, Model, check_layers};
use crate::{Error, Plan, Result};
use rayon::prelude::*;
use sae_core::Run;
use sae_core::path_text;
use sae_core::store::{Part, STEP, Skipped, StoreRecord, StoreSpec, StoreWriter, check_storable};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Rows that are prepared at once, each on its own thread.
pub(crate) const CHUNK_ROWS: usize = 64;

/// Batches that are in the model at once, so that no thread waits while another one does the sequential work of a batch.
pub(crate) const CONCURRENT_BATCHES: usize = 2;

/// How far a harvest is. Counts include what an interrupted harvest had already stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureProgress {
    /// Rows of the data that are finished.
    pub source_rows: u64,
    /// Samples that went through the model.
    pub samples: u64,
    /// Token positions that went through the model.
    pub positions: u64,
    /// Rows that were skipped.
    pub skipped: u64,
}

/// Captures activations into `run`, or continues an interrupted harvest of the same plan. Reports progress after every
/// batch.
///
/// ```no_run
/// use harvest::{Plan, harvest};
/// use sae_core::Run;
///
/// let run = Run::create("runs/photos".as_ref())?;
/// let plan = Plan::new("checkpoints/llava", "photos.jsonl", vec![12]);
/// let record = harvest(&plan, &run, &mut |progress| {
///     println!("{} positions", progress.positions);
///     Ok(())
/// })?;
/// println!("{} rows were skipped", record.skipped.len());
/// # Ok::<(), harvest::Error>(())
/// ```
///
/// # Errors
/// The plan does not fit the checkpoint (in this case nothing has been written), a file cannot be read, the disk is full,
/// or `progress` returns an error: the parts that are finished by then stay. A row that cannot be used does not stop the
/// harvest; the returned record lists such rows.
pub fn harvest(
    plan: &Plan,
    run: &Run,
    progress: &mut dyn FnMut(&CaptureProgress) -> Result<()>,
) -> Result<StoreRecord> {
    let mut plan = plan.clone();
    plan.layers.sort_unstable();
    plan.layers.dedup();
    let Some(last) = plan.layers.last().copied() else {
        return Err(Error::NoLayer);
    };
    for (what, size) in [("the number of tokens in a batch", plan.batch_tokens), ("the size of a part", plan.part_rows)]
    {
        if size == 0 {
            return Err(Error::ZeroSize { what });
        }
    }
    let checkpoint = plan.checkpoint()?;
    check_layers(checkpoint.config(), &plan.layers)?;
    let source = plan.source()?;
    let device = plan.device.open()?;
    let (first_row, end) = plan.row_range(&source)?;

    let arguments = plan.arguments(&checkpoint);
    let weights = checkpoint.fingerprint()?;
    let data = fingerprint(source.files.iter().map(PathBuf::as_path))?;
    let located_arguments = with_locations(arguments.clone(), &plan, &source);
    check_images(run, &located_arguments)?;
    let mut writer = StoreWriter::open(
        run,
        StoreSpec {
            model: name(&plan.model),
            architecture: checkpoint.config().architecture.clone(),
            layers: plan.layers.clone(),
            d_in: checkpoint.config().text.hidden_size,
            dtype: plan.store_dtype,
            fingerprint: format!("{weights}-{data}-{arguments}"),
            slice: plan.shard.map(|shard| shard.job_shard(first_row)),
            arguments: located_arguments,
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
    // The samples of the next part are prepared while the model runs on this one.
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

/// The arguments with the locations of the checkpoint and the data. People and filters need them; what is captured does
/// not depend on them.
pub(crate) fn with_locations(mut arguments: serde_json::Value, plan: &Plan, source: &Source) -> serde_json::Value {
    // The parent of a bare file name is the empty path.
    let folder = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_path_buf() };
    let absolute = |path: &Path| folder(path).canonicalize().unwrap_or_else(|_| path.to_path_buf());
    arguments["model_folder"] = path_text::encode(&absolute(&plan.model)).into();
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
    Err(Error::OtherImages { begun: shown(&begun), asked: shown(arguments), run: run.root().to_path_buf() })
}

/// The folder of the images, relative to the data set if it is inside of it, because both may be moved together.
pub(crate) fn images_from(arguments: &serde_json::Value) -> Option<&str> {
    let folder = arguments["images_root"].as_str()?;
    let data = arguments["data_root"].as_str().unwrap_or_default();
    Some(folder.strip_prefix(data).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(folder))
}

/// The name of the model without its location, because runs are compared and moved between machines.
fn name(path: &Path) -> String {
    crate::hub::model_name(&path.canonicalize().unwrap_or_else(|_| path.to_path_buf()))
}

/// How many skipped rows are held before they are written.
const SKIPPED_BUFFER: usize = 1024;

/// What the preparing thread sends to the thread that runs the model.
enum Drafted {
    Part(Draft),
    /// Skipped rows of the part that comes next. There may be any number of them.
    Skipped(Vec<Skipped>),
}

/// A part that has not gone through the model yet.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) samples: Vec<Prepared>,
    pub(crate) positions: usize,
    pub(crate) source_rows: u64,
    pub(crate) skipped: Vec<Skipped>,
}

/// Prepares rows and sends them part by part, until the rows end or the receiver is gone.
fn draft_parts(
    checkpoint: &Checkpoint,
    plan: &Plan,
    mut rows: impl Iterator<Item = Result<Row>>,
    parts: &SyncSender<Result<Drafted>>,
) {
    let mut draft = Draft::default();
    loop {
        let chunk = match rows.by_ref().take(CHUNK_ROWS).collect::<Result<Vec<Row>>>() {
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
                    // Only a sample closes a part, so that no part consists of skipped rows alone.
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
                    if draft.skipped.len() == SKIPPED_BUFFER
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
    for concurrent in batches(&draft.samples, plan.batch_tokens).chunks(CONCURRENT_BATCHES) {
        let hidden = concurrent.par_iter().map(|batch| {
            let inputs: Vec<Input> = draft.samples[batch.clone()].iter().map(|s| checkpoint.input(s)).collect();
            model.hidden(&inputs.iter().collect::<Vec<_>>(), &plan.layers)
        });
        let hidden = hidden.collect::<Result<Vec<_>>>()?;
        for (batch, hidden) in concurrent.iter().zip(&hidden) {
            let prepared = &draft.samples[batch.clone()];
            for ((n, layer), activations) in plan.layers.iter().enumerate().zip(&mut activations) {
                let rows = prepared.iter().flat_map(|p| p.tokens.iter().map(move |token| (&p.sample, token)));
                // Checked now rather than when the part is full, which may be hours later.
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

/// Ranges of samples that form batches of at most `batch_tokens` positions; a longer sample is a batch of its own.
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
