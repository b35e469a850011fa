//! Imports activations that another tool captured into a run: every format yields a stream of samples, and samples are
//! collected into parts of the store. Each format has a module of its own. Nothing here runs a model, and nothing that is
//! read is executed.
//!
//! A format is a function that returns a [`Cache`]. An interrupted import continues like a harvest, because the content of
//! a part depends on the files and the arguments alone.

mod array;
mod cache;
mod npy;
mod request;
mod saelens;
mod saev;
mod table;
mod vllm;

use crate::fingerprint::fingerprint;
use crate::identity::hex;
use crate::{Error, Result};
use cache::{Cache, Captured};
pub use request::{CacheFormat, Import};
use sae_core::Run;
use sae_core::store::sample::Sample;
use sae_core::store::{Hook, Part, StoreDtype, StoreRecord, StoreSpec, StoreWriter, hooks};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

impl CacheFormat {
    /// The format of the file or folder at `path`, if the names of its files identify it.
    pub fn detect(path: &Path) -> Option<Self> {
        let has = |name: &str| path.join(name).is_file();
        let extension = |wanted: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(wanted));
        if has("state.json") && has("dataset_info.json") {
            Some(Self::SaeLens)
        } else if has("metadata.json") && has("shards.json") {
            Some(Self::Saev)
        } else if path.is_file() && extension("npy") {
            Some(Self::Npy)
        } else if path.is_file() && extension("safetensors") {
            array::holds_activations(path).then_some(Self::Safetensors)
        } else if vllm::detect(path) {
            Some(Self::Vllm)
        } else {
            None
        }
    }
}

/// A preview of an import.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ImportPreview {
    /// Name of the format.
    pub from: &'static str,
    /// The file or folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub source: PathBuf,
    /// Where the activations were captured.
    pub hooks: Vec<Hook>,
    /// Width of an activation.
    pub d_in: usize,
    /// The number format in which activations will be stored.
    pub dtype: StoreDtype,
    /// The name of the model.
    pub model: String,
    /// Number of token positions.
    pub rows: u64,
}

impl Import {
    fn open(&self) -> Result<Cache> {
        let format = self.format.name();
        let reject = |option, reason| Err(Error::ImportOption { format, option, reason });
        let is_array = matches!(self.format, CacheFormat::Safetensors | CacheFormat::Npy);
        if !is_array && self.tokens.is_some() {
            return reject("token table", "they state themselves where samples begin");
        }
        if !is_array && self.sample_length.is_some() {
            return reject("sample length", "they state themselves where samples begin");
        }
        if self.tokens.is_some() && self.sample_length.is_some() {
            return reject("sample length together with a token table", "the table states where samples begin");
        }
        if self.format != CacheFormat::Vllm && !(self.state_layers.is_empty() && self.checkpoint.is_none()) {
            return reject("layers of vLLM or a checkpoint", "they state themselves what they hold");
        }
        if self.format != CacheFormat::SaeLens && self.column.is_some() {
            return reject("column", "they have no columns to choose from");
        }
        for (what, size) in [("the size of a part", Some(self.part_rows)), ("the sample length", self.sample_length)] {
            if size == Some(0) {
                return Err(Error::ZeroSize { what });
            }
        }
        let mut cache = match self.format {
            CacheFormat::SaeLens => saelens::open(self),
            CacheFormat::Saev => saev::open(self),
            CacheFormat::Safetensors | CacheFormat::Npy => array::open(self),
            CacheFormat::Vllm => vllm::open(self),
        }?;
        if let Some(model) = &self.model {
            cache.model.clone_from(model);
        }
        cache.dtype = self.store_dtype.unwrap_or(cache.dtype);
        Ok(cache)
    }

    /// Opens the activations and describes them without importing anything.
    ///
    /// # Errors
    /// The files are not of the stated format, or are damaged.
    pub fn preview(&self) -> Result<ImportPreview> {
        let Cache { hooks, d_in, dtype, model, rows, .. } = self.open()?;
        Ok(ImportPreview { from: self.format.name(), source: self.path.clone(), hooks, d_in, dtype, model, rows })
    }

    /// Imports the activations into `run`, or continues an interrupted import of the same activations. Calls `progress` with
    /// the number of positions done after every sample.
    ///
    /// # Errors
    /// The files are damaged or contradict each other, values are not finite, the run holds something else, the disk is
    /// full, or `progress` returns an error.
    pub fn run(&self, run: &Run, progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<StoreRecord> {
        let cache = self.open()?;
        let data = fingerprint(cache.files.iter().map(PathBuf::as_path))?;
        let mut arguments = serde_json::json!({
            "import": self.format.name(),
            "layers": hooks::listed::json(&cache.hooks),
            "column": self.column,
            "model": cache.model,
            "sample_length": self.sample_length,
            "store_dtype": cache.dtype,
            "part_rows": self.part_rows,
        });
        if self.format == CacheFormat::Vllm {
            arguments["state_layers"] = self.state_layers.clone().into();
            arguments["checkpoint"] = self.checkpoint.as_deref().map(cache::file_name).into();
        }
        let spec_fingerprint = format!("{data}-{arguments}");
        let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display().to_string();
        arguments["source"] = absolute(&self.path).into();
        arguments["tokens"] = self.tokens.as_deref().map(absolute).into();
        let hooks = cache.hooks.len();
        let spec = StoreSpec {
            model: cache.model,
            architecture: format!("imported from {}", self.format.name()),
            hooks: cache.hooks,
            d_in: cache.d_in,
            dtype: cache.dtype,
            fingerprint: spec_fingerprint,
            slice: None,
            pieces: false,
            critiques: false,
            arguments,
        };
        let mut writer = StoreWriter::open(run, spec)?;
        if writer.is_complete() {
            return Ok(writer.finish()?);
        }
        let stored = writer.progress();
        let empty = || Part { activations: vec![Vec::new(); hooks], ..Part::default() };
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
            for (activations, captured) in part.activations.iter_mut().zip(captured.activations) {
                activations.extend(captured);
            }
            part.samples.push((sample, captured.tokens));
            progress(done)?;
        }
        if rows > 0 {
            writer.write_part(&part)?;
        }
        Ok(writer.finish()?)
    }
}

/// The sample of captured activations. Its id is the hash of its activations, because nothing else of it may be known.
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
        piece: None,
    }
}
