//! Harvest, train, evaluate, index, score, filter through the program.

use crate::tool::{data_set, json, sae, said, tiny_model};
use std::collections::BTreeSet;
use std::fs;

#[test]
fn from_a_data_set_to_a_filtered_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 60);
    let (model, run, out, dropped) =
        (tiny_model(), dir.path().join("run"), dir.path().join("out"), dir.path().join("gone"));
    let [model, data, run, out, dropped] = [&model, &data, &run, &out, &dropped].map(|p| p.to_str().unwrap());

    let plan = json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1", "--dry-run"]);
    assert_eq!(plan["command"], "harvest");
    assert!(!dir.path().join("run").exists(), "--dry-run does nothing");

    let harvested = json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
    assert_eq!(harvested["samples"], 60);
    let train = ["--l1", "0.05", "--lr", "0.003", "--batch", "128", "--steps", "200", "--expansion", "4"];
    let trained = json(&[&["train", "--run", run, "--hook", "layers.1", "--name", "base"], &train[..]].concat());
    assert_eq!(trained["tokens"], 200 * 128);

    let report = json(&["eval", "--run", run, "--sae", "base"]);
    let all = &report["all"];
    assert_eq!(all["tokens"], harvested["tokens"]);
    let by = &report["by_modality"];
    assert_eq!(
        by["text"]["tokens"].as_u64().unwrap() + by["image"]["tokens"].as_u64().unwrap(),
        all["tokens"].as_u64().unwrap()
    );
    assert!(all["fvu"].as_f64().unwrap() < 0.9, "{report}");

    let index = json(&["index", "--run", run]);
    let classes: u64 = index["classes"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!((classes, index["features"].as_u64()), (128, Some(128)));

    let scored = json(&["score", "--run", run]);
    assert_eq!(scored["samples"], 60);
    let columns: Vec<_> = scored["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    let modes = ["paper", "release", "corrected"];
    let expected = modes.iter().flat_map(|mode| ["cosine", "l0", "co_l0"].map(|method| format!("{method}_{mode}")));
    assert_eq!(columns, expected.chain(["cosine_mean", "pmi", "random"].map(String::from)).collect::<Vec<_>>());
    assert_eq!(scored["without"], serde_json::json!({}));
    let why = json(&["score", "--run", run, "--explain", "row-3"]);
    assert!(why["pmi"].is_f64() && why["sample"] == 3, "{why}");

    // The same answers as chosen and as rejected: no margin, whatever the score.
    let margins = json(&["score", "--run", run, "--rejected", run, "--mode", "paper"]);
    let names: Vec<_> = margins["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(names[..6], ["cosine_paper", "l0_paper", "co_l0_paper", "cosine_mean", "pmi", "random"]);
    assert!(names.contains(&"pmi_rejected") && names.contains(&"cosine_paper_margin") && names.len() == 16);
    for keep in [">=0", ">=0.0000001"] {
        let plan = ["filter", "--run", run, "--by", "pmi_margin", "--keep", keep, "--out", out, "--dry-run"];
        assert_eq!(json(&plan)["keep"], if keep == ">=0" { 60 } else { 0 });
    }
    let filter = ["filter", "--run", run, "--by", "pmi", "--keep", "25%", "--out", out, "--dropped", dropped];
    let filtered = json(&filter);
    assert_eq!((filtered["kept"]["rows"].as_u64(), filtered["dropped"].as_u64()), (Some(15), Some(45)));
    let lines = |folder: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(dir.path().join(folder).join("data/data.jsonl")).unwrap();
        text.lines().map(String::from).collect()
    };
    let (kept, gone) = (lines("out"), lines("gone"));
    let all: BTreeSet<_> = fs::read_to_string(data).unwrap().lines().map(String::from).collect();
    assert_eq!((kept.len(), gone.len()), (15, 45));
    assert_eq!(kept.union(&gone).cloned().collect::<BTreeSet<_>>(), all, "rows are copied as they stand");
    for row in &kept {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert!(dir.path().join("out/data").join(row["image"].as_str().unwrap()).exists(), "images come along");
    }

    let again = sae().args(filter).output().unwrap();
    assert!(said(&again).contains("not empty"), "an existing folder is never written over");
}
