//! What people and programs write about features: labels, notes, stars, named lists; the reader of `labels.json` and its
//! only writer. An edit says what was there and what is to be, so that it meets what others wrote in between, and nobody's
//! words are lost. Knows nothing of what features are.

mod change;

pub use change::Change;

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

/// More bytes than a million features with a page of notes on every tenth would take.
const LIMIT: u64 = 1 << 28;

/// A writer holds the file for milliseconds; whoever holds it for longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is written about the features of a run, by autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    schema_version: u32,
    saes: BTreeMap<String, Written>,
    /// What others put into the file.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What is written about the features of one autoencoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// At most one a feature, in the order of the features.
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
    /// How well the label tells where the feature fires, 0 to 1, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Anything else.
    #[serde(default)]
    pub notes: String,
    /// To come back to.
    #[serde(default)]
    pub star: bool,
    /// What others put into the entry.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What came of a change.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The file as it is now.
    pub labels: Labels,
    /// Where a file that could not be read was moved to, and what was wrong with it.
    pub aside: Option<(PathBuf, String)>,
}

impl Default for Labels {
    fn default() -> Self {
        Self { schema_version: SCHEMA_VERSION, saes: BTreeMap::new(), rest: Map::new() }
    }
}

impl Entry {
    /// Nothing about a feature.
    pub fn empty(feature: u32) -> Self {
        Self { feature, ..Self::default() }
    }

    fn says_nothing(&self) -> bool {
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

    /// All that is written about features, in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.labels
    }

    /// Named lists of features, each in ascending order.
    pub fn lists(&self) -> &BTreeMap<String, Vec<u32>> {
        &self.lists
    }
}

impl Labels {
    /// Reads what is written; nothing is, where there is no file.
    ///
    /// # Errors
    /// The file is none of ours, or damaged.
    pub fn read(run: &Run) -> Result<Self> {
        let path = run.labels();
        if !path.exists() {
            return Ok(Self::default());
        }
        // The version decides before a field of another layout can be called damaged.
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
    pub fn of(&self, sae: &str) -> Option<&Written> {
        self.saes.get(sae)
    }

    /// Makes changes in memory, in their order.
    pub fn apply(&mut self, sae: &str, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let written = self.saes.entry(sae.into()).or_default();
        changes.iter().for_each(|change| change.make(written));
    }

    /// Makes changes in the file, in their order, on top of what others wrote. `known` is what the caller took the file to
    /// hold; it stands in for a file that has become unreadable, which is moved aside.
    ///
    /// # Errors
    /// The file belongs to a newer program, or cannot be written. Then nothing has changed.
    pub fn save(run: &Run, sae: &str, changes: &[Change], known: &Self) -> Result<Saved> {
        run::check_name(sae)?;
        let _held = hold(run)?;
        let (mut labels, aside) = match Self::read(run) {
            Ok(labels) => (labels, None),
            Err(Error::Format { cause, .. }) => (known.clone(), Some((put_aside(&run.labels())?, cause.text))),
            Err(other) => return Err(other),
        };
        labels.apply(sae, changes);
        file::write_json(&run.labels(), &labels)?;
        Ok(Saved { labels, aside })
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

/// Takes the labels for writing. Not the run's lock: a training holds that for days, while people label.
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

/// Moves a file to a name that is free; called by the holder of the lock only.
fn put_aside(path: &Path) -> Result<PathBuf> {
    let free = (1..).map(|n| path.with_file_name(format!("labels.unreadable-{n}.json"))).find(|name| !name.exists());
    let free = free.unwrap_or_else(|| path.with_extension("unreadable"));
    fs::rename(path, &free).map_err(Error::io("move aside", path))?;
    Ok(free)
}

#[cfg(test)]
mod tests;
