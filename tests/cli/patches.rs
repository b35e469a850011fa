//! `sae patches`: as many patches stay as were asked for, the others are black, and every method's scores are listed.

use crate::tool::{data_set, json, sae, said, tiny_model};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The share of a picture that is black.
fn black(path: &Path) -> f64 {
    harvest::pixels::Picture::decode(&fs::read(path).unwrap()).unwrap().black_share()
}

#[test]
fn the_share_that_was_asked_for_stays_and_the_rest_is_black() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 6);
    let (model, run, out) = (tiny_model(), dir.path().join("run"), dir.path().join("dark"));
    let [model, data, run_text, out_text] = [&model, &data, &run, &out].map(|p| p.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run_text, "--layers", "1"]);
    json(&["train", "--run", run_text, "--hook", "layers.1", "--name", "base", "--steps", "60", "--batch", "64"]);
    let patches = |more: &[&'static str]| {
        [&["patches", "--run", run_text, "--model", model, "--data", data, "--out", out_text][..], more].concat()
    };
    let refused = sae().args(patches(&["--method", "cosine"])).output().unwrap();
    assert!(said(&refused).contains("hint: run `sae index` first"), "{}", said(&refused));
    json(&["index", "--run", run_text]);

    let methods = "l0,l1,co_l0,cosine,random,norm";
    let found = json(&patches(&["--method", methods, "--keep", "25%", "--threshold", "0"]));
    let images = found["images"].as_u64().unwrap();
    assert!(images >= 6);
    let lines = fs::read_to_string(out.join("patches.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u64, images * 6);
    for line in &lines {
        let patches = line["patches"].as_array().unwrap();
        let kept = patches.iter().filter(|patch| patch["kept"] == true).count();
        assert_eq!((patches.len(), kept), (16, 4), "{line}");
        let picture = out.join(line["file"].as_str().unwrap());
        let area = |patch: &&Value| {
            let rect: Vec<f64> = patch["rect"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            (rect[2] - rect[0]) * (rect[3] - rect[1])
        };
        let dark: f64 = patches.iter().filter(|patch| patch["kept"] == false).map(|patch| area(&patch)).sum();
        assert!(black(&picture) > dark - 0.06, "{} of {dark} is black: {}", black(&picture), picture.display());
    }
    assert!(out.join("sheet.png").exists());
    let again = sae().args(patches(&[])).output().unwrap();
    assert!(said(&again).contains("not empty"));
    let wrong = sae().args(patches(&["--keep", "150%"])).output().unwrap();
    assert_eq!((wrong.status.code(), said(&wrong).contains("invalid share")), (Some(2), true));
}
