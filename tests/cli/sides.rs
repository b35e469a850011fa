//! `sae score --sides`: the sides change places, the index keeps the weights of text and image, and columns that mean nothing are left
//! out with the reason.

use crate::tool::{data_set, fails, json, tiny_model};
use arrow::array::AsArray;
use arrow::datatypes::UInt32Type;
use sae_core::analysis::index::read_features;
use sae_core::table;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The numbers of positions of the two sides of each sample.
fn positions(run: &Path) -> [Vec<u32>; 2] {
    let batch = table::read(&run.join("scores/a.parquet"), &["n_text", "n_image"]).unwrap();
    [0, 1].map(|column| batch.column(column).as_primitive::<UInt32Type>().values().to_vec())
}

#[test]
fn other_sides_change_the_scores_but_not_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = (data_set(dir.path(), 24), dir.path().join("run"));
    let [model, data, of] = [&tiny_model(), &data, &run].map(|path| path.to_str().unwrap().to_owned());
    json(&["harvest", "--model", &model, "--data", &data, "--run", &of, "--layers", "1", "--blank-images"]);
    json(&[
        "train",
        "--run",
        &of,
        "--hook",
        "layers.1",
        "--name",
        "a",
        "--features",
        "64",
        "--batch",
        "64",
        "--steps",
        "20",
    ]);
    json(&["index", "--run", &of]);
    let score = |more: &[&str]| json(&[&["score", "--run", &of, "--threshold", "0.1"], more].concat());
    score(&[]);
    let ([text, image], index) = (positions(&run), fs::read(run.join("features/a/features.parquet")).unwrap());
    let report = score(&["--sides", "image:text"]);
    assert_eq!(positions(&run), [image, text]);
    assert_eq!(fs::read(run.join("features/a/features.parquet")).unwrap(), index);
    // The index compares other sides if it is asked to, and then it has the weights of scores that compare the same.
    let indexed = json(&["index", "--run", &of, "--sides", "image:text"]);
    let rows = |run: &Path| read_features(&run.join("features/a/features.parquet")).unwrap();
    let (swapped, step) = (rows(&run), fs::read_to_string(run.join("run.json")).unwrap());
    assert!(step.contains(r#""sides":"image:text""#) || step.contains(r#""sides": "image:text""#), "{step}");
    let plain = {
        json(&["index", "--run", &of]);
        rows(&run)
    };
    assert!(plain.iter().any(|row| row.fires_image > 0 && row.fires_text > 0));
    for (a, b) in plain.iter().zip(&swapped) {
        assert_eq!((&a.class, a.fires_text, a.fires_image), (&b.class, b.fires_image, b.fires_text));
    }
    json(&["index", "--run", &of, "--sides", "text:video"]);
    let classes: BTreeSet<String> = rows(&run).into_iter().map(|row| row.class).collect();
    assert!(classes.iter().all(|class| ["text", "other", "dead"].contains(&class.as_str())), "{classes:?}");
    assert!(indexed["classes"].is_object());
    let out = run.join("pages");
    let said =
        fails(1, &["export", "--run", &of, "--to", "html", "--class", "picture", "--out", out.to_str().unwrap()]);
    assert!(said.contains("unknown class \"picture\": expected one of"), "{said}");
    for column in ["pmi_blank", "pmi_token_min"] {
        assert!(report["without"][column].as_str().unwrap().contains("second side"), "{report}");
        assert!(!run.join(format!("scores/a.{column}.safetensors")).exists());
    }
}
