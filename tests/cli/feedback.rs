//! `sae score --feedback` on melted rows: critiques that name what was changed fit better than those of other rows, a row without a
//! critique has no fit, and runs without critiques are rejected.

use crate::tool::{fails, json, tiny_model};
use sae_core::Run;
use sae_core::store::load_samples;
use serde_json::{Value, json as value};
use std::fs;
use std::path::Path;

const WORDS: [&str; 6] = ["red alarm", "green field", "yellow card", "blue lake", "white snow", "black cat"];

/// Sixty rows, of which the first has no critique. The critique of every second row names other words than the ones that were changed.
fn rows() -> String {
    let row = |n: usize| {
        let [wrong, right, other, another] = [0, 1, 3, 4].map(|next| WORDS[(n / 2 + next) % 6]);
        let named = if n.is_multiple_of(2) { [wrong, right] } else { [other, another] };
        let critique = format!("you must not say {} but {}", named[0], named[1]);
        value!({
            "id": format!("row-{n}"), "prompt": format!("Question {n}?"), "response": format!("it is a {wrong}"),
            "refinement": format!("it is a {right}"), "feedback": if n == 0 { Value::Null } else { critique.into() },
        })
    };
    (0..60).map(|n| format!("{}\n", row(n))).collect()
}

fn harvest(dir: &Path, melt: &[&str]) -> String {
    let (data, run) = (dir.join("data.jsonl"), dir.join("run"));
    fs::write(&data, rows()).unwrap();
    let [model, data, run] = [&tiny_model(), &data, &run].map(|path| path.to_str().unwrap().to_owned());
    json(&[&["harvest", "--model", &model, "--data", &data, "--run", &run, "--layers", "0"][..], melt].concat());
    let train = ["train", "--run", &run, "--hook", "layers.0", "--name", "a", "--features", "256", "--k", "8"];
    json(&[&train[..], &["--batch", "256", "--steps", "400", "--lr", "3e-3"]].concat());
    run
}

#[test]
fn critiques_of_the_change_fit_better_than_critiques_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvest(dir.path(), &["--melt", "response,refinement,feedback:column"]);
    let report = json(&["score", "--run", &run, "--sae", "a", "--feedback", "column"]);
    assert!(report["columns"].as_array().unwrap().contains(&value!("feedback_fit")), "{report}");
    let table = Path::new(&run).join("scores/a.parquet");
    let samples = load_samples(&Run::open(Path::new(&run)).unwrap()).unwrap();
    let fits = || filters::column::read_column(&table, "feedback_fit", &samples).unwrap();
    let found = fits();
    let row = |n: usize| samples[n].key.trim_start_matches("row-").split('/').next().unwrap().parse::<usize>().unwrap();
    let of = |even: bool| -> Vec<f64> {
        let is_kind = |n: &usize| row(*n) > 0 && row(*n).is_multiple_of(2) == even;
        (0..samples.len()).filter(is_kind).map(|n| found[n].unwrap()).collect()
    };
    let (right, wrong) = (of(true), of(false));
    let auc = filters::auc::auc(&right, &wrong).unwrap();
    assert!(auc > 0.85, "{auc}: {right:?} {wrong:?}");
    assert!((0..samples.len()).filter(|n| row(*n) == 0).all(|n| found[n].is_none()));
    // Later calls keep the column, or compute it again.
    for more in [&[][..], &["--feedback", "column"]] {
        let report = json(&[&["score", "--run", &run, "--sae", "a"], more].concat());
        let columns = report["columns"].as_array().unwrap();
        assert_eq!(columns.iter().filter(|column| **column == "feedback_fit").count(), 1, "{report}");
        assert_eq!(fits(), found);
    }
}

#[test]
fn a_run_without_critiques_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let run = harvest(dir.path(), &["--melt", "response,refinement:column"]);
    fails(1, &["score", "--run", &run, "--sae", "a", "--feedback", "column", "--dry-run"]);
    fails(2, &["score", "--run", &run, "--sae", "a", "--explain", "0", "--feedback", "column"]);
    let error = fails(1, &["score", "--run", &run, "--sae", "a", "--feedback", "column"]);
    assert!(
        error.contains("no row has samples whose column is response")
            && error.contains("--melt response,refinement,feedback:column"),
        "{error}"
    );
}
