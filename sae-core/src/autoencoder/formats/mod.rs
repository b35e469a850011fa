//! Autoencoder files: eleven formats that are read, and four that are also written. [`load`] recognizes the format and returns
//! [`Weights`](crate::autoencoder::Weights) in one form, with whatever the format subtracts or rescales folded in
//! (FORMATS.md has the details for each). Nothing that is read is executed. Each format has a file; all of them read tensors
//! through [`arrays`].

pub mod arrays;
mod config_file;
mod crosscoder;
mod crosscoder_pt;
mod dictionary_learning;
mod fold;
mod gemma_scope;
pub mod listing;
mod llama_scope;
mod llamascopium;
pub mod npz;
pub mod pickle;
mod qwen_scope;
mod sae_lens;
mod saved;
mod sparsify;
mod summary;
pub mod torch;
mod vectors;
pub mod zip;

pub use saved::{ModelStream, Origin, Saved};
pub use summary::{Range, Summary};
pub use vectors::{direction_norms, write_directions};

use crate::error::{Cause, Hint, Operation, Setting};
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A format of autoencoder files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// SAELens from version 6 on; the format of autoencoders in a run.
    SaeLens,
    /// SAELens before version 6, and the release of SAE-V.
    SaeLensOld,
    /// EleutherAI's sparsify.
    Sparsify,
    /// dictionary_learning's `ae.pt`.
    DictionaryLearning,
    /// Llamascopium of OpenMOSS.
    Llamascopium,
    /// Llama Scope of OpenMOSS, as released in 2024.
    LlamaScope,
    /// Qwen-Scope's `layerN.sae.pt`.
    QwenScope,
    /// Gemma Scope's `params.npz`.
    GemmaScope1,
    /// Gemma Scope 2's `params.safetensors`.
    GemmaScope2,
    /// Crosscoders of the fork of dictionary_learning that has them.
    Crosscoder,
    /// Crosscoders of the open-source replication of Anthropic's: `cc_weights.pt`.
    CrosscoderPt,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::SaeLens,
        Self::SaeLensOld,
        Self::Sparsify,
        Self::DictionaryLearning,
        Self::Llamascopium,
        Self::LlamaScope,
        Self::QwenScope,
        Self::GemmaScope1,
        Self::GemmaScope2,
        Self::Crosscoder,
        Self::CrosscoderPt,
    ];
    /// The formats that are also written.
    pub const WRITTEN: [Self; 4] = [Self::SaeLens, Self::Sparsify, Self::Crosscoder, Self::CrosscoderPt];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SaeLens => "sae-lens",
            Self::SaeLensOld => "sae-lens-old",
            Self::Sparsify => "sparsify",
            Self::DictionaryLearning => "dictionary-learning",
            Self::Llamascopium => "llamascopium",
            Self::LlamaScope => "llama-scope",
            Self::QwenScope => "qwen-scope",
            Self::GemmaScope1 => "gemma-scope-1",
            Self::GemmaScope2 => "gemma-scope-2",
            Self::Crosscoder => "crosscoder",
            Self::CrosscoderPt => "crosscoder-pt",
        }
    }

    /// The files by which a folder of this format is recognized, the weights last.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::SaeLens | Self::SaeLensOld => &[sae_lens::CONFIG, sae_lens::WEIGHTS],
            Self::Sparsify => &[sparsify::CONFIG, sparsify::WEIGHTS],
            Self::DictionaryLearning => &[dictionary_learning::WEIGHTS],
            Self::Llamascopium => &[llamascopium::CONFIG, llamascopium::WEIGHTS],
            Self::LlamaScope => &[llama_scope::CONFIG, llama_scope::WEIGHTS[2]],
            Self::QwenScope => &[qwen_scope::WEIGHTS],
            Self::GemmaScope1 => &[gemma_scope::WEIGHTS_1],
            Self::GemmaScope2 => &[gemma_scope::WEIGHTS_2],
            Self::Crosscoder => &[crosscoder::CONFIG, crosscoder::WEIGHTS],
            Self::CrosscoderPt => &[crosscoder_pt::CONFIG, crosscoder_pt::WEIGHTS],
        }
    }

    /// Whether a file or folder is an autoencoder of this format.
    fn is_at(self, path: &Path) -> bool {
        let dir = folder(path);
        match self {
            Self::LlamaScope => llama_scope::weights(&dir).is_some(),
            Self::QwenScope => qwen_scope::file(path).is_some(),
            Self::Crosscoder => crosscoder::is_at(&dir),
            _ => self.files().iter().all(|name| dir.join(name).is_file()),
        }
    }

    fn listed(formats: &[Self]) -> String {
        formats.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ")
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|f| f.name() == name);
        found.ok_or_else(|| format!("unknown format of autoencoders {name:?}: expected {}", Self::listed(&Self::ALL)))
    }
}

/// The format of a folder, or of a file or its folder.
///
/// # Errors
/// There is no autoencoder of a known format. The error names what is missing, or autoencoders in subfolders.
pub fn detect(path: &Path) -> Result<Format> {
    match Format::ALL.into_iter().find(|format| format.is_at(path)) {
        Some(Format::SaeLens) if sae_lens::is_old(&folder(path))? => Ok(Format::SaeLensOld),
        Some(found) => Ok(found),
        None => Err(Error::run(&folder(path), nothing(path))),
    }
}

/// Why no autoencoder was found at a path.
fn nothing(path: &Path) -> Cause {
    let dir = folder(path);
    let below = below(path);
    if !below.is_empty() {
        let names = below.iter().map(|(path, _)| path.strip_prefix(&dir).unwrap_or(path).display().to_string());
        let (count, mut names) = (below.len(), names.take(MOST_NAMED).collect::<Vec<_>>().join(", "));
        if count > MOST_NAMED {
            names += ", ...";
        }
        let text = format!("this folder is not an autoencoder, but it holds {count}: {names}");
        return Cause::with_hint(text, "name one of them".into());
    }
    // Half of a folder: weights without their configuration, or the reverse. A `config.json` alone may be of any model, and so may
    // `model.safetensors`.
    let here = |name: &str| dir.join(name).is_file();
    let halves = Format::ALL
        .into_iter()
        .filter(|format| ![Format::SaeLensOld, Format::Crosscoder].contains(format))
        .filter_map(|format| {
            let [config, weights] = format.files() else { return None };
            let (present, missing) = match (here(config) && *config != "config.json", here(weights)) {
                (_, true) => (weights, config),
                (true, false) => (config, weights),
                (false, false) => return None,
            };
            Some(format!("{present} is here without {missing} ({})", format.name()))
        });
    let halves: Vec<_> = halves.collect();
    if !halves.is_empty() {
        return format!("no autoencoder was found here: {}", halves.join("; ")).into();
    }
    let known: Vec<_> = Format::ALL[1..].iter().map(|format| format.files().join(" + ")).collect();
    let text = format!("no autoencoder was found here (looked for the files of known formats: {})", known.join(", "));
    Cause::with_hint(text, Hint::Run(Operation::Train))
}

/// Largest number of autoencoders that an error names.
const MOST_NAMED: usize = 12;
/// Limits of the search in subfolders: their number and depth.
const MOST_FOLDERS: usize = 10_000;
const DEEPEST: usize = 4;

/// The autoencoders in a folder that holds several, such as one that a tool trained or published for each layer.
pub fn below(path: &Path) -> Vec<(PathBuf, Format)> {
    let dir = folder(path);
    let mut found: Vec<_> = qwen_scope::files(&dir).into_iter().map(|file| (file, Format::QwenScope)).collect();
    let mut level = vec![dir];
    let mut looked = 0;
    for _ in 0..DEEPEST {
        let mut next = Vec::new();
        for entry in level.iter().flat_map(fs::read_dir).flatten().flatten() {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let path = entry.path();
            if hidden || !path.is_dir() || looked == MOST_FOLDERS {
                continue;
            }
            looked += 1;
            match Format::ALL.into_iter().find(|format| format.is_at(&path)) {
                Some(format) => found.push((path, format)),
                None => {
                    found.extend(qwen_scope::files(&path).into_iter().map(|file| (file, Format::QwenScope)));
                    next.push(path);
                }
            }
        }
        level = next;
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Reads an autoencoder of any known format.
pub fn load(path: &Path) -> Result<Saved> {
    load_as(detect(path)?, path)
}

/// Reads an autoencoder of this format.
pub fn load_as(format: Format, path: &Path) -> Result<Saved> {
    load_with(format, path, None)
}

/// Reads an autoencoder of this format; `k` is the number of active features, for the format whose files do not have it.
pub fn load_with(format: Format, path: &Path, k: Option<usize>) -> Result<Saved> {
    let dir = folder(path);
    if k.is_some() && format != Format::QwenScope {
        return Err(Error::config(format!(
            "{} states how many features are active, so it cannot be given",
            format.name()
        )));
    }
    let saved = match format {
        Format::SaeLens | Format::SaeLensOld => sae_lens::load(&dir),
        Format::Sparsify => sparsify::load(&dir),
        Format::DictionaryLearning => dictionary_learning::load(&dir),
        Format::Llamascopium => llamascopium::load(&dir),
        Format::LlamaScope => llama_scope::load(&dir),
        Format::QwenScope => qwen_scope::load(path, k),
        Format::GemmaScope1 => gemma_scope::load_1(&dir),
        Format::GemmaScope2 => gemma_scope::load_2(&dir),
        Format::Crosscoder => crosscoder::load(&dir),
        Format::CrosscoderPt => crosscoder_pt::load(&dir),
    }?;
    // Tensors were checked, but not what was folded into them, nor `k`, which comes from a configuration.
    saved.weights.check().map_err(Error::format(&dir))?;
    Ok(saved)
}

/// Checks that an autoencoder can be written in a format.
///
/// # Errors
/// The format is only read, or cannot express the autoencoder; everything that it cannot express is named.
pub fn check(format: Format, saved: &Saved) -> Result<()> {
    saved.weights.check()?;
    let mut missing = match format {
        Format::SaeLens => sae_lens::missing(&saved.weights),
        Format::Sparsify => sparsify::missing(&saved.weights),
        Format::Crosscoder => crosscoder::missing(saved),
        Format::CrosscoderPt => crosscoder_pt::missing(saved),
        other => {
            let written = Format::listed(&Format::WRITTEN);
            return Err(Error::config(format!("{} is only read; autoencoders are written as {written}", other.name())));
        }
    };
    if saved.needs_scales() {
        missing.push("inputs scaled by unknown factors");
    }
    if format == Format::Sparsify && !saved.origin.models.is_empty() {
        missing.push("blocks of several models");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!("{} cannot express {}", format.name(), missing.join(" or "))))
}

/// Writes an autoencoder into a folder, and replaces files with the same names.
///
/// # Errors
/// As [`check`]; nothing is written then.
pub fn save(format: Format, dir: &Path, saved: &Saved) -> Result<()> {
    check(format, saved)?;
    match format {
        Format::Sparsify => sparsify::save(dir, saved),
        Format::Crosscoder => crosscoder::save(dir, saved),
        Format::CrosscoderPt => crosscoder_pt::save(dir, saved),
        _ => sae_lens::save(dir, saved),
    }
}

/// Writes an autoencoder as a new folder, which appears complete or not at all.
///
/// # Errors
/// As [`save`], or the folder exists and is not empty.
pub fn create(format: Format, dir: &Path, saved: &Saved) -> Result<()> {
    check(format, saved)?;
    check_empty(dir)?;
    // Hidden, so that nobody takes the folder of an interrupted command for an autoencoder; the next command removes it.
    let mut name = std::ffi::OsString::from(".");
    name.push(dir.file_name().unwrap_or_default());
    name.push(".partial");
    let partial = dir.with_file_name(name);
    let written = (|| {
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(Error::io("remove", &partial))?;
        }
        save(format, &partial, saved)?;
        fs::rename(&partial, dir).map_err(Error::io("rename into", dir))
    })();
    if written.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

/// Checks that a path is free: nothing, or an empty folder.
pub fn check_empty(dir: &Path) -> Result<()> {
    let cause = match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => return Ok(()),
        Ok(false) => "the folder is not empty",
        Err(_) if !dir.exists() => return Ok(()),
        Err(_) => "this is not a folder",
    };
    Err(Error::run(dir, Cause::with_hint(cause, Hint::Change(Setting::Output))))
}

/// The folder of a path: a file stands for its folder, and a file in Llama Scope's folder of checkpoints for the folder around it.
fn folder(path: &Path) -> PathBuf {
    let Some(dir) = path.parent().filter(|_| path.is_file()) else { return path.to_path_buf() };
    match dir.parent() {
        Some(around) if dir.ends_with("checkpoints") && around.join(llama_scope::CONFIG).is_file() => around.into(),
        _ => dir.to_path_buf(),
    }
}

#[cfg(test)]
mod bad_files;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod published;
