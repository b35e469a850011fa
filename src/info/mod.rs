//! What a file or folder is: a run, a store of activations, an autoencoder of any known format, or a data set. Only reads.

mod data;

pub use data::{Column, Content, DataInfo, DataSetsInfo, Shared, SkippedKind};

use crate::control::Control;
use crate::error::unfinished;
use crate::sae::last_step;
use crate::{Error, Result};
use sae_core::autoencoder::Architecture;
use sae_core::autoencoder::formats::{self, Summary};
use sae_core::store::run::{PIECES_VERSION, SCHEMA_VERSION};
use sae_core::store::{Manifest, Store, StoreDtype};
use sae_core::{Run, file};
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};

const RECORD: &str = "run.json";
const MANIFEST: &str = "manifest.json";
/// Extensions of files with weights.
const WEIGHTS: [&str; 4] = ["safetensors", "pt", "pth", "npz"];

/// What to look at.
#[derive(Clone, Debug)]
pub struct InfoRequest {
    /// A folder, or a file in it. Several, if all of them are data sets.
    pub paths: Vec<PathBuf>,
    /// Active features per token, for an autoencoder whose files do not say.
    pub k: Option<usize>,
    /// Rows of each data set that are read at most.
    pub limit: u64,
}

/// What the file or folder is.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum InfoReport {
    /// An autoencoder.
    Autoencoder(AutoencoderInfo),
    /// A folder with autoencoders in its subfolders.
    Autoencoders(AutoencodersInfo),
    /// Activations.
    Activations(ActivationsInfo),
    /// A run.
    Run(RunInfo),
    /// Data sets.
    Data(DataSetsInfo),
}

/// An autoencoder.
#[derive(Clone, Debug, Serialize)]
pub struct AutoencoderInfo {
    /// Its format.
    pub format: &'static str,
    /// Its path.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub path: PathBuf,
    /// Its properties.
    #[serde(flatten)]
    pub summary: Summary,
}

/// Autoencoders in the subfolders of a folder.
#[derive(Clone, Debug, Serialize)]
pub struct AutoencodersInfo {
    /// The folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub path: PathBuf,
    /// The autoencoders.
    pub autoencoders: Vec<FoundAutoencoder>,
}

/// An autoencoder that was found.
#[derive(Clone, Debug, Serialize)]
pub struct FoundAutoencoder {
    /// Its path.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub path: PathBuf,
    /// Its format.
    pub format: &'static str,
}

/// Activations of one hook.
#[derive(Clone, Debug, Serialize)]
pub struct ActivationsInfo {
    /// Their manifest's file.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub path: PathBuf,
    /// The manifest, with the number of shards in place of the shards.
    #[serde(flatten, serialize_with = "with_shard_count")]
    pub manifest: Manifest,
}

fn with_shard_count<S: Serializer>(manifest: &Manifest, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(manifest).map_err(serde::ser::Error::custom)?;
    value["shards"] = manifest.shards.len().into();
    value.serialize(serializer)
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunInfo {
    /// Its folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub path: PathBuf,
    /// The program that began it.
    pub program: String,
    /// When, in UTC.
    pub created: String,
    /// Steps of the work that were done.
    pub steps: Vec<String>,
    /// Finished activations.
    pub activations: Vec<HookInfo>,
    /// Hooks whose activations are not finished.
    #[serde(skip)]
    pub unfinished: Vec<String>,
    /// Autoencoders.
    pub saes: Vec<SaeInfo>,
    /// Autoencoders that cannot be read, and why.
    #[serde(skip)]
    pub damaged: Vec<(String, String)>,
    /// Autoencoders with an index.
    pub features: Vec<String>,
    /// Score tables.
    pub scores: Vec<String>,
}

/// Activations of a run.
#[derive(Clone, Debug, Serialize)]
pub struct HookInfo {
    /// The hook.
    pub hook: String,
    /// Token positions.
    pub tokens: u64,
    /// Samples.
    pub samples: u64,
    /// Width of the residual stream.
    pub d_in: usize,
    /// How they are stored.
    pub dtype: StoreDtype,
}

/// An autoencoder of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum SaeInfo {
    /// One that can be used.
    Finished {
        /// Its name.
        name: String,
        /// Number of features.
        features: usize,
        /// How it was trained.
        architecture: Architecture,
        /// Its activations.
        hook: String,
        /// The activations that a transcoder reconstructs; empty for an autoencoder.
        #[serde(skip_serializing_if = "String::is_empty")]
        target: String,
    },
    /// One whose training has not been finished.
    Unfinished {
        /// Its name.
        name: String,
        /// The step of its newest checkpoint.
        #[serde(rename = "unfinished", serialize_with = "progress")]
        step: Option<u64>,
    },
}

fn progress<S: Serializer>(step: &Option<u64>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&unfinished(*step))
}

impl InfoRequest {
    /// A request about a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { paths: vec![path.into()], k: None, limit: u64::MAX }
    }

    /// Finds out what it is.
    ///
    /// # Errors
    /// A path does not exist, or is nothing that this library knows; one of several is no data set.
    pub fn run(&self, control: &mut Control) -> Result<InfoReport> {
        if let Some(path) = self.paths.iter().find(|path| !path.exists() && !has_rows(path)) {
            return Err(Error::NothingThere { path: path.clone() });
        }
        match &self.paths[..] {
            // What it lies beside does not matter.
            [path] if is_table(path) => Ok(InfoReport::Data(data::describe(&self.paths, self.limit, control)?)),
            [path] => match self.known(path) {
                Err(_) if !path.join(RECORD).is_file() && is_data(path) => {
                    Ok(InfoReport::Data(data::describe(&self.paths, self.limit, control)?))
                }
                found => found,
            },
            paths => Ok(InfoReport::Data(data::describe(paths, self.limit, control)?)),
        }
    }

    /// Anything but a data set.
    fn known(&self, path: &Path) -> Result<InfoReport> {
        // A file may be given in place of its folder: `run.json`, `manifest.json`, `ae.pt`.
        let folder = match path.parent() {
            Some(parent) if path.is_file() => parent,
            _ => path,
        };
        if folder.join(RECORD).is_file() {
            Ok(InfoReport::Run(run(folder)?))
        } else if folder.join(MANIFEST).is_file() {
            Ok(InfoReport::Activations(activations(folder.join(MANIFEST))?))
        } else {
            self.autoencoder(path)
        }
    }

    fn autoencoder(&self, path: &Path) -> Result<InfoReport> {
        let path = path.to_path_buf();
        let format = match formats::detect(&path) {
            Ok(format) => format,
            Err(error) => {
                let found =
                    |(path, format): (PathBuf, formats::Format)| FoundAutoencoder { path, format: format.name() };
                // Autoencoders beside a file say nothing about the file.
                let below = if path.is_dir() { formats::below(&path) } else { Vec::new() };
                let autoencoders: Vec<_> = below.into_iter().map(found).collect();
                if autoencoders.is_empty() {
                    return Err(error.into());
                }
                return Ok(InfoReport::Autoencoders(AutoencodersInfo { path, autoencoders }));
            }
        };
        let summary = Summary::new(&formats::load_with(format, &path, self.k)?);
        Ok(InfoReport::Autoencoder(AutoencoderInfo { format: format.name(), path, summary }))
    }
}

/// Whether a path is a file, a folder, or a pattern of shards (`name-{000..012}.tar`) with rows.
fn has_rows(path: &Path) -> bool {
    harvest::data::Source::open(path).is_ok()
}

/// Whether a path is a file of rows by its name and content. (JSON may be anything.)
fn is_table(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase()).unwrap_or_default();
    let is_other = extension == "json" || WEIGHTS.iter().any(|weights| extension == *weights);
    path.is_file() && !is_other && has_rows(path)
}

/// Whether a path is a data set. In a folder with weights it is not: such a folder is meant to be an autoencoder, and the error of
/// its reader says what is missing.
fn is_data(path: &Path) -> bool {
    let is_weights = |file: std::fs::DirEntry| {
        let extension = file.path().extension().map(|extension| extension.to_ascii_lowercase());
        extension.is_some_and(|extension| WEIGHTS.iter().any(|weights| extension == *weights))
    };
    let folder = std::fs::read_dir(path);
    !folder.is_ok_and(|files| files.flatten().any(is_weights)) && has_rows(path)
}

fn activations(path: PathBuf) -> Result<ActivationsInfo> {
    let manifest: Manifest = file::read_json(&path, 1 << 28)?;
    if ![SCHEMA_VERSION, PIECES_VERSION].contains(&manifest.schema_version) {
        return Err(Error::StoreVersion { found: manifest.schema_version, path });
    }
    Ok(ActivationsInfo { path, manifest })
}

fn run(folder: &Path) -> Result<RunInfo> {
    let run = Run::open(folder)?;
    let record = run.record()?;
    let (mut hooks, mut partial) = (Vec::new(), Vec::new());
    for hook in run.list("activations") {
        // An unfinished harvest does not prevent a report about the rest.
        let Ok(store) = Store::open_with_pieces(&run, &hook) else {
            partial.push(hook);
            continue;
        };
        let m = store.manifest();
        hooks.push(HookInfo { hook, tokens: m.rows, samples: m.samples, d_in: m.d_in, dtype: m.dtype });
    }
    let (mut saes, mut damaged) = (Vec::new(), Vec::new());
    for name in run.saes() {
        match formats::load(&run.sae_dir(&name)) {
            Ok(saved) => saes.push(SaeInfo::Finished {
                name,
                features: saved.weights.d_sae,
                architecture: saved.architecture,
                hook: saved.origin.hook,
                target: saved.origin.target,
            }),
            Err(error) => damaged.push((name, error.to_string())),
        }
    }
    let unfinished = |name: String| SaeInfo::Unfinished { step: last_step(&run, &name), name };
    saes.extend(run.unfinished_saes().into_iter().map(unfinished));
    let (features, mut scores) = (run.list("features"), run.list("scores"));
    // Only the tables are listed, not the other files in their folder.
    scores.retain(|file| file.ends_with(".parquet"));
    Ok(RunInfo {
        path: folder.into(),
        program: record.program,
        created: record.created,
        steps: record.steps.keys().cloned().collect(),
        activations: hooks,
        unfinished: partial,
        saes,
        damaged,
        features,
        scores,
    })
}
