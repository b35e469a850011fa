//! Writes a store part by part, and continues an interrupted one. The caller decides what is in a part.

use super::skipped::{SkipFile, Skipped};
use super::{Hook, Manifest, Paths, STEP, StoreDtype, hooks, tables};
use crate::error::{Cause, Hint, PieceError, Setting};
use crate::store::run::{Lock, Run, schema_version};
use crate::store::sample::{Piece, Sample, Token};
use crate::{Error, Result, file, table, tensors};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;

/// What a store is to hold. Two harvests with equal specs write equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreSpec {
    /// Checkpoint.
    pub model: String,
    /// Its architecture.
    pub architecture: String,
    /// What is captured, ascending. In `run.json` these are `layers`, where the output of a block is its number.
    #[serde(rename = "layers", with = "hooks::listed")]
    pub hooks: Vec<Hook>,
    /// Width of an activation.
    pub d_in: usize,
    /// How activations are stored.
    pub dtype: StoreDtype,
    /// Hash of everything that decides the bytes: arguments, checkpoint, data; the same for all shards of a job.
    pub fingerprint: String,
    /// Which rows of the data, if not all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<JobShard>,
    /// Arguments as given, for people.
    pub arguments: serde_json::Value,
    /// Whether the samples are pieces that continue one another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pieces: bool,
    /// Whether the pieces of this name ([`FEEDBACK`](super::sample::FEEDBACK)) are critiques. The nodes of trees have any names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub critiques: bool,
}

/// One machine's share of a data set: consecutive rows, so that shards in their order are the data in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobShard {
    /// Which of them, counted from 1.
    pub shard: u32,
    /// How many there are.
    pub of: u32,
    /// Its first row of the data.
    pub first_row: u64,
}

impl std::fmt::Display for JobShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.shard, self.of)
    }
}

/// Consecutive rows of the data, captured.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Samples with their tokens, in the order of the data. Of pieces, all of a path are in one part, and their parents are
    /// counted from the first sample of the part.
    pub samples: Vec<(Sample, Vec<Token>)>,
    /// For every hook of the spec, `[rows, d_in]` row-major, rows in the order of the samples' tokens.
    pub activations: Vec<Vec<f32>>,
    /// Rows of the data that went into this part, the skipped ones included.
    pub source_rows: u64,
    /// Those of them that became no sample and were not handed to [`StoreWriter::skip`] before.
    pub skipped: Vec<Skipped>,
}

/// A shard in a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// File name, in the folder of the manifest.
    pub file: String,
    /// Token positions.
    pub rows: u64,
    /// Hex BLAKE3 of the file.
    pub blake3: String,
}

/// A part in `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Samples in it.
    pub samples: u64,
    /// Token positions in it.
    pub rows: u64,
    /// Rows of the data that it covers.
    pub source_rows: u64,
    /// Samples that continue others of the same row of the data.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub continuing: u64,
    /// A shard for every hook.
    pub shards: Vec<ShardRecord>,
    /// For every hook, the sum of the rows' norms; in `f32`, which `run.json` gives back exactly.
    pub norm_sums: Vec<f32>,
}

/// The store's entry in `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreRecord {
    /// What is captured.
    #[serde(flatten)]
    pub spec: StoreSpec,
    /// Whether all the data is in.
    pub complete: bool,
    /// Finished parts.
    pub parts: Vec<PartRecord>,
    /// The first rows of the data of every kind of reason that became no sample. All of them are in `skipped.jsonl`.
    pub skipped: Vec<Skipped>,
}

/// How much of a store has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteProgress {
    /// Samples stored.
    pub samples: u64,
    /// Token positions stored.
    pub rows: u64,
    /// Rows of the data read.
    pub source_rows: u64,
    /// Stored samples that continue others of the same row.
    pub continuing: u64,
}

impl WriteProgress {
    /// Rows of the data that were read and became no sample.
    pub fn skipped(&self) -> u64 {
        (self.source_rows + self.continuing).saturating_sub(self.samples)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl StoreRecord {
    /// Sums over the finished parts.
    pub fn progress(&self) -> WriteProgress {
        self.parts.iter().fold(WriteProgress::default(), |p, part| WriteProgress {
            samples: p.samples + part.samples,
            rows: p.rows + part.rows,
            source_rows: p.source_rows + part.source_rows,
            continuing: p.continuing + part.continuing,
        })
    }
}

/// Writes a store; holds the run's lock.
pub struct StoreWriter {
    run: Run,
    record: StoreRecord,
    skipped: SkipFile,
    _lock: Lock,
}

impl StoreWriter {
    /// Begins a store, or continues one of the same spec.
    ///
    /// # Errors
    /// The run holds a store of another spec, or another process writes to it.
    pub fn open(run: &Run, spec: StoreSpec) -> Result<Self> {
        let lock = run.lock()?;
        let fresh = StoreRecord { spec, complete: false, parts: Vec::new(), skipped: Vec::new() };
        let mut record: StoreRecord = run.read_step(STEP)?.unwrap_or_else(|| fresh.clone());
        let (found, asked) = (&record.spec, &fresh.spec);
        if (&found.fingerprint, found.slice, found.pieces) != (&asked.fingerprint, asked.slice, asked.pieces) {
            let shard = record.spec.slice.map_or(String::new(), |slice| format!("shard {slice}, "));
            let cause = format!(
                "the run holds another harvest ({shard}model {}, {}, arguments {})",
                record.spec.model,
                hooks::in_words(&record.spec.hooks),
                record.spec.arguments
            );
            return Err(Error::OtherHarvest { cause, path: run.root().to_path_buf() });
        }
        let run = run.clone();
        run.write_version(record.spec.pieces)?;
        if !record.complete {
            let has_files = |n: &usize| files(&run, &record, *n).iter().all(|file| file.exists());
            let complete = (0..record.parts.len()).take_while(has_files).count();
            record.parts.truncate(complete);
        }
        let end = record.progress().source_rows + record.spec.slice.map_or(0, |slice| slice.first_row);
        let skipped = if record.complete { SkipFile::finished(&run) } else { SkipFile::open(&run, end)? };
        Ok(Self { run, record, skipped, _lock: lock })
    }

    /// Whether all the data is in already.
    pub fn is_complete(&self) -> bool {
        self.record.complete
    }

    /// How much has been written. The next part begins after the first `source_rows` rows of the data.
    pub fn progress(&self) -> WriteProgress {
        self.record.progress()
    }

    /// Records skipped rows of the next part, without holding them in memory. They count once that part does.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn skip(&mut self, rows: &[Skipped]) -> Result<()> {
        self.skipped.append(rows)
    }

    /// Appends a part. It counts once this returns.
    ///
    /// # Errors
    /// A file cannot be written; or activations that do not fit the samples, are not finite, or are too large for the
    /// store's dtype. No infinity is ever stored. [`Error::Piece`] for pieces that no pass could read: without tokens, or not in
    /// the order of paths.
    pub fn write_part(&mut self, part: &Part) -> Result<()> {
        let spec = &self.record.spec;
        let rows: usize = part.samples.iter().map(|(_, tokens)| tokens.len()).sum();
        let number = self.record.parts.len();
        let sizes: Vec<_> = part.activations.iter().map(Vec::len).collect();
        if sizes != vec![rows * spec.d_in; spec.hooks.len()] {
            let d_in = spec.d_in;
            let cause = format!(
                "part {number}: {sizes:?} values for {rows} rows of {d_in} in {}",
                hooks::in_words(&spec.hooks)
            );
            return Err(Error::config(cause));
        }
        let first = u32::try_from(self.progress().samples).map_err(Error::format(self.run.root()))?;
        let samples = self.numbered(first, &part.samples)?;
        let mut shards = Vec::new();
        let mut norm_sums = Vec::new();
        for (hook, values) in spec.hooks.iter().zip(&part.activations) {
            let tokens =
                part.samples.iter().flat_map(|(sample, tokens)| tokens.iter().map(move |token| (sample, token)));
            check_storable(spec.dtype, *hook, spec.d_in, values, tokens)?;
            let norms = values.chunks_exact(spec.d_in).map(|row| row.iter().map(|v| (*v as f64).powi(2)).sum::<f64>());
            let norm_sum: f64 = norms.map(f64::sqrt).sum();
            let file = format!("shard-{number:05}.safetensors");
            let path = self.run.activations(&hook.to_string()).join(&file);
            let shape = [rows, spec.d_in];
            let hash = tensors::write(&path, spec.dtype.into(), &[("activations", &shape, values)])?;
            shards.push(ShardRecord { file, rows: rows as u64, blake3: hash.to_hex().to_string() });
            norm_sums.push(norm_sum.min(f64::from(f32::MAX)) as f32);
        }
        tables::write_tokens(&self.run.tokens(number), first, part.samples.iter().map(|(_, t)| t.as_slice()))?;
        let samples = samples.iter().map(AsRef::as_ref);
        tables::write_samples(&self.sample_part(number), first, samples, spec.pieces)?;

        let continuing = |sample: &&(Sample, Vec<Token>)| sample.0.piece.as_ref().is_some_and(|p| p.parent.is_some());
        let continuing = part.samples.iter().filter(continuing).count() as u64;
        let (samples, rows, source_rows) = (part.samples.len() as u64, rows as u64, part.source_rows);
        self.record.parts.push(PartRecord { samples, rows, source_rows, continuing, shards, norm_sums });
        self.skipped.append(&part.skipped)?;
        self.skipped.sync()?;
        self.record.skipped = self.skipped.list().first().to_vec();
        self.run.write_step(STEP, &self.record)
    }

    /// Closes the store: joins the sample tables and writes the manifests.
    ///
    /// # Errors
    /// A file cannot be written, or no sample was stored.
    pub fn finish(mut self) -> Result<StoreRecord> {
        if self.record.complete {
            return Ok(self.record);
        }
        let total = self.progress();
        // One shard may have no usable row. A whole harvest without any is a mistake.
        if total.samples == 0 && (self.record.spec.slice.is_none() || self.record.parts.is_empty()) {
            let cause = match self.record.skipped.first() {
                Some(s) => {
                    let text =
                        format!("none of {} rows became a sample; row {}: {}", total.source_rows, s.row, s.reason);
                    Cause { text, hint: s.hint.clone() }
                }
                None => "the data holds no rows".into(),
            };
            return Err(Error::run(self.run.root(), cause));
        }
        let parts = 0..self.record.parts.len();
        let mut tables = parts.map(|n| table::read(&self.sample_part(n), &[]));
        let first = tables.next().expect("there is a part")?;
        table::write_all(&self.run.samples(), &first, tables)?;
        write_manifests(&self.run, &self.record)?;
        self.record.complete = true;
        self.run.write_step(STEP, &self.record)?;
        let parts = self.run.sample_parts();
        fs::remove_dir_all(&parts).map_err(Error::io("remove", &parts))?;
        Ok(self.record)
    }

    fn sample_part(&self, number: usize) -> PathBuf {
        sample_part(&self.run, number)
    }

    /// Samples of a part with the numbers of their parents in the run.
    fn numbered<'a>(&self, first: u32, samples: &'a [(Sample, Vec<Token>)]) -> Result<Vec<Cow<'a, Sample>>> {
        if let Some((other, _)) = samples.iter().find(|(sample, _)| sample.piece.is_some() != self.record.spec.pieces) {
            let expected = if self.record.spec.pieces { "pieces" } else { "whole samples" };
            return Err(Error::config(format!(
                "the store is one of {expected}, which sample {:.80} is not",
                other.key
            )));
        }
        let parents = samples.iter().map(|(sample, _)| sample.piece.as_ref().and_then(|piece| piece.parent));
        let paths = Paths::new(parents.collect());
        let empty = (0..).zip(samples).find(|(_, (sample, tokens))| sample.piece.is_some() && tokens.is_empty());
        if let Some(cause) = paths.err().or(empty.map(|(sample, _)| PieceError::Empty { sample })) {
            let sample = &samples[cause.sample() as usize].0;
            let branch = sample.piece.as_ref().map_or(String::new(), |piece| piece.branch.clone());
            return Err(Error::Piece { cause, key: sample.key.clone(), branch });
        }
        let number = |(sample, _): &'a (Sample, Vec<Token>)| match &sample.piece {
            Some(piece) => {
                let parent = piece.parent.map(|parent| first + parent);
                Cow::Owned(Sample { piece: Some(Piece { parent, ..piece.clone() }), ..sample.clone() })
            }
            None => Cow::Borrowed(sample),
        };
        Ok(samples.iter().map(number).collect())
    }
}

/// Rejects activations that a store of this dtype cannot hold, `[rows, d_in]` at `hook`, given the sample and the token of
/// each row.
///
/// # Errors
/// A value that is not finite, or that rounding to the dtype would make infinite: which one, and what can be done.
pub fn check_storable<'a>(
    dtype: StoreDtype,
    hook: Hook,
    d_in: usize,
    values: &[f32],
    rows: impl IntoIterator<Item = (&'a Sample, &'a Token)>,
) -> Result<()> {
    let Some(at) = tensors::unstorable(dtype.into(), values) else { return Ok(()) };
    let place = rows.into_iter().nth(at / d_in).map_or(String::new(), |(sample, token)| {
        format!(" (sample {:.80}, position {}, dimension {})", sample.key, token.position, at % d_in)
    });
    let value = values[at];
    if !value.is_finite() {
        return Err(Error::config(format!("an activation of {hook} is {value}, not a finite number{place}")));
    }
    let (name, largest, hint) = match dtype {
        StoreDtype::F16 => ("f16", "65504", Hint::set(Setting::StoreDtype, "bf16")),
        StoreDtype::Bf16 => ("bf16", "3.39e38", Hint::set(Setting::StoreDtype, "f32")),
        StoreDtype::F32 => ("f32", "3.40e38", Hint::from("scale the activations down")),
    };
    let cause = format!("an activation of {hook} is {value}, beyond {largest}, the largest number of {name}{place}");
    Err(Error::config(Cause::with_hint(cause, hint)))
}

/// Writes the manifest of every hook, which makes a store of finished parts readable.
pub(super) fn write_manifests(run: &Run, record: &StoreRecord) -> Result<()> {
    let (total, spec, created) = (record.progress(), &record.spec, run.record()?.created);
    for (n, hook) in spec.hooks.iter().enumerate() {
        let norm_sum: f64 = record.parts.iter().map(|p| p.norm_sums[n] as f64).sum();
        let manifest = Manifest {
            schema_version: schema_version(spec.pieces),
            model: spec.model.clone(),
            architecture: spec.architecture.clone(),
            hook: hook.to_string(),
            layer: hook.layer(),
            d_in: spec.d_in,
            dtype: spec.dtype,
            rows: total.rows,
            samples: total.samples,
            shards: record.parts.iter().map(|p| p.shards[n].clone()).collect(),
            mean_norm: norm_sum / total.rows.max(1) as f64,
            created: created.clone(),
        };
        file::write_json(&run.activations(&hook.to_string()).join("manifest.json"), &manifest)?;
    }
    Ok(())
}

fn sample_part(run: &Run, number: usize) -> PathBuf {
    run.sample_parts().join(format!("part-{number:05}.parquet"))
}

fn files(run: &Run, record: &StoreRecord, number: usize) -> Vec<PathBuf> {
    let shards = record.spec.hooks.iter().zip(&record.parts[number].shards);
    let shards = shards.map(|(hook, shard)| run.activations(&hook.to_string()).join(&shard.file));
    shards.chain([run.tokens(number), sample_part(run, number)]).collect()
}
