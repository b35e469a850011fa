//! Activations that another tool captured, into a run: formats become a stream of samples, samples parts of the store.
//! What the formats are is in the modules below; nothing here runs a model, and nothing that is read is executed.
//!
//! A format is a function that returns a [`Cache`]. An interrupted import goes on like a harvest, since what a part holds
//! depends on the files and the arguments alone.

mod array;
mod npy;
mod saelens;
mod saev;
mod table;

use crate::checkpoint::{fingerprint, hex};
use crate::{Error, Result};
use sae_core::Run;
use sae_core::store::sample::{Sample, Token};
use sae_core::store::{Part, StoreDtype, StoreRecord, StoreSpec, StoreWriter};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The formats of activations that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFormat {
    /// SAELens' `CacheActivationsRunner`: a data set of Hugging Face's `save_to_disk`.
    SaeLens,
    /// Shards of saev, protocol 2.1.
    Saev,
    /// A safetensors file with a tensor `activations`.
    Safetensors,
    /// An array of NumPy.
    Npy,
}

impl CacheFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::SaeLens, Self::Saev, Self::Safetensors, Self::Npy];

    /// As people name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SaeLens => "saelens-cache",
            Self::Saev => "saev",
            Self::Safetensors => "safetensors",
            Self::Npy => "npy",
        }
    }

    /// The format of what is at `path`, if its names tell.
    pub fn detect(path: &Path) -> Option<Self> {
        let has = |name: &str| path.join(name).is_file();
        let extension = |wanted: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(wanted));
        match () {
            () if has("state.json") && has("dataset_info.json") => Some(Self::SaeLens),
            () if has("metadata.json") && has("shards.json") => Some(Self::Saev),
            () if path.is_file() && extension("npy") => Some(Self::Npy),
            () if path.is_file() && extension("safetensors") => {
                array::holds_activations(path).then_some(Self::Safetensors)
            }
            () => None,
        }
    }
}

impl FromStr for CacheFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| {
            format!("unknown format of activations {name:?}: expected {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// What is to be imported, and how.
#[derive(Clone, Debug)]
pub struct Import {
    /// What it is.
    pub format: CacheFormat,
    /// File or folder.
    pub path: PathBuf,
    /// Decoder block that the activations left, from 0; needed where the files do not say.
    pub layer: Option<usize>,
    /// Column of a cache, if it has several.
    pub column: Option<String>,
    /// What each position is; for plain arrays.
    pub tokens: Option<PathBuf>,
    /// Positions of every sample, for plain arrays without a token table.
    pub sample_length: Option<usize>,
    /// The model's name, where the files do not say.
    pub model: Option<String>,
    /// How activations are stored; as they come, if nothing is said.
    pub store_dtype: Option<StoreDtype>,
    /// A part is closed when it holds this many positions; no sample has more.
    pub part_rows: usize,
}

/// Activations as a format hands them over.
struct Cache {
    /// Decoder blocks, ascending.
    layers: Vec<usize>,
    d_in: usize,
    dtype: StoreDtype,
    model: String,
    /// All that decides what comes, for the fingerprint.
    files: Vec<PathBuf>,
    /// Token positions in all, or nearly so.
    rows: u64,
    samples: Samples,
}

type Samples = Box<dyn Iterator<Item = Result<Captured>>>;

/// A sample of a cache.
struct Captured {
    key: String,
    /// `file:row`.
    source: String,
    tokens: Vec<Token>,
    /// For every layer `[positions, d_in]`.
    activations: Vec<Vec<f32>>,
}

/// What an import would do.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ImportPreview {
    /// Format.
    pub from: &'static str,
    /// File or folder.
    pub source: PathBuf,
    /// Decoder blocks.
    pub layers: Vec<usize>,
    /// Width of the residual stream.
    pub d_in: usize,
    /// How activations will be stored.
    pub dtype: StoreDtype,
    /// Name of the model.
    pub model: String,
    /// Token positions (of a cache of SAELens an estimate from the size of its files).
    pub rows: u64,
}

impl Import {
    fn open(&self) -> Result<Cache> {
        let plain = matches!(self.format, CacheFormat::Safetensors | CacheFormat::Npy);
        if !plain && (self.tokens.is_some() || self.sample_length.is_some()) {
            let format = self.format.name();
            return Err(Error::Plan(format!(
                "{format} states where samples begin: a token table or a sample length cannot be given"
            )));
        }
        if self.format != CacheFormat::SaeLens && self.column.is_some() {
            return Err(Error::Plan(format!("{} has no columns to choose from", self.format.name())));
        }
        if self.part_rows == 0 || self.sample_length == Some(0) {
            return Err(Error::Plan("a part and a sample hold at least one position".into()));
        }
        let mut cache = match self.format {
            CacheFormat::SaeLens => saelens::open(self),
            CacheFormat::Saev => saev::open(self),
            CacheFormat::Safetensors | CacheFormat::Npy => array::open(self),
        }?;
        if let Some(model) = &self.model {
            cache.model.clone_from(model);
        }
        cache.dtype = self.store_dtype.unwrap_or(cache.dtype);
        Ok(cache)
    }

    /// Opens what is to be imported and tells what it is.
    ///
    /// # Errors
    /// It is not what it is said to be.
    pub fn preview(&self) -> Result<ImportPreview> {
        let Cache { layers, d_in, dtype, model, rows, .. } = self.open()?;
        Ok(ImportPreview { from: self.format.name(), source: self.path.clone(), layers, d_in, dtype, model, rows })
    }

    /// Imports into `run`, or goes on with an import of the same; reports rows after every sample.
    ///
    /// # Errors
    /// Files that lie, values that are not finite, a run that holds something else, a full disk.
    pub fn run(&self, run: &Run, progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<StoreRecord> {
        let cache = self.open()?;
        let data = fingerprint(cache.files.iter().map(PathBuf::as_path))?;
        let mut arguments = serde_json::json!({
            "import": self.format.name(),
            "layers": cache.layers,
            "column": self.column,
            "model": cache.model,
            "sample_length": self.sample_length,
            "store_dtype": cache.dtype,
            "part_rows": self.part_rows,
        });
        let spec_fingerprint = format!("{data}-{arguments}");
        let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display().to_string();
        arguments["source"] = absolute(&self.path).into();
        arguments["tokens"] = self.tokens.as_deref().map(absolute).into();
        let layers = cache.layers.len();
        let spec = StoreSpec {
            model: cache.model,
            architecture: format!("imported from {}", self.format.name()),
            layers: cache.layers,
            d_in: cache.d_in,
            dtype: cache.dtype,
            fingerprint: spec_fingerprint,
            slice: None,
            arguments,
        };
        let mut writer = StoreWriter::open(run, spec)?;
        if writer.is_complete() {
            return Ok(writer.finish()?);
        }
        let stored = writer.progress();
        let empty = || Part { activations: vec![Vec::new(); layers], ..Part::default() };
        let (mut part, mut rows, mut done) = (empty(), 0, stored.rows);
        for captured in cache.samples.skip(usize::try_from(stored.samples).unwrap_or(usize::MAX)) {
            let captured = captured?;
            if rows >= self.part_rows {
                writer.write_part(&part)?;
                (part, rows) = (empty(), 0);
            }
            rows += captured.tokens.len();
            done += captured.tokens.len() as u64;
            part.source_rows += 1;
            let sample = sample(&captured);
            for (all, own) in part.activations.iter_mut().zip(captured.activations) {
                all.extend(own);
            }
            part.samples.push((sample, captured.tokens));
            progress(done)?;
        }
        if rows > 0 {
            writer.write_part(&part)?;
        }
        Ok(writer.finish()?)
    }

    /// The block that activations of this place left: what was asked for, or what the files say.
    fn layer(&self, said: &str) -> Result<usize> {
        if let Some(layer) = self.layer {
            return Ok(layer);
        }
        let (hook, layer) = sae_core::store::hooks::of_tool(said);
        if hook == sae_core::store::hook(layer) {
            return Ok(layer);
        }
        let hint = "hint: --layer L takes it as the residual stream after block L";
        let cause = match said.is_empty() {
            true => format!("the files do not say after which block the activations were captured\n{hint}"),
            false => format!("{said} is not the residual stream after a decoder block\n{hint}"),
        };
        Err(Error::data(&self.path)(cause))
    }

    /// Refuses samples that no part could hold.
    fn check_length(&self, positions: usize) -> Result<()> {
        if positions > self.part_rows {
            let cause = format!(
                "a sample of {positions} positions is longer than a shard of {}\nhint: --sample-length, --tokens or \
                 --shard-tokens",
                self.part_rows
            );
            return Err(Error::data(&self.path)(cause));
        }
        Ok(())
    }
}

/// The sample behind captured activations: known by them, since there may be nothing else of it.
fn sample(captured: &Captured) -> Sample {
    let mut hash = Sha256::new();
    for value in captured.activations.first().into_iter().flatten() {
        hash.update(value.to_le_bytes());
    }
    Sample {
        id: hex(hash.finalize()),
        key: captured.key.clone(),
        text: captured.tokens.iter().map(|token| token.piece.as_str()).collect(),
        images: Vec::new(),
        source: captured.source.clone(),
        meta: serde_json::Value::Object(serde_json::Map::new()),
    }
}

/// Values are checked where the file and the place in it are still known.
fn check_finite(path: &Path, first_row: u64, d_in: usize, values: &[f32]) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (row, column) = (first_row + (at / d_in) as u64, at % d_in);
            let value = values[at];
            Err(Error::data(path)(format!("row {row}, dimension {column} is {value}, not a finite number")))
        }
    }
}

/// The last component of a path.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
