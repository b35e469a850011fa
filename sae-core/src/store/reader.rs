//! Reads a finished store: a hook's manifest, its shards with their tokens, the samples. Every file is checked before it is used.

use super::tables::{TokenColumns, pieces_of, read_tokens, samples_of};
use super::{Hook, Manifest, Paths, STEP, StoreRecord};
use crate::store::run::{PIECES_VERSION, Run, SCHEMA_VERSION};
use crate::store::sample::{FEEDBACK, Sample};
use crate::tensors::{Tensors, extend_f32};
use crate::{Error, Result, file, table};
use arrow::array::UInt32Array;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The activations of one hook, shard by shard, each row with its token.
///
/// ```
#[doc = include_str!("../example_store.md")]
/// use sae_core::Run;
/// use sae_core::store::Store;
/// use sae_core::store::sample::Modality;
///
/// # let folder = example_store()?;
/// # let path = folder.path();
/// let store = Store::open(&Run::open(path)?, "layers.2")?;
/// let (d_in, rows) = (store.manifest().d_in, store.manifest().rows);
/// assert_eq!((store.shards(), rows, d_in), (1, 60, 8));
///
/// // A shard stays on disk until its rows are read, as `f32` whatever it is stored as.
/// let shard = store.shard(0)?;
/// let mut hidden = Vec::new();
/// shard.read(10..15, &mut hidden);
/// assert_eq!(hidden.len(), 5 * d_in);
///
/// // The token table has the same rows: these five are sample 2.
/// let tokens = store.tokens(0)?;
/// assert_eq!((tokens.sample[10], tokens.position[10]), (2, 0));
/// assert_eq!(tokens.modality[12], Modality::Image);
/// # Ok::<(), sae_core::Error>(())
/// ```
pub struct Store {
    run: Run,
    /// What the store holds; the width is that of all models.
    pub(super) manifest: Manifest,
    hook: Hook,
    /// Whether this process has compared the hash of each shard.
    verified: Vec<AtomicBool>,
    /// The stores of other models that were joined: see [`Store::join`].
    pub(super) others: Vec<Store>,
    /// What a transcoder reconstructs: see [`Store::with_target`].
    pub(super) target: Option<Box<Store>>,
    /// Which samples continue which.
    paths: Paths,
}

/// One shard, mapped into memory.
pub struct Shard {
    /// The file of each model; a row is their rows side by side.
    models: Vec<Tensors>,
    /// The file of the target of a transcoder.
    target: Option<Tensors>,
    rows: usize,
    d_in: usize,
}

const TENSOR: &str = "activations";

impl Store {
    /// Opens the activations of `hook`, such as `layers.16`, of whole samples.
    ///
    /// # Errors
    /// The run has no such hook (those it has are named), its harvest is unfinished, or the manifest contradicts itself.
    /// [`Error::Pieces`] if the samples are pieces: whoever takes account of that calls [`Store::open_with_pieces`].
    pub fn open(run: &Run, hook: &str) -> Result<Self> {
        let store = Self::open_with_pieces(run, hook)?;
        if store.paths.are_pieces() {
            return Err(Error::Pieces { path: run.root().to_path_buf() });
        }
        Ok(store)
    }

    /// Opens the activations of `hook`, such as `layers.16`. Samples may be pieces that continue one another ([`Store::paths`]),
    /// for callers that look at single positions, or that pool along paths.
    ///
    /// # Errors
    /// As [`Store::open`], but for pieces.
    pub fn open_with_pieces(run: &Run, hook: &str) -> Result<Self> {
        let path = run.activations(hook).join("manifest.json");
        if !path.exists() {
            let available = run.list("activations");
            let (asked, path) = (hook.to_string(), run.root().to_path_buf());
            return Err(Error::UnknownHook { asked, available, path });
        }
        let manifest: Manifest = file::read_json(&path, 1 << 28)?;
        let wrong = |cause: String| Err(Error::format(&path)(cause));
        if ![SCHEMA_VERSION, PIECES_VERSION].contains(&manifest.schema_version) {
            let found = manifest.schema_version;
            return wrong(format!("the store has layout {found}: expected {SCHEMA_VERSION} or {PIECES_VERSION}"));
        }
        let version = run.record()?.schema_version;
        if version != manifest.schema_version {
            let found = manifest.schema_version;
            return wrong(format!("the store has layout {found}, but run.json says that it has layout {version}"));
        }
        let known = manifest.hook.parse().ok().filter(|known: &Hook| known.layer() == manifest.layer);
        let Some(known) = known.filter(|_| manifest.hook == hook) else {
            return wrong(format!("the manifest is of {}, layer {}", manifest.hook, manifest.layer));
        };
        let rows: u64 = manifest.shards.iter().map(|s| s.rows).sum();
        if rows != manifest.rows || manifest.d_in == 0 || rows == 0 {
            return wrong(format!("shards of {rows} rows, {} stated, of width {}", manifest.rows, manifest.d_in));
        }
        if manifest.shards.iter().any(|s| Path::new(&s.file).components().count() != 1) {
            return wrong("a shard lies outside the store".into());
        }
        let verified = manifest.shards.iter().map(|_| AtomicBool::new(false)).collect();
        let paths = if manifest.schema_version == PIECES_VERSION {
            Paths::read(run, has_critiques(run)?)?
        } else {
            Paths::default()
        };
        if paths.are_pieces() && paths.parents().len() as u64 != manifest.samples {
            return wrong(format!("{} samples, but parents of {}", manifest.samples, paths.parents().len()));
        }
        Ok(Self { run: run.clone(), manifest, hook: known, verified, others: Vec::new(), target: None, paths })
    }

    /// Which samples continue which.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What the store holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the activations were captured.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// The run it belongs to.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.manifest.shards.len()
    }

    /// Maps a shard into memory; its hash is compared the first time.
    ///
    /// # Errors
    /// A file that is missing, differs from what was written, or contradicts the manifest.
    ///
    /// # Panics
    /// If the store has no shard of this number.
    pub fn shard(&self, number: usize) -> Result<Shard> {
        let record = &self.manifest.shards[number];
        let path = self.run.activations(&self.manifest.hook).join(&record.file);
        let tensors = Tensors::open(&path)?;
        let joined: usize = self.others.iter().map(|other| other.manifest.d_in).sum();
        let (rows, d_in) = (record.rows as usize, self.manifest.d_in - joined);
        let stored = tensors.bytes(TENSOR).map(|(dtype, _)| dtype);
        if tensors.shape(TENSOR) != Some(&[rows, d_in]) || stored != Some(self.manifest.dtype.into()) {
            let (shape, expected) = (tensors.shape(TENSOR), self.manifest.dtype);
            let cause = format!("{TENSOR} is {stored:?} {shape:?}, the manifest says {expected:?} [{rows}, {d_in}]");
            return Err(Error::format(&path)(cause));
        }
        if !self.verified[number].load(Ordering::Relaxed) {
            let found = blake3::Hasher::new().update_rayon(&file::map(&path)?).finalize().to_hex();
            if found.as_str() != record.blake3 {
                let cause = "the shard's bytes have changed since they were written (BLAKE3 differs)";
                return Err(Error::format(&path)(cause));
            }
            self.verified[number].store(true, Ordering::Relaxed);
        }
        let mut models = vec![tensors];
        for other in &self.others {
            models.extend(other.shard(number)?.models);
        }
        let target = self.target.as_ref().map(|target| target.shard(number)).transpose()?;
        let target = target.and_then(|mut shard| shard.models.pop());
        Ok(Shard { models, target, rows, d_in: self.manifest.d_in })
    }

    /// Token positions of the longest sample.
    ///
    /// # Errors
    /// A token table that cannot be read.
    pub fn longest_sample(&self) -> Result<usize> {
        let mut longest = 0;
        for number in 0..self.shards() {
            let path = self.run.tokens(number);
            for batch in table::scan(&path, &["position"])? {
                let batch = batch?;
                let positions = table::get::<UInt32Array>(&path, &batch, "position")?.values();
                longest = positions.iter().fold(longest, |longest, p| longest.max(*p as usize + 1));
            }
        }
        Ok(longest)
    }

    /// The tokens of a shard's rows.
    ///
    /// # Errors
    /// A token table that cannot be read or contradicts the manifest.
    ///
    /// # Panics
    /// If the store has no shard of this number.
    pub fn tokens(&self, number: usize) -> Result<TokenColumns> {
        let path = self.run.tokens(number);
        let tokens = read_tokens(&path)?;
        let (found, expected) = (tokens.rows() as u64, self.manifest.shards[number].rows);
        if found != expected {
            return Err(Error::format(&path)(format!("{found} tokens for a shard of {expected} rows")));
        }
        if let Some(sample) = tokens.sample.iter().find(|s| **s as u64 >= self.manifest.samples) {
            let samples = self.manifest.samples;
            return Err(Error::format(&path)(format!("a token of sample {sample}, where there are {samples}")));
        }
        Ok(tokens)
    }
}

impl Shard {
    /// Token positions in it.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends the given rows to `out` as `f32`, row-major, `[rows, d_in]`.
    ///
    /// # Panics
    /// If the shard does not have these rows.
    pub fn read(&self, rows: Range<usize>, out: &mut Vec<f32>) {
        if let [model] = &self.models[..] {
            return self.read_from(model, rows, out);
        }
        for row in rows {
            self.models.iter().for_each(|model| self.read_from(model, row..row + 1, out));
        }
    }

    /// Appends the given rows of the target to `out` as `f32`, row-major, `[rows, d_out]`; nothing if the store has no target.
    ///
    /// # Panics
    /// If the shard does not have these rows.
    pub fn read_target(&self, rows: Range<usize>, out: &mut Vec<f32>) {
        if let Some(target) = &self.target {
            self.read_from(target, rows, out);
        }
    }

    fn read_from(&self, file: &Tensors, rows: Range<usize>, out: &mut Vec<f32>) {
        let (dtype, bytes) = file.bytes(TENSOR).expect("checked when the shard was opened");
        let width = bytes.len() / self.rows.max(1);
        extend_f32(dtype, &bytes[rows.start * width..rows.end * width], out).expect("a float, checked when opened");
    }

    /// Whether the store has a target: see [`Store::with_target`].
    pub fn has_target(&self) -> bool {
        self.target.is_some()
    }

    /// Models whose activations a row holds.
    pub fn models(&self) -> usize {
        self.models.len()
    }

    /// Width of a row.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// An error about the contents of the shard.
    pub fn error(&self, cause: String) -> Error {
        Error::format(self.models[0].path())(cause)
    }
}

/// Reads all samples of a run, in order of their number.
///
/// # Errors
/// The table cannot be read.
pub fn load_samples(run: &Run) -> Result<Vec<Sample>> {
    let path = run.samples();
    let mut samples = Vec::new();
    for batch in table::scan(&path, &[])? {
        samples.extend(samples_of(&path, &batch?)?);
    }
    if samples.iter().any(|sample| sample.piece.is_some()) && has_critiques(run)? {
        let pieces = samples.iter_mut().filter_map(|sample| sample.piece.as_mut());
        pieces.for_each(|piece| piece.is_critique = piece.branch == FEEDBACK);
    }
    Ok(samples)
}

/// Whether some pieces of a run are critiques.
fn has_critiques(run: &Run) -> Result<bool> {
    let record: Option<StoreRecord> = run.read_step(STEP)?;
    Ok(record.is_some_and(|record| record.spec.critiques))
}

/// The texts of the tokens at these `(sample, position)`; positions that the run does not have are left out.
///
/// # Errors
/// A token table that cannot be read.
pub fn token_texts(run: &Run, wanted: &BTreeSet<(u32, u32)>) -> Result<BTreeMap<(u32, u32), String>> {
    let mut pieces = BTreeMap::new();
    for part in (0..).map(|n| run.tokens(n)).take_while(|path| path.exists()) {
        pieces.extend(pieces_of(&part, wanted)?);
    }
    Ok(pieces)
}
