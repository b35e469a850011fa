//! Reads what a run says of itself: `run.json`, the logs of trainings, evaluations.

use super::guarded;
use crate::state::data::Report;
use sae_core::train::read_log;
use sae_core::{Run, file};

/// Bytes of an evaluation at most.
const LIMIT: u64 = 1 << 26;

/// Reads all of it; what cannot be read is a sentence in its place.
pub fn read(run: &Run) -> Report {
    let record = guarded(|| run.record().map_err(|error| error.message()));
    let saes = run.list("saes");
    let there = |file: &'static str| saes.iter().filter(move |name| run.sae_dir(name).join(file).is_file());
    let logs = there("log.parquet").map(|name| {
        let log = guarded(|| read_log(&run.sae_dir(name).join("log.parquet")).map_err(|error| error.message()));
        (name.clone(), log)
    });
    let evaluations = there("eval.json").map(|name| {
        let path = run.sae_dir(name).join("eval.json");
        (name.clone(), guarded(|| file::read_json(&path, LIMIT).map_err(|error| error.message())))
    });
    Report {
        record: record.map(|record| {
            let head = [("program", record.program), ("created", record.created)];
            let head = head.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
            head.chain(record.steps).collect()
        }),
        logs: logs.collect(),
        evaluations: evaluations.collect(),
    }
}
