//! The harvest itself: rows become samples, samples are collected into parts, and parts go through the model in batches
//! and into the store. The content of a part depends on the data alone, so an interrupted harvest continues with the same
//! bytes.

use crate::checkpoint::Checkpoint;
use crate::data::{Row, Source};
use crate::devices::Devices;
use crate::fingerprint::fingerprint;
use crate::model::{Hidden, Input, Model, check_hooks};
use crate::overlap::{Emit, Results, overlap};
use crate::prepared::Prepared;
use crate::{Error, Pieces, Plan, Result, image_positions, pieces};
use rayon::prelude::*;
use sae_core::Run;
use sae_core::path_text;
use sae_core::store::sample::{Sample, Token};
use sae_core::store::{Hook, Part, STEP, Skipped, StoreRecord, StoreSpec, StoreWriter, check_storable};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Rows that are prepared at once, each on its own thread.
pub(crate) const CHUNK_ROWS: usize = 64;

/// Batches that are in the model at once, so that neither a CPU's threads nor a GPU waits while the sequential work of a batch
/// is done: its input goes to the device, its hidden states come back.
pub(crate) const CONCURRENT_BATCHES: usize = 2;

/// How far a harvest is. Counts include what an interrupted harvest had already stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureProgress {
    /// Rows of the data that are finished.
    pub source_rows: u64,
    /// Samples that went through the model; the pieces of a row count once.
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
/// use sae_core::store::Hook;
///
/// let run = Run::create("runs/photos".as_ref())?;
/// let plan = Plan::new("checkpoints/llava", "photos.jsonl", vec![Hook::block(12)]);
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
    plan.hooks.sort_unstable();
    plan.hooks.dedup();
    let Some(last) = plan.hooks.last().copied() else {
        return Err(Error::NoHook);
    };
    for (what, size) in [("the number of tokens in a batch", plan.batch_tokens), ("the size of a part", plan.part_rows)]
    {
        if size == 0 {
            return Err(Error::ZeroSize { what });
        }
    }
    plan.check_pieces()?;
    let checkpoint = plan.checkpoint()?;
    check_hooks(checkpoint.config(), &plan.hooks)?;
    let source = plan.source()?;
    let devices = plan.devices()?.into_iter().map(|device| Ok(device.open()?)).collect::<Result<Vec<_>>>()?;
    let (first_row, end) = plan.row_range(&source)?;

    let arguments = plan.arguments(&checkpoint);
    let weights = checkpoint.fingerprint()?;
    let data = fingerprint(source.files.iter().map(PathBuf::as_path))?;
    let located_arguments = with_locations(arguments.clone(), &plan, &source);
    check_images(run, &located_arguments)?;
    let writer = StoreWriter::open(
        run,
        StoreSpec {
            model: name(&plan.model),
            architecture: checkpoint.config().architecture.clone(),
            hooks: plan.hooks.clone(),
            d_in: checkpoint.config().width_at(last),
            dtype: plan.store_dtype,
            fingerprint: format!("{weights}-{data}-{arguments}"),
            slice: plan.shard.map(|shard| shard.job_shard(first_row)),
            arguments: located_arguments,
            pieces: plan.pieces.is_some(),
            critiques: plan.pieces == Some(Pieces::Feedback),
        },
    )?;
    if writer.is_complete() {
        return Ok(writer.finish()?);
    }
    let devices = Devices::load(&checkpoint, &plan, &devices, last)?;
    let stored = writer.progress();
    let mut so_far = CaptureProgress {
        source_rows: stored.source_rows,
        samples: stored.samples - stored.continuing,
        positions: stored.rows,
        skipped: stored.skipped(),
    };
    let rows = plan.stream(&source)?.take(usize::try_from(end).unwrap_or(usize::MAX));
    let rows = rows.skip(usize::try_from(first_row + stored.source_rows).unwrap_or(usize::MAX));
    let captured = capture(&devices, &checkpoint, &plan, rows, writer, &mut |step| {
        match step {
            Captured::Batch { samples, positions } => {
                so_far.samples += samples;
                so_far.positions += positions;
            }
            Captured::Part { source_rows, skipped } => {
                so_far.source_rows += source_rows;
                so_far.skipped += skipped;
            }
        }
        progress(&so_far)
    });
    Ok(captured?.finish()?)
}

/// The arguments with the locations of the checkpoint and the data. People and filters need them; what is captured does
/// not depend on them.
pub(crate) fn with_locations(mut arguments: serde_json::Value, plan: &Plan, source: &Source) -> serde_json::Value {
    // The parent of a bare file name is the empty path.
    let folder = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_path_buf() };
    let absolute = |path: &Path| folder(path).canonicalize().unwrap_or_else(|_| path.to_path_buf());
    arguments["model_folder"] = path_text::encode(&absolute(&plan.model)).into();
    // The place of an object is its address, wherever its copy is.
    let place = |path: &Path| {
        let url = source.mirror.as_ref().and_then(|mirror| mirror.url(path));
        url.map_or_else(|| path_text::encode(&absolute(path)), |url| url.to_string())
    };
    arguments["data_root"] = place(&source.root).into();
    if let Some(root) = &source.images_root {
        arguments["images_root"] = place(root).into();
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

/// A row as its sample, or as its pieces.
type PreparedRow = Result<Vec<Prepared>, Skipped>;

/// A sample without its images.
type Stored = (Sample, Vec<Token>);

/// What goes through the model, in the order of the data.
enum Step<B> {
    /// Samples that go through the model together.
    Batch(B),
    /// Skipped rows of the current part. There may be any number of them.
    Skipped(Vec<Skipped>),
    /// The part is complete.
    End(End),
}

/// The end of a part.
#[derive(Default)]
struct End {
    /// Rows of the data in the part.
    source_rows: u64,
    /// The last rows of it that were skipped.
    skipped: Vec<Skipped>,
}

/// Samples with the input of the model.
struct Batch {
    samples: Vec<Stored>,
    inputs: Vec<Input>,
}

/// Samples with their hidden states at each hook.
struct Done {
    samples: Vec<Stored>,
    hidden: Hidden,
}

/// What is done since the last report.
enum Captured {
    /// Samples went through the model.
    Batch { samples: u64, positions: u64 },
    /// A part was written.
    Part { source_rows: u64, skipped: u64 },
}

/// Captures rows into a store. Five stages overlap, each of which holds a fixed number of rows or batches: rows are read,
/// prepared, put into batches, run through the model ([`CONCURRENT_BATCHES`] at once on each device), and written part by part. The content
/// of batches and parts depends on the rows alone.
fn capture(
    devices: &Devices,
    checkpoint: &Checkpoint,
    plan: &Plan,
    rows: impl Iterator<Item = Result<Row>> + Send,
    writer: StoreWriter,
    report: &mut dyn FnMut(Captured) -> Result<()>,
) -> Result<StoreWriter> {
    thread::scope(|scope| {
        // Without a buffer, so that one part is written at most while the next one is filled.
        let (parts, to_write) = sync_channel(0);
        let (written, reports) = channel();
        let writing = scope.spawn(move || write_parts(writer, plan.hooks.len(), to_write, &written));
        let captured = overlap(
            |emit| read_chunks(rows, emit),
            1,
            |_, chunk: Result<Vec<Row>>| {
                let prepared = prepare(checkpoint, plan, chunk?);
                plan.check_images()?;
                Ok(prepared)
            },
            |prepared| {
                overlap(
                    |emit| emit_steps(checkpoint, plan, prepared, emit),
                    CONCURRENT_BATCHES * devices.len(),
                    |worker, step: Result<Step<Batch>>| run(devices, worker, plan, step?),
                    |steps| collect_parts(steps, &parts, &reports, report),
                )
            },
        );
        // The writer stops after the part that it has.
        drop(parts);
        let writer = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // An error of the writer concerns an earlier part, and ends the capture.
        let writer = writer?;
        captured?;
        reports.into_iter().try_for_each(report)?;
        Ok(writer)
    })
}

/// Reads rows, some at once, until they end or one cannot be read.
fn read_chunks(mut rows: impl Iterator<Item = Result<Row>>, emit: Emit<Result<Vec<Row>>>) -> ControlFlow<()> {
    loop {
        let chunk = rows.by_ref().take(CHUNK_ROWS).collect::<Result<Vec<Row>>>();
        let is_last = chunk.as_ref().map_or(true, |rows| rows.len() < CHUNK_ROWS);
        emit(chunk)?;
        if is_last {
            return ControlFlow::Break(());
        }
    }
}

/// Turns rows into samples or into their pieces, each on its own thread.
fn prepare(checkpoint: &Checkpoint, plan: &Plan, rows: Vec<Row>) -> Vec<PreparedRow> {
    let prepare = |row| match plan.pieces {
        Some(pieces) => checkpoint.pieces(row, pieces),
        None => Ok(vec![image_positions::prepare(checkpoint, plan, row)?]),
    };
    rows.into_par_iter().map(prepare).collect()
}

/// The number of the piece of its row that a sample continues.
fn parent((sample, _): &Stored) -> Option<u32> {
    sample.piece.as_ref()?.parent
}

/// Puts samples into batches, and batches into parts.
fn emit_steps(
    checkpoint: &Checkpoint,
    plan: &Plan,
    prepared: Results<Result<Vec<PreparedRow>>>,
    emit: Emit<Result<Step<Batch>>>,
) -> ControlFlow<()> {
    let (mut batch, mut end) = (Vec::new(), End::default());
    let (mut in_batch, mut in_part) = (0, 0);
    for chunk in prepared {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return emit(Err(error)),
        };
        for prepared in chunk {
            match prepared {
                Ok(samples) => {
                    let positions = samples.iter().map(|sample| sample.tokens.len()).sum::<usize>();
                    // Only a sample closes a part, so that no part consists of skipped rows alone.
                    let is_full = in_part >= plan.part_rows;
                    if is_full || in_batch + positions > plan.batch_tokens {
                        emit_batch(checkpoint, std::mem::take(&mut batch), emit)?;
                        in_batch = 0;
                    }
                    if is_full {
                        emit(Ok(Step::End(std::mem::take(&mut end))))?;
                        in_part = 0;
                    }
                    in_batch += positions;
                    in_part += positions;
                    batch.extend(samples);
                }
                Err(skipped) => {
                    end.skipped.push(skipped);
                    if end.skipped.len() == SKIPPED_BUFFER {
                        emit(Ok(Step::Skipped(std::mem::take(&mut end.skipped))))?;
                    }
                }
            }
            end.source_rows += 1;
        }
    }
    emit_batch(checkpoint, batch, emit)?;
    if end.source_rows > 0 { emit(Ok(Step::End(end))) } else { ControlFlow::Continue(()) }
}

fn emit_batch(checkpoint: &Checkpoint, batch: Vec<Prepared>, emit: Emit<Result<Step<Batch>>>) -> ControlFlow<()> {
    if batch.is_empty() {
        return ControlFlow::Continue(());
    }
    let inputs = batch.par_iter().map(|sample| checkpoint.input(sample)).collect();
    let samples = batch.into_iter().map(|prepared| (prepared.sample, prepared.tokens)).collect();
    emit(Ok(Step::Batch(Batch { samples, inputs })))
}

/// Runs a batch through the model. Other steps pass.
fn run(devices: &Devices, worker: usize, plan: &Plan, step: Step<Batch>) -> Result<Step<Done>> {
    let Batch { samples, inputs } = match step {
        Step::Batch(batch) => batch,
        Step::Skipped(rows) => return Ok(Step::Skipped(rows)),
        Step::End(end) => return Ok(Step::End(end)),
    };
    let hidden = devices.run(worker, |model| match plan.pieces {
        Some(_) => pieces::hidden(model, &inputs, &samples.iter().map(parent).collect::<Vec<_>>(), &plan.hooks),
        None => model.hidden(&inputs.iter().collect::<Vec<_>>(), &plan.hooks),
    })?;
    // Checked now rather than when the part is full, which may be hours later.
    check(plan, &hidden, samples.iter().map(|(sample, tokens)| (sample, tokens.as_slice())))?;
    Ok(Step::Batch(Done { samples, hidden }))
}

/// Rejects hidden states that a store cannot hold.
pub(crate) fn check<'a>(
    plan: &Plan,
    hidden: &Hidden,
    samples: impl Iterator<Item = (&'a Sample, &'a [Token])> + Clone,
) -> Result<()> {
    for (n, hook) in plan.hooks.iter().enumerate() {
        let rows = samples.clone().flat_map(|(sample, tokens)| tokens.iter().map(move |token| (sample, token)));
        check_storable(plan.store_dtype, *hook, hidden.width(), hidden.hook(n), rows)?;
    }
    Ok(())
}

/// A part whose activations are still in batches, or skipped rows of the part that comes next.
enum Unwritten {
    Part { samples: Vec<Stored>, batches: Vec<Hidden>, end: End },
    Skipped(Vec<Skipped>),
}

/// Collects batches into parts, which it hands to the writer. Ends when the writer does.
fn collect_parts(
    steps: Results<Result<Step<Done>>>,
    parts: &SyncSender<Unwritten>,
    written: &Receiver<Captured>,
    report: &mut dyn FnMut(Captured) -> Result<()>,
) -> Result<()> {
    let (mut samples, mut batches) = (Vec::new(), Vec::new());
    for step in steps {
        let unwritten = match step? {
            Step::Batch(done) => {
                let positions = done.samples.iter().map(|(_, tokens)| tokens.len() as u64).sum();
                let count = rows_of(&done.samples);
                samples.extend(done.samples);
                batches.push(done.hidden);
                written.try_iter().try_for_each(&mut *report)?;
                report(Captured::Batch { samples: count, positions })?;
                continue;
            }
            Step::Skipped(rows) => Unwritten::Skipped(rows),
            Step::End(end) => {
                Unwritten::Part { samples: std::mem::take(&mut samples), batches: std::mem::take(&mut batches), end }
            }
        };
        if parts.send(unwritten).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes parts until there are no more.
fn write_parts(
    mut writer: StoreWriter,
    hooks: usize,
    parts: Receiver<Unwritten>,
    written: &Sender<Captured>,
) -> Result<StoreWriter> {
    for unwritten in parts {
        let (samples, batches, end) = match unwritten {
            Unwritten::Part { samples, batches, end } => (samples, batches, end),
            Unwritten::Skipped(rows) => {
                writer.skip(&rows)?;
                continue;
            }
        };
        let (source_rows, skipped) = (end.source_rows, end.source_rows - rows_of(&samples));
        let samples = counted_from_part(samples);
        let activations = Hidden::join(batches, hooks);
        writer.write_part(&Part { samples, activations, source_rows, skipped: end.skipped })?;
        // Nobody listens once the capture has failed.
        let _ = written.send(Captured::Part { source_rows, skipped });
    }
    Ok(writer)
}

/// How many rows of the data the samples are.
fn rows_of(samples: &[Stored]) -> u64 {
    samples.iter().filter(|sample| parent(sample).is_none()).count() as u64
}

/// Counts the parents of pieces from the first sample of the part in place of the first piece of the row.
fn counted_from_part(mut samples: Vec<Stored>) -> Vec<Stored> {
    let mut first = 0;
    for (n, (sample, _)) in samples.iter_mut().enumerate() {
        match sample.piece.as_mut().map(|piece| &mut piece.parent) {
            Some(Some(parent)) => *parent += first,
            _ => first = n as u32,
        }
    }
    samples
}

/// The hidden states of samples at `hooks`.
pub(crate) fn hidden(model: &Model, checkpoint: &Checkpoint, samples: &[Prepared], hooks: &[Hook]) -> Result<Hidden> {
    let inputs: Vec<Input> = samples.iter().map(|sample| checkpoint.input(sample)).collect();
    model.hidden(&inputs.iter().collect::<Vec<_>>(), hooks)
}

/// Calls `work` with the samples of one batch after another, [`CONCURRENT_BATCHES`] at once, and `receive` with its results, in
/// their order.
///
/// # Errors
/// Those of `receive`.
pub(crate) fn for_each_batch<'s, R: Send, E>(
    samples: &'s [Prepared],
    plan: &Plan,
    work: impl Fn(&'s [Prepared]) -> R + Sync,
    mut receive: impl FnMut(Range<usize>, R) -> Result<(), E>,
) -> Result<(), E> {
    overlap(
        |emit| batches(samples, plan.batch_tokens).into_iter().try_for_each(emit),
        CONCURRENT_BATCHES,
        |_, batch| (batch.clone(), work(&samples[batch])),
        |results| {
            for (batch, result) in results {
                receive(batch, result)?;
            }
            Ok(())
        },
    )
}

/// Ranges of samples that form batches of at most `batch_tokens` positions; a longer sample is a batch of its own.
fn batches(samples: &[Prepared], batch_tokens: usize) -> Vec<Range<usize>> {
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
