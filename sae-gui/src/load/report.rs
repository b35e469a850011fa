//! Reads what a run says about itself: `run.json`, the logs of trainings, evaluations.

use super::guarded;
use crate::state::report::RunReport;
use sae_core::train::read_log;
use sae_core::{Run, file};

/// Bytes of an evaluation at most.
const LIMIT: u64 = 1 << 26;

/// Reads all of it. What cannot be read becomes a sentence in its place.
pub fn read(run: &Run) -> RunReport {
    let record = guarded(|| run.record().map_err(|error| error.message()));
    let saes = run.list("saes");
    let with_file = |file: &'static str| saes.iter().filter(move |name| run.sae_dir(name).join(file).is_file());
    let logs = with_file("log.parquet").map(|name| {
        let log = guarded(|| read_log(&run.sae_dir(name).join("log.parquet")).map_err(|error| error.message()));
        (name.clone(), log)
    });
    let evaluations = with_file("eval.json").map(|name| {
        let path = run.sae_dir(name).join("eval.json");
        (name.clone(), guarded(|| file::read_json(&path, LIMIT).map_err(|error| error.message())))
    });
    RunReport {
        record: record.map(|record| {
            let head = [("program", record.program), ("created", record.created)];
            let head = head.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
            head.chain(record.steps).collect()
        }),
        logs: logs.collect(),
        evaluations: evaluations.collect(),
    }
}
