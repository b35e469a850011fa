//! `sae patches`: as many patches stay as were asked for, the others are black, and every method's scores are listed; `--measure` says
//! what the patches that stay are worth.

use crate::tool::{data_set, fails, json, sae, said, tiny_model};
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

#[test]
fn patches_are_measured_by_what_the_model_makes_of_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 6);
    let rows = fs::read_to_string(&data).unwrap();
    let rows = rows.lines().zip(0..).map(|(row, n)| {
        let mut row: Value = serde_json::from_str(row).unwrap();
        row["conversations"][1]["value"] = format!("Square number {n}.").into();
        row.to_string() + "\n"
    });
    fs::write(&data, rows.collect::<String>()).unwrap();
    let (model, run, out) = (tiny_model(), dir.path().join("run"), dir.path().join("measured"));
    let [model, data, run_text, out_text] = [&model, &data, &run, &out].map(|p| p.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run_text, "--layers", "1"]);
    json(&["train", "--run", run_text, "--hook", "layers.1", "--name", "base", "--steps", "20", "--batch", "64"]);
    let patches = ["patches", "--run", run_text, "--model", model, "--data", data, "--out", out_text];
    let patches = [&patches[..], &["--method", "l0,random", "--keep", "100%,0%,50%"]].concat();
    let refused = fails(1, &patches);
    assert!(refused.contains("--measure"), "{refused}");
    let measure = [&patches[..], &["--measure"]].concat();
    // Three for the texts of others and one for the own, for both ends and for two methods in between.
    assert_eq!(json(&[&measure[..], &["--dry-run"]].concat())["passes"], 16);
    let found = json(&measure);
    let samples = found["samples"].as_u64().unwrap();
    assert!(samples >= 6);
    let points = |method: &str| found["methods"][method]["points"].as_array().unwrap().clone();
    let nll = |point: &Value| point["nll"].as_f64().unwrap();
    for method in ["l0", "random"] {
        let points = points(method);
        assert_eq!(points.iter().map(|point| point["keep"].as_f64().unwrap()).collect::<Vec<_>>(), [0.0, 0.5, 1.0]);
        let area = (nll(&points[0]) + 2.0 * nll(&points[1]) + nll(&points[2])) / 4.0;
        assert!((found["methods"][method]["nll_area"].as_f64().unwrap() - area).abs() < 1e-9);
        for point in &points {
            assert_eq!(point["judged"].as_u64(), Some(samples));
            assert!((0.0..=1.0).contains(&point["right"].as_f64().unwrap()));
        }
    }
    let (l0, random) = (points("l0"), points("random"));
    assert_eq!((&l0[0], &l0[2]), (&random[0], &random[2]), "nothing or everything is the same for all methods");
    assert_ne!(l0[1], random[1]);
    // With all patches, it is the likelihood that scoring computes.
    json(&["score", "--run", run_text, "--model", model, "--data", data]);
    let run = sae_core::Run::open(&run).unwrap();
    let scored = sae_core::store::load_samples(&run).unwrap();
    let likelihood = filters::column::read_column(&run.scores("base"), "likelihood", &scored).unwrap();
    let known: Vec<f64> = likelihood.into_iter().flatten().collect();
    let mean = -known.iter().sum::<f64>() / known.len() as f64;
    assert!((nll(&l0[2]) - mean).abs() < 1e-6, "{} {mean}", nll(&l0[2]));
    let files: Vec<_> = fs::read_dir(&out).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["measure.json"]);
}
