//! Opens a run: finds the autoencoder, reads its table of features, and of the other tables what they say of one feature.
//! Every failure becomes a sentence with what to do about it.

use super::guarded;
use crate::state::Link;
use crate::state::data::{Details, OpenedRun, RunInfo};
use sae_core::Run;
use sae_core::analysis::index::{Bin, Coactive, Example, Lists, Neighbor, Row, Word, read_features};
use sae_core::analysis::labels::Labels;
use sae_core::store::run;
use sae_core::store::{STEP, StoreRecord};
use std::path::{Path, absolute};

const FEATURES: &str = "features.parquet";

/// Reads the table of features that a link is about.
pub fn open(link: &Link) -> Result<(OpenedRun, Run), String> {
    let root = absolute(&link.run).unwrap_or_else(|_| link.run.clone());
    if !root.is_dir() {
        return Err(format!("There is no such folder: {}", root.display()));
    }
    let run = Run::open(&root).map_err(|error| error.message())?;
    let indexed: Vec<_> =
        run.list("features").into_iter().filter(|name| run.features(name).join(FEATURES).is_file()).collect();
    let sae = choose(&run, link.sae.as_deref(), &indexed)?;
    let rows = read_features(&run.features(&sae).join(FEATURES)).map_err(|error| {
        format!("{error}\nhint: `sae index --run {} --sae {sae}` makes the index again", root.display())
    })?;
    if rows.is_empty() {
        return Err(format!("The feature index of {sae} lists no features: {}", root.display()));
    }
    // A harvest that cannot be told about is no reason to show no features.
    let harvest: Option<StoreRecord> = run.read_step(STEP).ok().flatten();
    let stored = harvest.as_ref().map(StoreRecord::progress).unwrap_or_default();
    let step: Option<serde_json::Value> = run.read_step(&format!("index/{sae}")).ok().flatten();
    let threshold = step.and_then(|step| step.get("threshold")?.as_f64());
    let info = RunInfo {
        root,
        model: harvest.map(|harvest| harvest.spec.model).unwrap_or_default(),
        samples: stored.samples,
        tokens: stored.rows,
        sae,
        indexed,
        threshold,
    };
    // Labels that cannot be read are no reason to show no features; they are put aside when something is written.
    let labels = match Labels::read(&run) {
        Ok(labels) => (labels, None),
        Err(error) => (Labels::default(), Some(error.message())),
    };
    let author = ["USER", "USERNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    Ok((OpenedRun { info, rows, labels, author }, run))
}

fn choose(run: &Run, wanted: Option<&str>, indexed: &[String]) -> Result<String, String> {
    let root = run.root().display();
    if let Some(name) = wanted {
        run::check_name(name).map_err(|error| error.message())?;
        return match indexed.iter().any(|known| known == name) {
            true => Ok(name.into()),
            false => Err(missing(run, name, indexed)),
        };
    }
    if let Some(first) = indexed.first() {
        return Ok(first.clone());
    }
    match (run.saes().first(), run.unfinished_saes().first()) {
        (Some(name), _) => Err(missing(run, name, indexed)),
        (None, Some(name)) => Err(format!(
            "The training of {name} is not finished: {root}\nhint: the same `sae train` with --resume continues it"
        )),
        (None, None) => {
            Err(format!("This run has no autoencoder yet: {root}\nhint: `sae train --run {root}` trains one"))
        }
    }
}

fn missing(run: &Run, name: &str, indexed: &[String]) -> String {
    let root = run.root().display();
    let hint = format!("hint: `sae index --run {root} --sae {name}` makes it");
    match (run.features(name).is_dir(), run.sae_dir(name).is_dir()) {
        (true, _) => format!("The feature index of {name} is not finished: {root}\n{hint}"),
        (_, true) => format!("There is no feature index of {name} yet: {root}\n{hint}"),
        _ if indexed.is_empty() => format!("This run has no autoencoder {name}: {root}"),
        _ => format!("This run has no autoencoder {name}: {root}\nhint: it has {}", indexed.join(", ")),
    }
}

/// The tables of an index that are read a feature at a time.
pub struct Tables {
    examples: Table<(u8, Example)>,
    neighbors: Table<Neighbor>,
    histogram: Table<Bin>,
    coactive: Table<Coactive>,
    words: Table<Word>,
}

type Table<R> = Result<Lists<R>, String>;

impl Tables {
    /// Opens the tables that are there.
    pub fn open(run: &Run, sae: &str, features: usize) -> Self {
        let folder = run.features(sae);
        Self {
            examples: table(&folder, features, "examples"),
            neighbors: table(&folder, features, "neighbors"),
            histogram: table(&folder, features, "histogram of activations"),
            coactive: table(&folder, features, "list of co-active features"),
            words: table(&folder, features, "promoted and suppressed tokens"),
        }
    }

    /// Reads what they say of a feature.
    pub fn read(&self, feature: u32) -> Details {
        Details {
            examples: rows(&self.examples, feature),
            neighbors: rows(&self.neighbors, feature),
            histogram: rows(&self.histogram, feature),
            coactive: rows(&self.coactive, feature),
            words: rows(&self.words, feature),
        }
    }
}

fn table<R: Row>(folder: &Path, features: usize, what: &str) -> Table<R> {
    if !folder.join(R::FILE).is_file() {
        return Err(format!("The index has no {what} yet: run `sae index` again to see this."));
    }
    guarded(|| Lists::open(folder, features).map_err(|error| error.message()))
}

fn rows<R: Row>(table: &Table<R>, feature: u32) -> Result<Vec<R>, String> {
    let table = table.as_ref().map_err(Clone::clone)?;
    guarded(|| table.rows(feature).map_err(|error| error.message()))
}
