//! Autoencoders in files: every layout of the field that is read, and the two that are written. A reader hands out
//! [`Weights`] in one form, with whatever its format subtracts or rescales folded in (FORMATS.md names it for each).
//! Nothing here computes activations, and nothing that is read is executed.
//!
//! One file a format; [`arrays`] is what they all read tensors through.

pub mod arrays;
mod dictionary_learning;
mod fold;
mod gemma_scope;
pub mod hooks;
mod llamascopium;
pub mod npz;
pub mod pickle;
mod sae_lens;
mod sparsify;
mod summary;
pub mod torch;
pub mod zip;

pub use summary::{Range, Summary};

use crate::sae::{Architecture, Weights};
use crate::{Error, Result, file};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Where an autoencoder's inputs come from, and what else its file tells people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Checkpoint of the model; empty if the file does not say.
    pub model: String,
    /// Hook in this workbench's words, such as `layers.16`; in its own words where it is not the stream behind a block,
    /// and empty if the file does not say.
    pub hook: String,
    /// Decoder block, counted from 0.
    pub layer: usize,
    /// Tokens of a sequence at most, 0 if unknown.
    pub context_size: usize,
    /// Anything about the training, for people.
    pub training: Value,
}

/// An autoencoder as it lies on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// How it was trained.
    pub architecture: Architecture,
    /// Its weights, with everything folded in that can be.
    pub weights: Weights,
    /// Where it comes from.
    pub origin: Origin,
}

/// A layout of autoencoder files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// SAELens from version 6 on; what this workbench writes.
    SaeLens,
    /// SAELens before version 6, and the release of SAE-V.
    SaeLensOld,
    /// EleutherAI's sparsify.
    Sparsify,
    /// dictionary_learning's `ae.pt`.
    DictionaryLearning,
    /// Llamascopium of OpenMOSS.
    Llamascopium,
    /// Gemma Scope's `params.npz`.
    GemmaScope1,
    /// Gemma Scope 2's `params.safetensors`.
    GemmaScope2,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::SaeLens,
        Self::SaeLensOld,
        Self::Sparsify,
        Self::DictionaryLearning,
        Self::Llamascopium,
        Self::GemmaScope1,
        Self::GemmaScope2,
    ];
    /// Those that are written, too.
    pub const WRITTEN: [Self; 2] = [Self::SaeLens, Self::Sparsify];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::SaeLens => "sae-lens",
            Self::SaeLensOld => "sae-lens-old",
            Self::Sparsify => "sparsify",
            Self::DictionaryLearning => "dictionary-learning",
            Self::Llamascopium => "llamascopium",
            Self::GemmaScope1 => "gemma-scope-1",
            Self::GemmaScope2 => "gemma-scope-2",
        }
    }

    /// The files that make a folder one of this format.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::SaeLens | Self::SaeLensOld => &[sae_lens::CONFIG, sae_lens::WEIGHTS],
            Self::Sparsify => &[sparsify::CONFIG, sparsify::WEIGHTS],
            Self::DictionaryLearning => &[dictionary_learning::WEIGHTS],
            Self::Llamascopium => &[llamascopium::CONFIG, llamascopium::WEIGHTS],
            Self::GemmaScope1 => &[gemma_scope::WEIGHTS_1],
            Self::GemmaScope2 => &[gemma_scope::WEIGHTS_2],
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
        found.ok_or_else(|| format!("{name} is no format of autoencoders; there are {}", Self::listed(&Self::ALL)))
    }
}

/// The format of a folder, or of the folder that a file lies in.
///
/// # Errors
/// There is no autoencoder that this version knows.
pub fn detect(path: &Path) -> Result<Format> {
    let dir = folder(path);
    let has = |format: &Format| format.files().iter().all(|name| dir.join(name).is_file());
    let found = Format::ALL.into_iter().find(has).ok_or_else(|| {
        let cause = format!(
            "there is no autoencoder here\nhint: `sae train --name NAME` makes one; other tools' are known by their \
             files: {}",
            Format::ALL[1..].iter().map(|f| f.files().join(" + ")).collect::<Vec<_>>().join(", ")
        );
        Error::Run { cause, path: dir.clone() }
    })?;
    match found {
        Format::SaeLens if sae_lens::is_old(&dir)? => Ok(Format::SaeLensOld),
        found => Ok(found),
    }
}

/// Reads an autoencoder of any known format.
pub fn load(path: &Path) -> Result<Saved> {
    load_as(detect(path)?, path)
}

/// Reads an autoencoder of the format given.
pub fn load_as(format: Format, path: &Path) -> Result<Saved> {
    let dir = folder(path);
    let saved = match format {
        Format::SaeLens | Format::SaeLensOld => sae_lens::load(&dir),
        Format::Sparsify => sparsify::load(&dir),
        Format::DictionaryLearning => dictionary_learning::load(&dir),
        Format::Llamascopium => llamascopium::load(&dir),
        Format::GemmaScope1 => gemma_scope::load_1(&dir),
        Format::GemmaScope2 => gemma_scope::load_2(&dir),
    }?;
    // Tensors are known to be finite; what is folded into them need not be, and `k` comes from a configuration.
    saved.weights.check().map_err(Error::format(&dir))?;
    Ok(saved)
}

/// Whether an autoencoder can be written in a format.
///
/// # Errors
/// The format is only read, or cannot express what the autoencoder does; all of that is named.
pub fn check(format: Format, saved: &Saved) -> Result<()> {
    saved.weights.check()?;
    let missing = match format {
        Format::SaeLens => sae_lens::missing(&saved.weights),
        Format::Sparsify => sparsify::missing(&saved.weights),
        other => {
            let written = Format::listed(&Format::WRITTEN);
            return Err(Error::Config(format!("{} is only read; autoencoders are written as {written}", other.name())));
        }
    };
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Config(format!("{} cannot express {}", format.name(), missing.join(" or ")))),
    }
}

/// Writes an autoencoder into a folder, beside what is there or in its place.
///
/// # Errors
/// As [`check`]; then nothing is written.
pub fn save(format: Format, dir: &Path, saved: &Saved) -> Result<()> {
    check(format, saved)?;
    match format {
        Format::Sparsify => sparsify::save(dir, saved),
        _ => sae_lens::save(dir, saved),
    }
}

/// Writes an autoencoder as a new folder, which is whole as soon as it is there.
///
/// # Errors
/// As [`save`], or the folder is there and holds something.
pub fn create(format: Format, dir: &Path, saved: &Saved) -> Result<()> {
    check(format, saved)?;
    check_empty(dir)?;
    // Hidden, so that nobody takes what an interrupted command left for an autoencoder; the next one removes it.
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

/// Refuses a path at which something is.
pub fn check_empty(dir: &Path) -> Result<()> {
    let cause = match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => return Ok(()),
        Ok(false) => "the folder is not empty\nhint: name a new one",
        Err(_) if !dir.exists() => return Ok(()),
        Err(_) => "this is not a folder\nhint: name a new one",
    };
    Err(Error::Run { cause: cause.into(), path: dir.to_path_buf() })
}

/// A folder as it is; a file stands for its folder.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if path.is_file() => parent.to_path_buf(),
        _ => path.to_path_buf(),
    }
}

/// Reads a configuration; those of autoencoders are a few kilobytes.
fn config<T: DeserializeOwned>(path: &Path) -> Result<T> {
    file::read_json(path, 1 << 24)
}

/// Refuses what a format's configuration asks for and this version does not have: `(wrong, what)`.
fn refuse<const N: usize>(path: &Path, checks: [(bool, String); N]) -> Result<()> {
    let wrong: Vec<_> = checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, what)| what).collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::format(path)(format!("not supported: {}", wrong.join("; ")))),
    }
}

/// Says that there is no such architecture, class or activation, and which there are.
fn unknown(path: &Path, what: &str, found: &str, known: &[&str]) -> Error {
    Error::format(path)(format!("the {what} {found:?} is not supported; supported are {}", known.join(", ")))
}

#[cfg(test)]
mod bad_files;
#[cfg(test)]
mod golden;
