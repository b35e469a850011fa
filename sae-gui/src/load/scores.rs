//! Reads a score table with all its columns, as `sae filter` reads one of them, and what `sae score` and `sae validate` say about
//! them.

use crate::state::score_description::{Auc, Validation};
use crate::state::score_filter::Scores;
use filters::column::ScoreTable;
use filters::keep::{ScoreMetadata, beside};
use sae_core::store::load_samples;
use sae_core::{Run, file};
use sae_workbench::filter::candidates;
use serde_json::Value;
use std::path::Path;

/// Bytes of a JSON file at most.
const LIMIT: u64 = 16 << 20;

/// Reads the score table of an autoencoder. Its rows are matched with the samples of the run, whoever wrote it.
pub fn read(run: &Run, sae: &str) -> Result<Scores, String> {
    let path = run.scores(sae);
    if !path.is_file() {
        let root = run.root().display();
        return Err(format!(
            "There are no scores of {sae} yet.\nhint: `sae score --run {root} --sae {sae}` makes them"
        ));
    }
    let samples = load_samples(run).map_err(|error| error.message())?;
    let table = ScoreTable::open(&path, &samples).map_err(|error| error.message())?;
    let mut columns = Vec::new();
    for name in table.names() {
        let values = table.column(&name).map_err(|error| error.message())?;
        // Columns that were not asked for are null as a whole.
        if values.iter().any(Option::is_some) {
            columns.push((name, values));
        }
    }
    // Estimates and validation explain the scores; without them the scores can be used as well.
    let metadata: ScoreMetadata = file::read_json(&beside(&path), LIMIT).unwrap_or_default();
    let validation = validation(&run.root().join("validate").join(format!("{sae}.json")));
    let candidates = candidates(&samples).map_err(|error| format!("samples.parquet is damaged: {error}."))?;
    let ids = samples.into_iter().map(|sample| sample.id).collect();
    Ok(Scores { ids, candidates, columns, estimates: metadata.keep, validation })
}

/// The results of `sae validate`, if there are any.
fn validation(path: &Path) -> Validation {
    let report: Value = file::read_json(path, LIMIT).unwrap_or_default();
    let mut validation = Validation::new();
    for trial in report["trials"].as_array().into_iter().flatten() {
        // A number without the kind of error says nothing.
        let Some(corruption) = trial["corruption"].as_str() else { continue };
        for (score, result) in trial["scores"].as_object().into_iter().flatten() {
            let [Some(auc), Some(low), Some(high)] = ["auc", "low", "high"].map(|name| result[name].as_f64()) else {
                continue;
            };
            let auc = Auc { corruption: corruption.into(), auc, interval: [low, high] };
            validation.entry(score.clone()).or_default().push(auc);
        }
    }
    validation
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, LargeStringArray, RecordBatch, StringViewArray,
    };
    use sae_core::store::sample::Sample;
    use sae_core::store::{Hook, Part, StoreDtype, StoreSpec, StoreWriter};
    use sae_core::table;
    use std::sync::Arc;

    /// A run of four samples, the last of which says the same as the first.
    fn run(folder: &std::path::Path) -> Run {
        let run = Run::create(folder).unwrap();
        let sample = |id: &str| {
            let [key, text, source] = Default::default();
            (Sample { id: id.into(), key, text, images: vec![], source, meta: Value::Null, piece: None }, vec![])
        };
        let samples = ["a", "b", "c", "a"].map(sample).to_vec();
        let spec = StoreSpec {
            model: "m".into(),
            architecture: "m".into(),
            hooks: vec![Hook::block(0)],
            d_in: 1,
            dtype: StoreDtype::F32,
            fingerprint: "f".into(),
            slice: None,
            pieces: false,
            critiques: false,
            arguments: Value::Null,
        };
        let mut writer = StoreWriter::open(&run, spec).unwrap();
        writer.write_part(&Part { samples, activations: vec![vec![]], source_rows: 4, skipped: vec![] }).unwrap();
        writer.finish().unwrap();
        run
    }

    fn write(run: &Run, columns: Vec<(&str, ArrayRef)>) {
        let path = run.scores("base");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        table::write(&path, &RecordBatch::try_from_iter_with_nullable(columns).unwrap()).unwrap();
    }

    #[test]
    fn tables_that_other_programs_wrote_again_are_joined_by_sample() {
        let dir = tempfile::tempdir().unwrap();
        let run = run(&dir.path().join("run"));
        // As pandas writes a table that was sorted by another column, and polars one without the number of the sample.
        let pandas: Vec<(&str, ArrayRef)> = vec![
            ("sample", Arc::new(Int64Array::from(vec![2, 0, 3, 1]))),
            ("id", Arc::new(LargeStringArray::from(vec!["c", "a", "a", "b"]))),
            ("cosine_paper", Arc::new(Float32Array::from(vec![Some(2.0), Some(0.5), Some(f32::NAN), None]))),
            ("random", Arc::new(Float64Array::from(vec![None; 4]))),
            ("judged", Arc::new(Int64Array::from(vec![20, 0, 30, 10]))),
            ("good", Arc::new(BooleanArray::from(vec![true, false, true, false]))),
            ("reason", Arc::new(LargeStringArray::from(vec![None::<&str>; 4]))),
            ("__index_level_0__", Arc::new(Int64Array::from(vec![2, 0, 3, 1]))),
        ];
        let mut polars = pandas[1..7].to_vec();
        polars[0].1 = Arc::new(StringViewArray::from(vec!["c", "a", "a", "b"]));
        for columns in [pandas, polars] {
            write(&run, columns);
            let scores = read(&run, "base").unwrap();
            assert_eq!(scores.ids, ["a", "b", "c", "a"]);
            let numbers = |values: [f64; 4]| values.map(Some).to_vec();
            let expected = [
                ("cosine_paper".to_owned(), vec![Some(0.5), None, Some(2.0), None]),
                ("judged".to_owned(), numbers([0.0, 10.0, 20.0, 30.0])),
                ("good".to_owned(), numbers([0.0, 0.0, 1.0, 1.0])),
            ];
            assert_eq!(scores.columns, expected);
        }
    }

    #[test]
    fn results_of_validation_are_read_by_score() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base.json");
        let results =
            serde_json::json!({ "pmi": { "auc": 0.9, "low": 0.87, "high": 0.92 }, "random": { "auc": null } });
        let report = serde_json::json!({ "trials": [{ "corruption": "swapped-answers", "scores": results }] });
        file::write_json(&path, &report).unwrap();
        let found = validation(&path);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["pmi"]);
        assert_eq!((found["pmi"][0].corruption.as_str(), found["pmi"][0].interval), ("swapped-answers", [0.87, 0.92]));
        assert!(validation(&dir.path().join("nothing.json")).is_empty());
    }

    #[test]
    fn a_table_of_other_samples_is_refused_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let run = run(&dir.path().join("run"));
        assert!(read(&run, "base").unwrap_err().contains("There are no scores of base yet."));
        let ids: ArrayRef = Arc::new(LargeStringArray::from(vec!["a", "b", "c"]));
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 3]));
        write(&run, vec![("id", ids), ("random", values.clone())]);
        let message = read(&run, "base").unwrap_err();
        assert!(
            message.contains("other samples than those of the run")
                && message.contains("hint: score the samples first"),
            "{message}"
        );
        write(&run, vec![("random", values)]);
        assert!(read(&run, "base").unwrap_err().contains("there is no column id"));
    }
}
