//! What people and programs write about features: labels, notes, stars, named lists. This module is the reader of
//! `labels.json` and its only writer. An edit has the old and the new value, so that it can be merged with edits that others
//! made in between, and nobody's text is lost.

mod change;

pub use change::{Change, Conflict};

use crate::store::run;
use crate::{Error, Result, Run, file};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The layout of `labels.json` that this code reads and writes.
pub const SCHEMA_VERSION: u32 = 1;

/// Bytes that are read at most: more than a million features with a page of notes on every tenth need.
const LIMIT: u64 = 1 << 28;

/// How long to wait for another writer, which normally holds the file for milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is written about the features of a run, by autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    schema_version: u32,
    saes: BTreeMap<String, Written>,
    /// Fields that other programs added to the file.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What is written about the features of one autoencoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// At most one per feature, in the order of the features.
    #[serde(default)]
    labels: Vec<Entry>,
    /// Features by the name of the list.
    #[serde(default)]
    lists: BTreeMap<String, Vec<u32>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What is written about one feature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The feature.
    pub feature: u32,
    /// A few words: what it fires on.
    #[serde(default)]
    pub label: String,
    /// Who wrote the label: a person's name, or a model's.
    #[serde(default)]
    pub author: String,
    /// How well the label predicts where the feature fires, 0 to 1, if that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Free text.
    #[serde(default)]
    pub notes: String,
    /// Whether it is marked to come back to.
    #[serde(default)]
    pub star: bool,
    /// Fields that other programs added to the entry.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The result of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The contents of the file after the change.
    pub labels: Labels,
    /// If the file could not be read: where it was moved to, and what was wrong with it.
    pub moved: Option<(PathBuf, String)>,
    /// Entries that somebody else had changed to something else in between. Both texts are in the file.
    pub conflicts: Vec<Conflict>,
}

impl Default for Labels {
    fn default() -> Self {
        Self { schema_version: SCHEMA_VERSION, saes: BTreeMap::new(), rest: Map::new() }
    }
}

impl Entry {
    /// An empty entry of a feature.
    pub fn empty(feature: u32) -> Self {
        Self { feature, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        let Self { label, notes, star, rest, .. } = self;
        label.is_empty() && notes.is_empty() && !star && rest.is_empty()
    }
}

impl Written {
    /// What is written about a feature.
    pub fn entry(&self, feature: u32) -> Option<&Entry> {
        let at = self.labels.binary_search_by_key(&feature, |entry| entry.feature).ok()?;
        Some(&self.labels[at])
    }

    /// The entries of all features, in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.labels
    }

    /// Named lists of features, each in ascending order.
    pub fn lists(&self) -> &BTreeMap<String, Vec<u32>> {
        &self.lists
    }
}

impl Labels {
    /// Reads the labels of a run; they are empty if the file does not exist.
    ///
    /// # Errors
    /// The file has another layout or is damaged.
    pub fn read(run: &Run) -> Result<Self> {
        let path = run.labels();
        if !path.exists() {
            return Ok(Self::default());
        }
        // The version is checked first: the fields of another layout are not damaged.
        let value: Value = file::read_json(&path, LIMIT)?;
        let version = value.get("schema_version").and_then(Value::as_u64);
        if let Some(version) = version.filter(|version| *version != u64::from(SCHEMA_VERSION)) {
            let cause = format!("the labels have layout {version}, this program reads layout {SCHEMA_VERSION}");
            return Err(Error::run(&path, cause));
        }
        let mut labels: Self = serde_json::from_value(value).map_err(Error::format(&path))?;
        labels.arrange().map_err(Error::format(&path))?;
        Ok(labels)
    }

    /// What is written about an autoencoder's features.
    pub fn written(&self, sae: &str) -> Option<&Written> {
        self.saes.get(sae)
    }

    /// Applies changes in memory, in their order. Returns those that met another change of the same text.
    pub fn apply(&mut self, sae: &str, changes: &[Change]) -> Vec<Conflict> {
        if changes.is_empty() {
            return Vec::new();
        }
        let written = self.saes.entry(sae.into()).or_default();
        changes.iter().filter_map(|change| change.make(written)).collect()
    }

    /// Applies changes to the file, in their order, on top of what others wrote. `known` is what the caller believes the file to
    /// contain: it replaces a file that has become unreadable, which is renamed.
    ///
    /// # Errors
    /// The file belongs to a newer program, or cannot be written. In both cases nothing has changed.
    pub fn save(run: &Run, sae: &str, changes: &[Change], known: &Self) -> Result<Saved> {
        run::check_name(sae)?;
        let _held = hold(run)?;
        let (mut labels, moved) = match Self::read(run) {
            Ok(labels) => (labels, None),
            Err(Error::Format { cause, .. }) => (known.clone(), Some((rename_unreadable(&run.labels())?, cause.text))),
            Err(other) => return Err(other),
        };
        let conflicts = labels.apply(sae, changes);
        file::write_json(&run.labels(), &labels)?;
        Ok(Saved { labels, moved, conflicts })
    }

    fn arrange(&mut self) -> Result<(), String> {
        for (sae, written) in &mut self.saes {
            run::check_name(sae).map_err(|error| error.to_string())?;
            written.labels.sort_by_key(|entry| entry.feature);
            if let Some(twice) = written.labels.windows(2).find(|pair| pair[0].feature == pair[1].feature) {
                return Err(format!("feature {} of {sae} has two labels", twice[0].feature));
            }
            for list in written.lists.values_mut() {
                list.sort_unstable();
                list.dedup();
            }
        }
        Ok(())
    }
}

/// Takes the labels for writing. They have a lock of their own, because a training may hold the run's lock for days.
fn hold(run: &Run) -> Result<File> {
    let path = run.root().join(".labels.lock");
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(Error::io("create", &path))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { holder: " (its labels)".into(), path }),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
        }
    }
}

/// Renames a file to a free name. Only the holder of the lock may call this.
fn rename_unreadable(path: &Path) -> Result<PathBuf> {
    let free = (1..).map(|n| path.with_file_name(format!("labels.unreadable-{n}.json"))).find(|name| !name.exists());
    let free = free.unwrap_or_else(|| path.with_extension("unreadable"));
    fs::rename(path, &free).map_err(Error::io("move aside", path))?;
    Ok(free)
}

#[cfg(test)]
mod tests;
