//! Opens a run: finds the autoencoder, reads its index. Every failure becomes a sentence with what to do about it.

use crate::state::Link;
use crate::state::data::{Examples, Opened, RunInfo};
use sae_core::index::{Neighbour, read_examples, read_features, read_neighbours};
use sae_core::labels::Labels;
use sae_core::store::{STEP, StoreRecord};
use sae_core::{Run, run};
use std::path::{Path, absolute};

const FEATURES: &str = "features.parquet";

/// Reads the table of features that a link is about.
pub fn open(link: &Link) -> Result<(Opened, Run), String> {
    let root = absolute(&link.run).unwrap_or_else(|_| link.run.clone());
    if !root.is_dir() {
        return Err(format!("There is no such folder: {}", root.display()));
    }
    let run = Run::open(&root).map_err(|error| error.to_string())?;
    let indexed: Vec<_> =
        run.list("features").into_iter().filter(|name| run.features(name).join(FEATURES).is_file()).collect();
    let sae = choose(&run, link.sae.as_deref(), &indexed)?;
    let rows = read_features(&run.features(&sae).join(FEATURES)).map_err(|error| error.to_string())?;
    if rows.is_empty() {
        return Err(format!("The feature index of {sae} lists no features: {}", root.display()));
    }
    // A harvest that cannot be told about is no reason to show no features.
    let harvest: Option<StoreRecord> = run.noted(STEP).ok().flatten();
    let stored = harvest.as_ref().map(StoreRecord::progress).unwrap_or_default();
    let info = RunInfo {
        root,
        model: harvest.map(|harvest| harvest.spec.model).unwrap_or_default(),
        samples: stored.samples,
        tokens: stored.rows,
        sae,
        indexed,
    };
    // Labels that cannot be read are no reason to show no features; they are put aside when something is written.
    let labels = match Labels::read(&run) {
        Ok(labels) => (labels, None),
        Err(error) => (Labels::default(), Some(error.to_string())),
    };
    let author = ["USER", "USERNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    Ok((Opened { info, rows, labels, author }, run))
}

fn choose(run: &Run, wanted: Option<&str>, indexed: &[String]) -> Result<String, String> {
    let root = run.root().display();
    if let Some(name) = wanted {
        run::check_name(name).map_err(|error| error.to_string())?;
        return match indexed.iter().any(|known| known == name) {
            true => Ok(name.into()),
            false => Err(missing(run, name, indexed)),
        };
    }
    if let Some(first) = indexed.first() {
        return Ok(first.clone());
    }
    match run.list("saes").first() {
        Some(name) => Err(missing(run, name, indexed)),
        None => Err(format!("This run has no autoencoder yet: {root}\nhint: `sae train --run {root}` trains one")),
    }
}

fn missing(run: &Run, name: &str, indexed: &[String]) -> String {
    let root = run.root().display();
    let hint = format!("hint: `sae index --run {root} --sae {name}` makes it");
    match (run.features(name).is_dir(), run.sae(name).is_dir()) {
        (true, _) => format!("The feature index of {name} is not finished: {root}\n{hint}"),
        (_, true) => format!("There is no feature index of {name} yet: {root}\n{hint}"),
        _ if indexed.is_empty() => format!("This run has no autoencoder {name}: {root}"),
        _ => format!("This run has no autoencoder {name}: {root}\nhint: it has {}", indexed.join(", ")),
    }
}

/// Reads all examples.
pub fn examples(run: &Run, sae: &str, features: usize) -> Result<Examples, String> {
    let path = run.features(sae).join("examples.parquet");
    there(&path, "The index has no examples yet")?;
    read_examples(&path, features).map_err(|error| error.to_string())
}

/// Reads all neighbours.
pub fn neighbours(run: &Run, sae: &str, features: usize) -> Result<Vec<Vec<Neighbour>>, String> {
    let path = run.features(sae).join("neighbours.parquet");
    there(&path, "The index has no neighbours yet")?;
    read_neighbours(&path, features).map_err(|error| error.to_string())
}

fn there(path: &Path, missing: &str) -> Result<(), String> {
    if path.is_file() { Ok(()) } else { Err(format!("{missing}.")) }
}
